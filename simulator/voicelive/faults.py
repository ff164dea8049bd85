"""The faults the simulator can commit, how they are ordered, and which are due. Does not commit them.

One format serves the command line (`--faults`), the control API (`POST /simulator/faults`) and a scenario's `fault`
step, which is one entry of `sessions`:

    {"next_handshake": {"status": 429, "retry_after": 3, "count": 1},
     "sessions": [{"kind": "abort", "session": "next", "on": "response.audio.delta", "nth": 3}]}
"""

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

# What Azure says when it ends a session at its time limit (close code 1001).
MAX_DURATION_REASON = "Your session hit the maximum duration of 60 minutes."

# Larger than the 4 MiB the SDK accepts in one message by default.
_OVERSIZE_BYTES = 5 * 1024 * 1024

Seconds = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]

Kind = Literal[
    "abort",
    "close",
    "oversize",
    "no_pong",
    "unknown_event",
    "warning",
    "error",
    "binary",
    "bad_json",
    "hang",
    "delay_transcript",
    "duplicate_transcript",
    "empty_transcript",
    "refuse_update",
    "mute_update",
]

# Of these kinds, `updates` says how often they strike; of the transcript faults, `turns`.
_UPDATE_KINDS = ("refuse_update", "mute_update")


class BadFault(ValueError):
    """A fault order that cannot be read; the message says where and why."""


class HandshakeFault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Fails the next `count` handshakes: an HTTP `status`, or with `stall` no answer at all.

    `retry_after` is in seconds; `http_date` has it written as the time at which they are over (RFC 9110, 10.2.3).
    """

    status: Annotated[int, msgspec.Meta(ge=400, le=599)] | None = None
    retry_after: Annotated[int, msgspec.Meta(ge=0)] | None = None
    http_date: bool = False
    stall: bool = False
    count: Count = 1


class SessionFault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One fault in a session.

    `session` says where: `all` that run now, the `next` to open, `every` one from now on, or one session's id.
    `on` and `nth` say when: after the nth event of that type the server sends from then on; `after_s` delays it.
    `turns` is how many of the caller's turns a transcript fault spoils; `seconds` is what `delay_transcript` adds;
    `updates` is how many times `session.update` meets `refuse_update` (an error that blames `param`) or `mute_update`
    (nothing); `code` and `reason` belong to `close`, `bytes` to `oversize`.
    """

    kind: Kind
    session: str = "all"
    on: str | None = None
    nth: Count = 1
    after_s: Seconds = 0.0
    seconds: Seconds = 2.0
    turns: Count = 1
    updates: Count = 1
    param: str = "session.voice"
    code: Annotated[int, msgspec.Meta(ge=1000, le=4999)] = 1001
    reason: Annotated[str, msgspec.Meta(max_length=120)] = MAX_DURATION_REASON
    bytes: Annotated[int, msgspec.Meta(ge=1, le=64 * 1024 * 1024)] = _OVERSIZE_BYTES

    @property
    def times(self) -> int:
        """How often a fault that spoils something strikes."""
        return self.updates if self.kind in _UPDATE_KINDS else self.turns


class FaultOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything one request can order; a `next_handshake` of null takes back the one that waits."""

    next_handshake: HandshakeFault | msgspec.UnsetType | None = msgspec.UNSET
    sessions: tuple[SessionFault, ...] = ()


def parse_order(text: str | bytes) -> FaultOrder:
    """The order in a JSON text; raises BadFault."""
    try:
        order = msgspec.json.decode(text, type=FaultOrder)
    except msgspec.MsgspecError as error:
        raise BadFault(str(error)) from error
    if isinstance(order.next_handshake, HandshakeFault):
        _check_handshake(order.next_handshake)
    return order


def parse_session_fault(fields: Mapping[str, Any]) -> SessionFault:
    """One session fault from a scenario; raises BadFault."""
    try:
        return msgspec.convert(fields, SessionFault)
    except msgspec.MsgspecError as error:
        raise BadFault(str(error)) from error


def _check_handshake(fault: HandshakeFault) -> None:
    if (fault.status is None) == (not fault.stall):
        raise BadFault("a handshake fault needs either a status or stall - at `$.next_handshake`")


class ServerFaults:
    """What is ordered for handshakes and sessions to come."""

    def __init__(self) -> None:
        self._handshake: HandshakeFault | None = None
        self._handshakes_left = 0
        self._next: list[SessionFault] = []
        self._every: list[SessionFault] = []

    def order(self, order: FaultOrder) -> list[SessionFault]:
        """Take note of an order; returns the faults for sessions that run now."""
        if not isinstance(order.next_handshake, msgspec.UnsetType):
            self._handshake = order.next_handshake
            self._handshakes_left = order.next_handshake.count if order.next_handshake else 0
        self._next += [fault for fault in order.sessions if fault.session == "next"]
        self._every += [fault for fault in order.sessions if fault.session == "every"]
        return [fault for fault in order.sessions if fault.session not in ("next", "every")]

    def take_handshake(self) -> HandshakeFault | None:
        """The fault for the handshake at hand."""
        if self._handshakes_left == 0:
            return None
        self._handshakes_left -= 1
        return self._handshake

    def take_session(self) -> list[SessionFault]:
        """The faults of the session that opens now."""
        waiting, self._next = self._next, []
        return [*self._every, *waiting]

    def clear(self) -> None:
        """Take everything back that has not happened yet."""
        self._handshakes_left = 0
        self._next, self._every = [], []

    def shown(self) -> dict[str, Any]:
        """What waits, as plain data."""
        waiting = None
        if self._handshake and self._handshakes_left:
            waiting = {**msgspec.to_builtins(self._handshake), "count": self._handshakes_left}
        return {"next_handshake": waiting, "sessions": msgspec.to_builtins([*self._every, *self._next])}


class ArmedFaults:
    """The faults of one session that wait for an event."""

    def __init__(self) -> None:
        self._armed: list[tuple[SessionFault, Counter[str]]] = []

    def arm(self, fault: SessionFault) -> None:
        self._armed.append((fault, Counter()))

    def due_after(self, event_type: str) -> list[SessionFault]:
        """Count a sent event; the faults that are due because of it, each once."""
        if not self._armed:
            return []
        due = []
        for entry in list(self._armed):
            fault, seen = entry
            if fault.on == event_type:
                seen[event_type] += 1
                if seen[event_type] == fault.nth:
                    self._armed.remove(entry)
                    due.append(fault)
        return due
