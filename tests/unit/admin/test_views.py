"""`admin/views.py`: that nothing of a table is lost where the terminal is narrow, and how events name resources."""

from collections import Counter

import pytest
from rich.console import Console, RenderableType

from admin import views
from admin.operations.shapes import Event
from shared.ids import CallId, LeaseId, WorkerId
from shared.messages import CallRecord

CALL = "3f9ac1d20b8e4f5a6c7d"

RECORD = CallRecord(
    call_id=CallId(CALL),
    lease_id=LeaseId("1"),
    worker_id=WorkerId("pod-a-0-3f9ac1d2"),
    result="completed",
    reason="caller_hangup",
    invite_at_ms=1_700_000_000_000,
    answered_at_ms=1_700_000_000_022,
    ended_at_ms=1_700_000_012_022,
    agent="reception",
)


def printed(view: RenderableType, width: int) -> str:
    """Returns what a terminal of this width shows."""
    console = Console(width=width, highlight=False)
    with console.capture() as capture:
        console.print(view)
    return capture.get()


@pytest.mark.parametrize("width", [80, 100, 132, 160])
def test_records_lose_no_column_and_break_no_id(width: int) -> None:
    text = printed(views.record_view([RECORD]), width)
    assert CALL in text
    assert Counter("".join(text.split())) == Counter("".join(printed(views.record_view([RECORD]), 300).split()))


def test_records_that_come_later_stand_below_their_headings() -> None:
    wide = printed(views.record_view([RECORD]), 160).splitlines()
    later = printed(views.record_view([RECORD], headings=False), 160).splitlines()
    assert len(later) == 1
    assert later[0] == wide[1]


def test_the_resource_of_the_settings_has_a_name() -> None:
    events = [
        Event.model_validate({"id": "1-0", "event": "call.started", "at_ms": 1, "resource": ""}),
        Event.model_validate({"id": "2-0", "event": "call.started", "at_ms": 2, "resource": "west"}),
    ]
    text = printed(views.event_view(events), 160)
    assert f"resource={views.OF_SETTINGS}" in text
    assert "resource=west" in text
