"""The trace of a call: continued from its caller's, or begun, and then alike on every replica (W3C Trace Context).

It exports nothing and keeps nothing: whoever sees a copy of the INVITE comes to the same trace id, and to the same
decision whether the call is sampled.
"""

from dataclasses import dataclass
from hashlib import blake2b

from dispatcher.sip.message import Request
from shared.ids import CallId
from shared.telemetry.trace import HEADER, TraceContext

_KEY = HEADER.lower().encode()

_NO_SPAN = "0" * 16


@dataclass(frozen=True, slots=True)
class CallTrace:
    """The span that is what this replica does for a call."""

    context: TraceContext
    parent_id: str
    """Span id of what its caller does; empty when the trace begins here."""


class Traces:
    """Gives each call its trace."""

    def __init__(self, ratio: float) -> None:
        """`ratio` (0 to 1) of the calls whose trace begins here are sampled; of the others their caller says it."""
        self._sampled_below = int(ratio * 2**64)

    def of(self, request: Request, call_id: CallId) -> CallTrace:
        """Returns the trace of the call that an INVITE starts, with a new span for this replica.

        A trace that begins here has an id that begins with that of the call.
        """
        given = request.first.get(_KEY)
        caller = TraceContext.parse(given.decode("ascii", "replace")) if given else None
        if caller:
            return CallTrace(caller.child(), caller.span_id)
        trace_id = call_id + blake2b(call_id.encode(), digest_size=6).hexdigest()
        sampled = int(trace_id[16:], 16) < self._sampled_below  # by the lower half, as OpenTelemetry's samplers do
        return CallTrace(TraceContext(trace_id, _NO_SPAN, sampled).child(), "")
