"""The trace of a call: its id, who is sampled, and how it goes on to the worker."""

from typing import cast

import pytest

from dispatcher.sip.call import call_id_of
from dispatcher.sip.message import Request, parse
from dispatcher.sip.trace import CallTrace, Traces
from shared.telemetry.trace import TraceContext
from tests.unit.dispatcher.ladder import CALLER, PROXY, SECOND, SHARED, Stage, header_of, invite, request, response

TRACE_ID, SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"


def trace_of(data: bytes, ratio: float = 1.0) -> CallTrace:
    read = cast(Request, parse(data))
    return Traces(ratio).of(read, call_id_of(read))


def forwarded(stage: Stage, data: bytes | None = None) -> bytes:
    """Sends an INVITE, has it placed and returns what the worker gets."""
    stage.send(data or invite())
    stage.place("w1")
    return stage.one("w1")


def test_every_replica_gives_the_same_call_the_same_trace_and_a_span_of_its_own() -> None:
    first, second = trace_of(invite()), trace_of(invite(branch="z9hG4bKother"))
    assert first.context.trace_id == second.context.trace_id
    assert first.context.span_id != second.context.span_id
    assert first.parent_id == ""


def test_a_trace_that_begins_here_is_found_by_the_id_of_its_call() -> None:
    read = cast(Request, parse(invite()))
    trace_id = trace_of(invite()).context.trace_id
    assert trace_id.startswith(call_id_of(read))
    assert TraceContext.parse(f"00-{trace_id}-{SPAN_ID}-01")


def test_other_calls_have_other_traces() -> None:
    ids = {trace_of(invite(call_id=f"call-{number}")).context.trace_id for number in range(100)}
    assert len(ids) == 100


@pytest.mark.parametrize(("ratio", "least", "most"), [(0.0, 0, 0), (0.25, 150, 350), (1.0, 1000, 1000)])
def test_the_ratio_is_that_of_the_calls_sampled(ratio: float, least: int, most: int) -> None:
    sampled = [trace_of(invite(call_id=f"call-{number}"), ratio).context.sampled for number in range(1000)]
    assert least <= sum(sampled) <= most


@pytest.mark.parametrize("ratio", [0.0, 1.0])
@pytest.mark.parametrize("flags", ["00", "01"])
def test_a_trace_of_the_caller_goes_on_and_is_sampled_if_he_does(ratio: float, flags: str) -> None:
    trace = trace_of(invite(headers=(f"traceparent: 00-{TRACE_ID}-{SPAN_ID}-{flags}",)), ratio)
    assert (trace.context.trace_id, trace.parent_id) == (TRACE_ID, SPAN_ID)
    assert trace.context.sampled == (flags == "01")


@pytest.mark.parametrize("value", ["", "nonsense", f"00-{'0' * 32}-{SPAN_ID}-01", f"{TRACEPARENT}-more", "\xff"])
def test_a_traceparent_that_is_none_is_not_gone_by(value: str) -> None:
    trace = trace_of(invite(headers=(f"Traceparent: {value}",)))
    assert trace.parent_id == ""
    assert trace.context.trace_id == trace_of(invite()).context.trace_id


def test_the_worker_gets_one_traceparent_that_of_its_lease() -> None:
    stage = Stage(trace_ratio=1.0)
    data = forwarded(stage, invite(headers=(f"traceparent: {TRACEPARENT}",)))
    assert data.lower().count(b"traceparent:") == 1
    sent = TraceContext.parse(header_of(data, "Traceparent"))
    assert sent
    assert (sent.trace_id, sent.sampled) == (TRACE_ID, True)
    assert sent.span_id != SPAN_ID


def test_who_offers_the_lease_of_another_replica_sends_its_traceparent() -> None:
    first, second = Stage(trace_ratio=1.0), Stage(address=SECOND, trace_ratio=1.0)
    sent = header_of(forwarded(first), "Traceparent")
    second.send(invite())
    second.place("w1", traceparent=sent)
    assert header_of(second.one("w1"), "Traceparent") == sent


