"""What is measured of one call: spans as soon as something is over, and metrics, most of them while it happens.

It decides nothing and touches neither side of the call; who sees something happen says so. Times are Unix time in
seconds of the session's clock. Nothing that a caller or a model has said, and no number, gets in here.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from shared.clock import steady_s
from shared.ending import CallResult
from shared.errors import UpstreamError
from shared.messages import CallRecord, Lease, Tokens
from shared.telemetry import catalogue
from shared.telemetry.catalogue import Metric
from shared.telemetry.recorder import Recorder
from shared.telemetry.trace import Span, TraceContext, Value
from worker.media.formats import BRIDGE_RATE
from worker.voicelive.memory import Turn, Usage

if TYPE_CHECKING:
    from worker.pjsip.leg import RtpStats

ONE_WAY_AFTER_S = 5.0
"""An answered call this long in which no RTP came, or none went, had audio one way at best."""

FIRST_CLOSE_CODE = 1000
"""An error's status below is HTTP's, from here on a WebSocket's (RFC 6455 section 7.4)."""

_OK = "ok"


class CallTelemetry:
    """One call's, from its INVITE to its record."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._began = steady_s()
        self._context: TraceContext | None = None
        """Of the span `call`, of which all others are children."""
        self._parent_id = ""
        self._invite_at = self._began
        self._agent = ""
        self._resource = ""
        self._connecting: dict[int, float] = {}
        """Connections that are being set up, and since when."""
        self._newest = self._began
        """Begin of the newest connection."""
        self._lost_at: float | None = None
        self._told: Turn | None = None
        """The latest turn that there is a span of."""

    @property
    def trace_id(self) -> str:
        """The call's trace, for log lines; empty without one."""
        return self._context.trace_id if self._context else ""

    # --------------------------------------------------------------------------------------------------- the SIP side

    def refused(self) -> None:
        """The call was not admitted."""
        self._note(catalogue.LEASES, outcome="refused")

    def admitted(self, lease: Lease) -> None:
        """The call's lease is claimed."""
        self._invite_at = lease.invite_at_ms / 1000
        self._note(catalogue.LEASES, outcome="provisional" if lease.provisional else "claimed")
        if (above := TraceContext.parse(lease.traceparent)) is not None:
            self._context, self._parent_id = above.child(), above.span_id
        self._span("admit", self._began)

    def assigned(self, agent: str, resource: str) -> None:
        """An agent answers, at a resource."""
        self._agent, self._resource = agent, resource

    def answered(self) -> None:
        """The call is answered."""
        # The INVITE's time is another machine's: clocks differ by some ms.
        self._note(catalogue.CALL_SETUP, max(0.0, steady_s() - self._invite_at), agent=self._agent)

    def transferred(self, since: float, status: int) -> None:
        """A transfer is over, with the final SIP status of its REFER."""
        failed = not 200 <= status < 300
        self._note(catalogue.TRANSFERS, outcome="failed" if failed else _OK)
        self._span("transfer", since, failed=failed, status=status)

    # ------------------------------------------------------------------------------------------------- the connections

    def connecting(self, connection: int) -> None:
        """A connection is being opened."""
        self._connecting[connection] = self._newest = steady_s()

    def connected(self, connection: int) -> None:
        """Its session is ready."""
        since = self._connecting.pop(connection, None)
        if since is None:
            return
        self._note(catalogue.VOICELIVE_CONNECTIONS, resource=self._resource, outcome=_OK)
        self._note(catalogue.VOICELIVE_CONNECT, steady_s() - since, resource=self._resource)
        self._span("connect", since, resource=self._resource)

    def disconnected(self, connection: int, error: UpstreamError) -> None:
        """A connection is gone that was wanted, or could not be opened."""
        since = self._connecting.pop(connection, None)
        if since is None:
            self._note(catalogue.VOICELIVE_CONNECTIONS, resource=self._resource, outcome="lost")
            return
        refused = error.status is not None and error.status < FIRST_CLOSE_CODE
        outcome = "refused" if refused else "failed"
        self._note(catalogue.VOICELIVE_CONNECTIONS, resource=self._resource, outcome=outcome)
        self._span("connect", since, failed=True, resource=self._resource, status=error.status or 0)

    def left(self, connection: int) -> None:
        """A connection is wanted no more."""
        self._connecting.pop(connection, None)

    def _resumed(self) -> None:
        """Another connection has the caller's audio: after a loss, or before it came to that."""
        if self._lost_at is not None:
            self._note(catalogue.VOICELIVE_RECONNECTS, resource=self._resource)
            self._span("reconnect", self._lost_at)
            self._lost_at = None
        else:
            self._note(catalogue.VOICELIVE_ROLLOVERS, resource=self._resource)
            self._span("rollover", self._newest)

    def spent(self, usage: Usage) -> None:
        """A response took tokens."""
        for kind in Tokens.__dataclass_fields__:
            if tokens := getattr(usage, kind):
                self._note(catalogue.TOKENS, tokens, model=usage.model, kind=kind)

    # ------------------------------------------------------------------------------------------------ the conversation

    def marked(self, name: str, heard_at: float) -> None:
        """The session has set a mark, because of something that was heard of at `heard_at`."""
        match name:
            case "barge_in":
                self._barged_in(heard_at)
            case "connection_lost":
                self._lost_at = steady_s()
            case "session_resumed":
                self._resumed()

    def _barged_in(self, heard_at: float) -> None:
        # The playout has just been dropped.
        self._note(catalogue.BARGE_INS, agent=self._agent)
        self._note(catalogue.BARGE_IN_REACTION, max(0.0, steady_s() - heard_at))

    def turn_over(self, turn: Turn) -> None:
        """The answer of a turn has been heard, or what was heard of it; saying it again changes nothing."""
        if turn is self._told or turn.first_packet is None:
            return
        self._told = turn
        begin = turn.speech_stopped if turn.speech_end is None else turn.speech_end
        latency = max(0.0, turn.first_packet - begin)
        if turn.speech_end is not None:
            self._note(catalogue.TURN_LATENCY, latency, agent=self._agent)
        if turn.first_audio is not None:
            service = max(0.0, turn.first_audio - turn.speech_stopped)
            self._note(catalogue.TURN_SERVICE_LATENCY, service, agent=self._agent)
        self._span("turn", begin, latency_ms=round(1000 * latency), barged_in=turn.barged_in)

    def tool_over(self, name: str, since: float, *, failed: bool) -> None:
        """A tool of the agent's has run."""
        outcome = "failed" if failed else _OK
        self._note(catalogue.TOOL_DURATION, steady_s() - since, tool=name, outcome=outcome)
        self._span("tool", since, failed=failed, name=name)

    # --------------------------------------------------------------------------------------------------------- its end

    def audio_over(self, counters: Mapping[str, int], bytes_per_ms: int) -> None:
        """The call's audio has ended (`Conversation.counters`), which had so many bytes per ms on the WebSocket."""
        self._count(catalogue.AUDIO_UNDERRUNS, counters["underruns"])
        uplink_s = counters["uplink_dropped"] / BRIDGE_RATE + counters["uplink_dropped_bytes"] / bytes_per_ms / 1000
        self._count(catalogue.AUDIO_DROPPED, uplink_s, direction="uplink")
        downlink_s = counters["downlink_dropped_bytes"] / bytes_per_ms / 1000
        self._count(catalogue.AUDIO_DROPPED, downlink_s, direction="downlink")
        self._count(catalogue.VOICELIVE_ERRORS, counters["session_errors"], resource=self._resource)

    def ended(self, record: CallRecord, rtp: "RtpStats") -> None:
        """The call is over, and has left `record`."""
        self._note(catalogue.CALLS, result=record.result, reason=record.reason, agent=record.agent)
        if record.answered_at_ms is not None:
            lasted_s = (record.ended_at_ms - record.answered_at_ms) / 1000
            self._note(catalogue.CALL_DURATION, lasted_s, agent=record.agent)
            self._hearable(rtp, lasted_s)
        self._count(catalogue.COST, record.cost or 0.0, currency=record.currency, model=record.model)
        failed = record.result in (CallResult.FAILED, CallResult.LOST)
        self._span("call", self._began, failed=failed, agent=record.agent, result=record.result, reason=record.reason)

    def _hearable(self, rtp: "RtpStats", lasted_s: float) -> None:
        for direction, packets in (("received", rtp.received), ("sent", rtp.sent)):
            self._count(catalogue.RTP_PACKETS, packets, direction=direction)
            if not packets and lasted_s > ONE_WAY_AFTER_S:
                self._note(catalogue.CALLS_ONE_WAY, missing=direction)
        self._count(catalogue.RTP_PACKETS, rtp.lost, direction="lost")
        if rtp.received:
            self._note(catalogue.RTP_JITTER, rtp.jitter_s)

    def _note(self, metric: Metric, value: float = 1.0, **attributes: str) -> None:
        self._recorder.note(metric, value, **attributes)

    def _count(self, metric: Metric, value: float, **attributes: str) -> None:
        if value:
            self._recorder.note(metric, value, **attributes)

    def _span(self, what: str, since: float, *, failed: bool = False, **attributes: Value) -> None:
        """Keeps a span that ends now, if the call is traced."""
        call = self._context
        if call is None or not call.sampled:
            return
        context, parent_id = (call, self._parent_id) if what == "call" else (call.child(), call.span_id)
        end = steady_s()
        self._recorder.span(Span(context, parent_id, what, _ns(since), _ns(end), attributes, failed))


def _ns(at: float) -> int:
    return round(at * 1e9)
