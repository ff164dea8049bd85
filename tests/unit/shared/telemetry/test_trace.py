"""The W3C trace context: what is taken from a header, what is made, what is a child."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.telemetry.trace import TraceContext

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(("flags", "sampled"), [("00", False), ("01", True), ("03", True), ("02", False)])
def test_a_traceparent_says_trace_span_and_whether_it_is_sampled(flags: str, sampled: bool) -> None:
    assert TraceContext.parse(f"00-{TRACE}-{SPAN}-{flags}") == TraceContext(TRACE, SPAN, sampled)


def test_a_later_version_may_have_more_fields() -> None:
    assert TraceContext.parse(f"01-{TRACE}-{SPAN}-01-more") == TraceContext(TRACE, SPAN, True)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01x",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-٠١",  # noqa: RUF001
    ],
)
def test_what_is_no_traceparent_is_none(value: str) -> None:
    assert TraceContext.parse(value) is None


@given(st.text(max_size=80))
def test_no_text_is_too_strange(value: str) -> None:
    context = TraceContext.parse(value)
    assert context is None or TraceContext.parse(str(context)) == context


def test_a_child_is_in_the_same_trace_and_has_an_id_of_its_own() -> None:
    parent = TraceContext(TRACE, SPAN, True)
    child = parent.child()
    assert (child.trace_id, child.sampled) == (TRACE, True)
    assert child.span_id != SPAN
    assert TraceContext.parse(str(child)) == child
