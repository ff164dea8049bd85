"""Every state of a worker and of a call, and every transition there is.

It decides nothing and does no IO: owners call `advance` and do what the new state asks for.
"""

from enum import StrEnum
from typing import TypeVar


class WorkerState(StrEnum):
    """What a worker says of itself in the worker table."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"


class WorkerEvent(StrEnum):
    """What happens to a worker."""

    STARTED = "started"
    DRAIN = "drain"
    UNDRAIN = "undrain"
    STOP = "stop"


class CallState(StrEnum):
    """Where a call is on its worker."""

    INCOMING = "incoming"
    CONNECTING = "connecting"
    TALKING = "talking"
    ENDING = "ending"
    ENDED = "ended"


class CallEvent(StrEnum):
    """What happens to a call."""

    CLAIMED = "claimed"
    ANSWERED = "answered"
    HANGUP = "hangup"
    RELEASED = "released"


WORKER_TRANSITIONS: dict[tuple[WorkerState, WorkerEvent], WorkerState] = {
    (WorkerState.STARTING, WorkerEvent.STARTED): WorkerState.READY,
    (WorkerState.READY, WorkerEvent.DRAIN): WorkerState.DRAINING,
    (WorkerState.DRAINING, WorkerEvent.UNDRAIN): WorkerState.READY,
    (WorkerState.STARTING, WorkerEvent.STOP): WorkerState.STOPPED,
    (WorkerState.READY, WorkerEvent.STOP): WorkerState.STOPPED,
    (WorkerState.DRAINING, WorkerEvent.STOP): WorkerState.STOPPED,
}

CALL_TRANSITIONS: dict[tuple[CallState, CallEvent], CallState] = {
    (CallState.INCOMING, CallEvent.CLAIMED): CallState.CONNECTING,
    (CallState.CONNECTING, CallEvent.ANSWERED): CallState.TALKING,
    (CallState.INCOMING, CallEvent.HANGUP): CallState.ENDING,
    (CallState.CONNECTING, CallEvent.HANGUP): CallState.ENDING,
    (CallState.TALKING, CallEvent.HANGUP): CallState.ENDING,
    (CallState.ENDING, CallEvent.RELEASED): CallState.ENDED,
}

S = TypeVar("S", WorkerState, CallState)
E = TypeVar("E", WorkerEvent, CallEvent)


class InvalidTransition(Exception):
    """An event that the table does not list for the state: a bug in the owner, never a peer's doing."""


def advance(transitions: dict[tuple[S, E], S], state: S, event: E) -> S:
    """Returns the state that `event` leads to; raises InvalidTransition for a pair that is not listed."""
    try:
        return transitions[state, event]
    except KeyError:
        raise InvalidTransition(f"{event} in {state}") from None
