"""What becomes of what happens: metrics and spans; and what a dispatcher says of itself before it serves."""

import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import replace
from typing import cast

import pytest
from structlog.testing import capture_logs

from dispatcher import telemetry
from dispatcher.placing import Left, Refused
from dispatcher.sip.actions import Dispatched, Place, Report
from dispatcher.sip.message import Request, parse
from dispatcher.sip.trace import CallTrace, Traces
from dispatcher.telemetry import Notes, Telemetry
from shared.control.connection import Outcome
from shared.errors import ConfigError
from shared.ids import CallId
from shared.settings import DispatcherSettings
from shared.telemetry.recorder import Recorder
from shared.telemetry.trace import Span
from tests.unit.dispatcher.ladder import SECRET, invite, offer_of

CALL = CallId("0123456789abcdef0123")
INVITE = cast(Request, parse(invite()))
TRACE = Traces(1.0).of(INVITE, CALL)
UNSAMPLED = Traces(0.0).of(INVITE, CALL)

ANSWERED = Dispatched(CALL, TRACE, 1000.0, 200, "", 1, False)
PLACE = Place(1, CALL, "192.0.2.10", 1000.0, 2, frozenset(), None, False, INVITE, TRACE)


class Desk:
    """Notes, and what they say."""

    def __init__(self, *, spans: bool = True) -> None:
        self.recorder = Recorder()
        self.notes = Notes(self.recorder, spans=spans)

    def points(self) -> dict[str, list[tuple[dict[str, str], tuple[float, ...]]]]:
        """Returns what was noted: attributes and values by metric, without the prefix that all have."""
        found: dict[str, list[tuple[dict[str, str], tuple[float, ...]]]] = {}
        for point in self.recorder.take().points:
            found.setdefault(point.name.removeprefix("voicepool."), []).append((dict(point.attributes), point.values))
        return found

    def span(self) -> Span:
        """Returns the only span."""
        [span] = self.recorder.take().spans
        return span


@pytest.mark.parametrize(
    ("status", "reason", "outcome"),
    [
        (200, "", "placed"),
        (302, "", "placed"),
        (487, "caller_cancelled", "cancelled"),
        (503, "no_capacity", "refused"),
        (486, "worker_refused", "refused"),
    ],
)
def test_a_call_counts_once_by_what_came_of_it(status: int, reason: str, outcome: str) -> None:
    desk = Desk()
    desk.notes.dispatched(replace(ANSWERED, status=status, reason=reason), 1002.5)
    points = desk.points()
    assert points.pop("dispatch.calls") == [({"outcome": outcome}, (1.0,))]
    refusals = [({"status": str(status), "reason": reason}, (1.0,))]
    assert points == ({"dispatch.refusals": refusals} if outcome == "refused" else {})


def test_a_call_left_to_another_replica_counts_there() -> None:
    desk = Desk()
    desk.notes.dispatched(replace(ANSWERED, status=0, reason="taken"), 1002.5)
    assert desk.points() == {}


def test_a_call_refused_without_a_look_counts_too() -> None:
    desk = Desk()
    desk.notes.reported(Report("sip.call_refused", {"source": "192.0.2.10", "status": 503, "reason": "draining"}))
    assert desk.points() == {
        "dispatch.calls": [({"outcome": "refused"}, (1.0,))],
        "dispatch.refusals": [({"status": "503", "reason": "draining"}, (1.0,))],
    }


def test_the_time_to_the_first_worker_is_measured_and_that_to_further_ones_is_not() -> None:
    desk = Desk()
    for attempt in (1, 2):
        desk.notes.reported(Report("call.placed", {"call_id": CALL, "attempt": attempt, "ms": 7}))
    assert desk.points() == {"dispatch.duration": [({}, (0.007,))]}


def test_what_redis_is_asked_for_and_callers_who_are_told_bye_are_noted() -> None:
    desk = Desk()
    desk.notes.asked_redis("lease_acquire", Outcome.OK, 0.001)
    desk.notes.asked_redis("lease_acquire", Outcome.OK, 0.002)
    desk.notes.asked_redis("lease_acquire", Outcome.TIMEOUT, 1.0)
    desk.notes.orphaned()
    assert desk.points() == {
        "redis.duration": [
            ({"operation": "lease_acquire", "outcome": "ok"}, (0.001, 0.002)),
            ({"operation": "lease_acquire", "outcome": "timeout"}, (1.0,)),
        ],
        "dispatch.orphans": [({}, (1.0,))],
    }


