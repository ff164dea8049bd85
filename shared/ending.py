"""How a call can end: the closed list behind the call record, the metric label and the log field.

It does not end calls; `worker/call.py`, the dispatcher and the reaper say which of these it was.
"""

from enum import StrEnum


class CallResult(StrEnum):
    """The five ways a call can turn out."""

    COMPLETED = "completed"
    CANCELLED = "cancelled"
    REFUSED = "refused"
    FAILED = "failed"
    LOST = "lost"


class CallEnd(StrEnum):
    """Why a call ended; `result` and `sip_status` follow from it."""

    CALLER_HANGUP = "caller_hangup"
    CALLER_CANCELLED = "caller_cancelled"
    CALLER_UNREACHABLE = "caller_unreachable"
    LEASE_INVALID = "lease_invalid"
    NO_CAPACITY = "no_capacity"
    AGENT_HANGUP = "agent_hangup"
    TRANSFERRED = "transferred"
    OPERATOR_HANGUP = "operator_hangup"
    CALLER_SILENT = "caller_silent"
    LENGTH_LIMIT = "length_limit"
    SESSION_UNAUTHORIZED = "session_unauthorized"
    SESSION_FORBIDDEN = "session_forbidden"
    SESSION_NOT_FOUND = "session_not_found"
    SESSION_THROTTLED = "session_throttled"
    SESSION_REFUSED = "session_refused"
    SESSION_UNAVAILABLE = "session_unavailable"
    SESSION_LOST = "session_lost"
    INTERNAL_ERROR = "internal_error"
    WORKER_STOPPED = "worker_stopped"
    WORKER_LOST = "worker_lost"

    @property
    def result(self) -> CallResult:
        """The outcome this reason belongs to."""
        return _ENDINGS[self][0]

    @property
    def sip_status(self) -> int:
        """The final response an unanswered INVITE gets; an answered call gets a BYE instead (RFC 3261 section 21)."""
        return _ENDINGS[self][1]


_ENDINGS: dict[CallEnd, tuple[CallResult, int]] = {
    CallEnd.CALLER_HANGUP: (CallResult.COMPLETED, 200),
    CallEnd.CALLER_CANCELLED: (CallResult.CANCELLED, 487),
    CallEnd.CALLER_UNREACHABLE: (CallResult.FAILED, 408),
    CallEnd.LEASE_INVALID: (CallResult.REFUSED, 403),
    CallEnd.NO_CAPACITY: (CallResult.REFUSED, 503),
    CallEnd.AGENT_HANGUP: (CallResult.COMPLETED, 200),
    CallEnd.TRANSFERRED: (CallResult.COMPLETED, 200),
    CallEnd.OPERATOR_HANGUP: (CallResult.COMPLETED, 480),
    CallEnd.CALLER_SILENT: (CallResult.COMPLETED, 200),
    CallEnd.LENGTH_LIMIT: (CallResult.COMPLETED, 200),
    # 500, not 503: the dispatcher would try the same resource from one worker after the other.
    CallEnd.SESSION_UNAUTHORIZED: (CallResult.FAILED, 500),
    CallEnd.SESSION_FORBIDDEN: (CallResult.FAILED, 500),
    CallEnd.SESSION_NOT_FOUND: (CallResult.FAILED, 500),
    CallEnd.SESSION_THROTTLED: (CallResult.FAILED, 503),
    CallEnd.SESSION_REFUSED: (CallResult.FAILED, 500),
    CallEnd.SESSION_UNAVAILABLE: (CallResult.FAILED, 503),
    CallEnd.SESSION_LOST: (CallResult.FAILED, 503),
    CallEnd.INTERNAL_ERROR: (CallResult.FAILED, 500),
    CallEnd.WORKER_STOPPED: (CallResult.FAILED, 503),
    CallEnd.WORKER_LOST: (CallResult.LOST, 503),
}