def test_a_retransmission_is_sent_on_as_the_same_bytes() -> None:
    stage = Stage(trace_ratio=1.0)
    first = forwarded(stage)
    stage.wait(0.6)
    assert stage.take("w1") == [first]


def test_requests_in_the_dialog_keep_what_they_came_with() -> None:
    stage = Stage(trace_ratio=1.0)
    worker_got = forwarded(stage)
    stage.worker_sends("w1", response(worker_got, 200, headers=("Contact: <sip:10.0.1.1:5070>",)))
    route = f"Route: {header_of(stage.take(CALLER)[-1], 'Record-Route')}"
    stage.send(
        request(
            "BYE",
            "sip:10.0.1.1:5070",
            branch="z9hG4bKbye",
            to_tag="worker",
            cseq=2,
            headers=(route, f"Traceparent: {TRACEPARENT}"),
        )
    )
    assert header_of(stage.take("w1")[-1], "Traceparent") == TRACEPARENT


def test_reports_about_a_call_say_its_trace() -> None:
    stage = Stage(trace_ratio=1.0)
    data = forwarded(stage)
    stage.worker_sends("w1", response(data, 486))
    about_calls = [report for report in stage.reports if "call_id" in report.fields]
    assert [report.event for report in about_calls] == ["sip.incoming_call", "call.placed", "call.refused"]
    assert {report.fields["trace_id"] for report in about_calls} == {trace_of(invite()).context.trace_id}


def came_of(stage: Stage) -> tuple[int, str, int, bool]:
    """Returns what the only call came to: status, reason, attempts, and whether it waited."""
    [done] = stage.dispatched
    return done.status, done.reason, done.attempts, done.waited


def test_an_answered_call_is_told_once_with_its_first_answer() -> None:
    stage = Stage()
    data = forwarded(stage)
    stage.worker_sends("w1", response(data, 180))
    assert stage.dispatched == []
    for _ in range(3):
        stage.worker_sends("w1", response(data, 200))
    assert came_of(stage) == (200, "", 1, False)
    assert stage.dispatched[0].invite_at == 1000.0


def test_a_call_that_waited_and_went_to_a_second_worker_says_so() -> None:
    stage = Stage()
    stage.send(invite())
    stage.waiting()
    stage.place("w1")
    stage.worker_sends("w1", response(stage.one("w1"), 503))
    stage.place("w2")
    stage.worker_sends("w2", response(stage.one("w2"), 200))
    assert came_of(stage) == (200, "", 2, True)


def test_a_call_without_room_and_one_whose_caller_has_gone() -> None:
    full, left = Stage(), Stage()
    for stage in (full, left):
        stage.send(invite())
    full.no_room()
    left.send(request("CANCEL"))
    assert came_of(full) == (503, "no_capacity", 1, False)
    assert came_of(left) == (487, "caller_cancelled", 1, False)


def test_a_redirected_call_is_over_with_its_302() -> None:
    stage = Stage(redirect=True)
    stage.send(invite())
    stage.place("w1")
    assert came_of(stage) == (302, "", 1, False)


def test_a_call_that_another_replica_has_is_left_to_it() -> None:
    stage = Stage(address=PROXY, shared=SHARED)
    stage.send(invite())
    stage.taken()
    stage.wait(60)
    assert came_of(stage) == (0, "taken", 1, False)


def test_messages_are_counted_both_ways() -> None:
    stage = Stage()
    stage.send(b"\r\n\r\n")
    stage.send(b"nonsense")
    assert stage.proxy.messages == (0, 0)
    data = forwarded(stage)
    stage.worker_sends("w1", response(data, 486))
    assert stage.proxy.messages == (2, 3)  # INVITE and 486; INVITE, ACK and 486