def test_the_span_of_a_call_lasts_from_its_invite_to_its_answer() -> None:
    desk = Desk()
    trace = CallTrace(TRACE.context, "00f067aa0ba902b7")
    before_ns = time.time_ns()
    desk.notes.dispatched(replace(ANSWERED, trace=trace, status=503, reason="no_quota", waited=True), 1002.5)
    span = desk.span()
    assert (span.name, span.kind, span.context, span.parent_id) == (
        "dispatch",
        "server",
        TRACE.context,
        trace.parent_id,
    )
    assert span.end_ns - span.start_ns == 2_500_000_000
    assert before_ns <= span.end_ns <= time.time_ns()
    assert span.failed
    assert span.attributes == {
        "call_id": CALL, "outcome": "refused", "status": 503, "reason": "no_quota", "attempts": 1, "waited": True,
    }  # fmt: skip


def test_an_answer_is_no_failure() -> None:
    desk = Desk()
    desk.notes.dispatched(ANSWERED, 1000.1)
    assert not desk.span().failed


@pytest.mark.parametrize(
    ("came_of_it", "outcome", "reason", "provisional"),
    [
        (offer_of("w1", CALL), "offered", "", False),
        (offer_of("w1", CALL, provisional=True), "offered", "", True),
        (Refused("no_capacity"), "refused", "no_capacity", False),
        (Left(), "taken", "", False),
    ],
)
def test_the_span_of_a_lease_is_a_child_of_that_of_its_call(
    came_of_it: object, outcome: str, reason: str, provisional: bool
) -> None:
    desk = Desk()
    desk.notes.leased(PLACE, came_of_it, 5)  # type: ignore[arg-type]
    span = desk.span()
    assert (span.name, span.parent_id, span.start_ns) == ("lease", TRACE.context.span_id, 5)
    assert span.context.trace_id == TRACE.context.trace_id
    assert span.context.span_id != TRACE.context.span_id
    assert span.attributes == {"outcome": outcome, "reason": reason, "attempt": 2, "provisional": provisional}


@pytest.mark.parametrize(("trace", "spans"), [(UNSAMPLED, True), (TRACE, False)])
def test_a_call_that_is_not_sampled_or_sent_to_nobody_has_no_spans_but_counts(trace: CallTrace, spans: bool) -> None:
    desk = Desk(spans=spans)
    desk.notes.leased(replace(PLACE, trace=trace), Refused("no_capacity"), 5)
    desk.notes.dispatched(replace(ANSWERED, trace=trace), 1000.1)
    batch = desk.recorder.take()
    assert batch.spans == []
    assert [point.name for point in batch.points] == ["voicepool.dispatch.calls"]


def test_where_nobody_is_shown_anything_no_exporter_is_even_loaded() -> None:
    code = (
        "import sys, dispatcher.__main__; from dispatcher.telemetry import Telemetry; "
        "from shared.settings import DispatcherSettings; "
        f"Telemetry(DispatcherSettings(_env_file=None, lease_secret={SECRET!r})).close(); "
        "print(sys.modules.keys() & {'opentelemetry.exporter', 'opentelemetry.sdk.trace', 'prometheus_client'})"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == "set()\n"


def test_before_it_listens_it_lives_and_is_not_ready() -> None:
    with capture_logs() as lines:
        shown = Telemetry(settings(telemetry_port=0))
    [line] = lines
    assert line["event"] == "telemetry.listening"
    try:
        assert asked(line["port"], "/livez") == (200, "ok\n")
        assert asked(line["port"], "/readyz") == (503, "starting\n")
        with pytest.raises(ConfigError, match="TELEMETRY_PORT"):
            Telemetry(settings(telemetry_port=line["port"]))
    finally:
        shown.close()


def test_a_loop_that_does_not_turn_is_neither_alive_nor_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "STUCK_S", 0.0)
    with capture_logs() as lines:
        shown = Telemetry(settings(telemetry_port=0))
    try:
        for path in ("/livez", "/readyz"):
            assert asked(lines[0]["port"], path) == (503, "the event loop has not turned for 0 s\n")
    finally:
        shown.close()


def settings(**given: object) -> DispatcherSettings:
    return DispatcherSettings(_env_file=None, lease_secret=SECRET, **given)  # type: ignore[call-arg, arg-type]


def asked(port: int, path: str) -> tuple[int, str]:
    """Returns status and text of an answer."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
