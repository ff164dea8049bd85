"""What is written to Redis and signed into lease tokens: frozen values that pack and unpack themselves.

It does not talk to Redis and does not sign; `shared/control/` and `shared/token.py` do.
"""

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self, cast

import msgpack

from shared.ids import CallId, LeaseId, WorkerId
from shared.states import WorkerState

VERSION = 1
"""Format of every payload. A reader refuses a newer one; unknown fields of the same version are ignored."""


class MessageError(ValueError):
    """A payload that is not a message of this kind and version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A value with a msgpack form: a map whose first entry is the version `v`."""

    def pack(self) -> bytes:
        """Returns the msgpack bytes."""
        return cast(bytes, msgpack.packb({"v": VERSION, **asdict(self)}))

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Returns the value behind `data`; raises MessageError when it is something else or newer."""
        try:
            raw: dict[str, Any] = msgpack.unpackb(data)
            if raw["v"] > VERSION:
                raise MessageError(f"{cls.__name__}: version {raw['v']} is newer than {VERSION}")
            return cls(**{f.name: raw[f.name] for f in fields(cls) if f.name in raw})
        except MessageError:
            raise
        except (ValueError, KeyError, TypeError, msgpack.exceptions.UnpackException) as error:
            raise MessageError(f"{cls.__name__}: {error!r}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRecord(Message):
    """What a worker registers: who it is and what it can carry."""

    worker_id: WorkerId
    pod: str
    pid: int
    sip_host: str
    """Address at which dispatchers reach the worker's SIP endpoint."""
    sip_port: int
    capacity: int
    """Number of slots."""
    state: WorkerState
    started_at_ms: int
    """Unix time in ms."""
    labels: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "state", WorkerState(self.state))


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerHealth(Message):
    """How a worker is doing: comes with every heartbeat, and is about the time since the one before."""

    loop_lag_ms: float = 0.0
    """How late its event loop was at worst."""
    cpu_percent: float = 0.0
    """CPU time of its process, in percent of one core."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease(Message):
    """The right of one call to use one slot of one worker."""

    lease_id: LeaseId
    call_id: CallId
    worker_id: WorkerId
    offered_at_ms: int
    """Unix time in ms at which the dispatcher took the slot."""
    invite_at_ms: int
    """Unix time in ms at which the INVITE reached the dispatcher."""
    provisional: bool = False
    """True when Redis could not be asked: the worker admits on its own count and the lease is entered later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord(Message):
    """What remains of a call. Holds no number, no transcript and no audio."""

    call_id: CallId
    lease_id: LeaseId
    worker_id: WorkerId
    result: str
    """A CallResult."""
    reason: str
    """A CallEnd."""
    invite_at_ms: int
    ended_at_ms: int
    answered_at_ms: int | None = None
    session_id: str = ""
    """Voice Live's own id of the session, for support requests."""
    audio_format: str = ""
    marks: list[tuple[str, int]] = field(default_factory=list)
    """What happened when: (name, Unix time in ms), in order."""
    counters: dict[str, int] = field(default_factory=dict)
    """Audio counters of the call, samples at the bridge rate, and turns, barge-ins and errors."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "marks", [(name, at_ms) for name, at_ms in self.marks])  # msgpack knows no tuples
