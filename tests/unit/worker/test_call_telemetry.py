"""What is measured of one call: its spans, and the metrics that come of it."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from shared.clock import steady_s
from shared.ending import CallEnd
from shared.errors import UpstreamError
from shared.ids import CallId, LeaseId, WorkerId
from shared.messages import CallRecord, Lease
from shared.telemetry import catalogue
from shared.telemetry.catalogue import METRICS, Metric
from shared.telemetry.recorder import Recorder
from shared.telemetry.trace import Span, TraceContext
from worker.call_telemetry import CallTelemetry
from worker.pjsip.leg import RtpStats
from worker.voicelive.memory import Turn, Usage

ABOVE = TraceContext("a" * 32, "b" * 16, True)
COUNTERS = {
    "underruns": 2,
    "uplink_dropped": 8_000,
    "uplink_dropped_bytes": 4_000,
    "downlink_dropped_bytes": 1_600,
    "session_errors": 1,
}
RTP = RtpStats(received=500, lost=5, sent=480, jitter_s=0.004)


def lease(traceparent: str = str(ABOVE), *, provisional: bool = False) -> Lease:
    return Lease(
        lease_id=LeaseId("l"),
        call_id=CallId("c"),
        worker_id=WorkerId("w"),
        offered_at_ms=1,
        invite_at_ms=round(1000 * steady_s()) - 250,
        provisional=provisional,
        traceparent=traceparent,
    )


def record(end: CallEnd = CallEnd.CALLER_HANGUP, *, lasted_s: float | None = 60.0) -> CallRecord:
    return CallRecord(
        call_id=CallId("c"),
        lease_id=LeaseId("l"),
        worker_id=WorkerId("w"),
        result=end.result,
        reason=end,
        invite_at_ms=1_000,
        answered_at_ms=None if lasted_s is None else 2_000,
        ended_at_ms=2_000 + round(1000 * (lasted_s or 0.0)),
        agent="desk",
        model="gpt",
        cost=0.25,
        currency="EUR",
    )


class Observed:
    """A call that is measured, and what has come of it so far."""

    def __init__(self, traceparent: str = str(ABOVE)) -> None:
        self.recorder = Recorder()
        self.call = CallTelemetry(self.recorder)
        self.call.admitted(lease(traceparent))
        self.call.assigned("desk", "west")
        self._spans: list[Span] = []
        self._points: dict[tuple[str, ...], tuple[float, ...]] = {}

    def _take(self) -> None:
        batch = self.recorder.take()
        self._spans += batch.spans
        for point in batch.points:
            key = (point.name, *(value for _, value in point.attributes))
            self._points[key] = (*self._points.get(key, ()), *point.values)

    @property
    def spans(self) -> list[Span]:
        self._take()
        return self._spans

    def span(self, name: str) -> Span:
        [found] = [span for span in self.spans if span.name == name]
        return found

    def values(self, metric: Metric, *attributes: str) -> tuple[float, ...]:
        self._take()
        return self._points.get((metric.name, *attributes), ())


@pytest.fixture
def observed() -> Iterator[Observed]:
    yield Observed()


def test_the_call_is_under_the_dispatchers_span_and_all_else_under_the_call(observed: Observed) -> None:
    observed.call.connecting(1)
    observed.call.connected(1)
    observed.call.ended(record(), RTP)
    call = observed.span("call")
    assert (call.context.trace_id, call.parent_id) == (ABOVE.trace_id, ABOVE.span_id)
    assert {span.parent_id for span in observed.spans if span is not call} == {call.context.span_id}
    assert len({span.context.span_id for span in observed.spans}) == len(observed.spans)


@pytest.mark.parametrize("traceparent", ["", "nonsense", str(replace(ABOVE, sampled=False))])
def test_a_call_that_is_not_traced_has_metrics_and_no_spans(traceparent: str) -> None:
    observed = Observed(traceparent)
    observed.call.ended(record(), RTP)
    assert observed.spans == []
    assert observed.values(catalogue.CALLS, "completed", "caller_hangup", "desk") == (1.0,)
    assert observed.call.trace_id == (ABOVE.trace_id if traceparent.startswith("00") else "")


def test_a_turn_is_told_once_when_its_answer_was_heard(observed: Observed) -> None:
    turn = Turn(speech_stopped=100.5, speech_end=100.0, first_audio=100.8)
    observed.call.turn_over(turn)
    assert observed.values(catalogue.TURN_LATENCY, "desk") == (), "nothing has been heard of its answer"
    turn.first_packet = 100.875
    turn.barged_in = True
    observed.call.turn_over(turn)
    observed.call.turn_over(turn)
    assert observed.values(catalogue.TURN_LATENCY, "desk") == (0.875,)
    assert observed.values(catalogue.TURN_SERVICE_LATENCY, "desk")[0] == pytest.approx(0.3)
    span = observed.span("turn")
    assert (span.start_ns, span.attributes) == (100_000_000_000, {"latency_ms": 875, "barged_in": True})


def test_connections_are_ok_refused_failed_or_lost(observed: Observed) -> None:
    call = observed.call
    for connection, error in (
        (1, UpstreamError("", status=503)),
        (2, UpstreamError("")),
        (3, UpstreamError("", status=1006)),
    ):
        call.connecting(connection)
        call.disconnected(connection, error)
    call.connecting(4)
    call.connected(4)
    call.disconnected(4, UpstreamError("", status=1006))
    call.connecting(5)
    call.left(5)
    counted = {
        outcome: sum(observed.values(catalogue.VOICELIVE_CONNECTIONS, "west", outcome))
        for outcome in ("ok", "refused", "failed", "lost")
    }
    assert counted == {"ok": 1, "refused": 1, "failed": 2, "lost": 1}
    assert [span.failed for span in observed.spans if span.name == "connect"] == [True, True, True, False]
    assert len(observed.values(catalogue.VOICELIVE_CONNECT, "west")) == 1


def test_a_connection_that_takes_over_is_a_reconnect_after_a_loss_and_a_rollover_without(observed: Observed) -> None:
    observed.call.marked("connection_lost", 0.0)
    observed.call.marked("session_resumed", 0.0)
    observed.call.marked("session_resumed", 0.0)
    assert observed.values(catalogue.VOICELIVE_RECONNECTS, "west") == (1.0,)
    assert observed.values(catalogue.VOICELIVE_ROLLOVERS, "west") == (1.0,)
    assert [span.name for span in observed.spans] == ["admit", "reconnect", "rollover"]


def test_an_answered_call_leaves_what_its_record_and_its_audio_say(observed: Observed) -> None:
    observed.call.answered()
    observed.call.audio_over(COUNTERS, bytes_per_ms=8)
    observed.call.ended(record(), RTP)
    assert observed.values(catalogue.CALL_SETUP, "desk")[0] >= 0.249  # the INVITE came in a whole ms
    assert observed.values(catalogue.CALL_DURATION, "desk") == (60.0,)
    assert observed.values(catalogue.AUDIO_UNDERRUNS) == (2.0,)
    assert observed.values(catalogue.AUDIO_DROPPED, "uplink") == (1.5,)
    assert observed.values(catalogue.AUDIO_DROPPED, "downlink") == (0.2,)
    assert observed.values(catalogue.VOICELIVE_ERRORS, "west") == (1.0,)
    assert observed.values(catalogue.COST, "EUR", "gpt") == (0.25,)
    packets = {way: observed.values(catalogue.RTP_PACKETS, way) for way in ("received", "sent", "lost")}
    assert packets == {"received": (500.0,), "sent": (480.0,), "lost": (5.0,)}
    assert observed.values(catalogue.RTP_JITTER) == (0.004,)


@pytest.mark.parametrize(
    ("rtp", "lasted_s", "missing"),
    [
        (RtpStats(sent=400), 60.0, ["received"]),
        (RtpStats(received=400), 60.0, ["sent"]),
        (RtpStats(), 60.0, ["received", "sent"]),
        (RTP, 60.0, []),
        (RtpStats(), 4.0, []),
        (RtpStats(), None, []),
    ],
)
def test_audio_that_went_one_way_is_counted_after_five_seconds(
    observed: Observed, rtp: RtpStats, lasted_s: float | None, missing: list[str]
) -> None:
    observed.call.ended(record(lasted_s=lasted_s), rtp)
    assert [way for way in ("received", "sent") if observed.values(catalogue.CALLS_ONE_WAY, way)] == missing


@pytest.mark.parametrize(
    ("end", "failed"), [(CallEnd.CALLER_HANGUP, False), (CallEnd.CALLER_CANCELLED, False), (CallEnd.SESSION_LOST, True)]
)
def test_the_call_failed_where_its_record_says_so(observed: Observed, end: CallEnd, failed: bool) -> None:
    observed.call.ended(record(end), RTP)
    span = observed.span("call")
    assert (span.failed, span.attributes["reason"]) == (failed, end.value)


def test_tokens_are_counted_as_they_are_taken(observed: Observed) -> None:
    observed.call.spent(Usage("r", 1.0, "gpt", input_audio=30, cached_audio=10, output_text=5))
    kinds = ("input_text", "input_audio", "cached_audio", "output_text")
    assert [observed.values(catalogue.TOKENS, "gpt", kind) for kind in kinds] == [(), (30.0,), (10.0,), (5.0,)]


def test_tools_and_transfers_have_an_outcome(observed: Observed) -> None:
    observed.call.tool_over("order_status", steady_s(), failed=True)
    observed.call.transferred(steady_s(), 486)
    assert len(observed.values(catalogue.TOOL_DURATION, "order_status", "failed")) == 1
    assert observed.values(catalogue.TRANSFERS, "failed") == (1.0,)
    assert observed.span("tool").attributes == {"name": "order_status"}
    assert observed.span("transfer").attributes == {"status": 486}


@pytest.mark.parametrize(("provisional", "outcome"), [(False, "claimed"), (True, "provisional")])
def test_leases_are_counted_by_what_became_of_them(provisional: bool, outcome: str) -> None:
    notes = Recorder()
    CallTelemetry(notes).admitted(lease("", provisional=provisional))
    CallTelemetry(notes).refused()
    assert [point.attributes for point in notes.take().points] == [(("outcome", outcome),), (("outcome", "refused"),)]


def test_every_metric_has_the_attributes_of_the_catalogue(observed: Observed) -> None:
    call = observed.call
    call.answered()
    call.connecting(1)
    call.connected(1)
    call.disconnected(1, UpstreamError(""))
    call.marked("connection_lost", 0.0)
    call.marked("session_resumed", 0.0)
    call.marked("session_resumed", 0.0)
    call.spent(Usage("r", 1.0, "gpt", input_audio=30))
    call.marked("barge_in", steady_s())
    call.turn_over(Turn(1.5, 1.0, 1.8, 1.9))
    call.tool_over("tool", steady_s(), failed=False)
    call.transferred(steady_s(), 200)
    call.audio_over(COUNTERS, 8)
    call.ended(record(), RtpStats(sent=1))
    points = observed.recorder.take().points
    assert len({point.name for point in points}) > 20
    for point in points:
        mine = {name for name, _ in point.attributes}
        assert mine == set(METRICS[point.name].attributes) - {"worker"}, point.name
