"""What is written to Redis and signed into lease tokens: frozen values that pack and unpack themselves.

It does not talk to Redis and does not sign; `shared/control/` and `shared/token.py` do.
"""

from collections.abc import Mapping
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
class Part:
    """A value inside a message, in msgpack a map; read as a message is: unknown fields are ignored."""

    @classmethod
    def of(cls, raw: Self | Mapping[str, Any]) -> Self:
        """Returns the value behind an unpacked map, or the value itself; raises TypeError when it is neither."""
        if isinstance(raw, cls):
            return raw
        if not isinstance(raw, Mapping):
            raise TypeError(f"{cls.__name__}: {type(raw).__name__} is not a map")
        return cls(**{f.name: raw[f.name] for f in fields(cls) if f.name in raw})


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
    peer: str = ""
    """IP address that the INVITE came to the dispatcher from. Empty in what `acquire` writes to Redis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptUtterance(Part):
    """What one side said without a break."""

    role: str
    """`caller` or `agent`."""
    at_ms: int
    """When it began, since the answer; likewise in all parts below."""
    text: str = ""
    """Of an answer the caller spoke over: what was heard, up to a word. Empty where there is no transcription."""
    audio_ms: int = 0
    """Length of an answer as it was received."""
    heard_ms: int | None = None
    """How much of a cut-off answer was heard; None is all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptTurn(Part):
    """How long the caller waited for one answer."""

    at_ms: int
    """The end of the caller's speech."""
    latency_ms: int | None = None
    """From there to the answer's first packet; None when there was none, or when the end is not known exactly."""
    service_ms: int | None = None
    """From the service's own `speech_stopped` to the answer's first audio; None when there was none."""
    barged_in: bool = False
    """The caller spoke over the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptToolCall(Part):
    """One call of a tool by the model."""

    name: str
    at_ms: int
    took_ms: int | None = None
    """None when it had not ended before the call did."""
    arguments: str = ""
    """JSON, masked as the tool says; empty when it is not kept."""
    output: str = ""
    """JSON, cut where it is long; empty when it is not kept."""
    failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptDigits(Part):
    """Digits the caller typed."""

    at_ms: int
    digits: str
    """One `*` for each digit that is not to be kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens(Part):
    """Tokens as the service counts them; those from its cache are among the input's."""

    input_text: int = 0
    input_audio: int = 0
    cached_text: int = 0
    cached_audio: int = 0
    output_text: int = 0
    output_audio: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptUsage(Tokens):
    """Tokens of one response."""

    response_id: str
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord(Message):
    """What remains of a call. Never holds audio.

    Numbers, transcript, what tools were told and answered, and digits are in it as far as the agent's `keep` says.
    """

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
    sessions: list[str] = field(default_factory=list)
    """Voice Live's ids of all sessions of the call, in order; more than one after a lost connection."""
    agent: str = ""
    """Name of the agent that answered."""
    model: str = ""
    """Its model, or the name of its Foundry agent."""
    caller: str = ""
    called: str = ""
    """User parts of From and of the Request-URI."""
    transfer: str = ""
    """Name of the target the caller was transferred to."""
    transcript: list[KeptUtterance] = field(default_factory=list)
    turns: list[KeptTurn] = field(default_factory=list)
    tools: list[KeptToolCall] = field(default_factory=list)
    dtmf: list[KeptDigits] = field(default_factory=list)
    usage: list[KeptUsage] = field(default_factory=list)
    usage_total: Tokens = field(default_factory=Tokens)
    cost: float | None = None
    """What the tokens cost; None when a model has no price."""
    currency: str = ""
    note: str = ""
    """What was left out to keep the record within its size; empty when nothing was."""

    def __post_init__(self) -> None:
        for name, values in {
            "marks": [(name, at_ms) for name, at_ms in self.marks],  # msgpack knows no tuples, and no parts
            "transcript": [KeptUtterance.of(each) for each in self.transcript],
            "turns": [KeptTurn.of(each) for each in self.turns],
            "tools": [KeptToolCall.of(each) for each in self.tools],
            "dtmf": [KeptDigits.of(each) for each in self.dtmf],
            "usage": [KeptUsage.of(each) for each in self.usage],
            "usage_total": Tokens.of(self.usage_total),
        }.items():
            object.__setattr__(self, name, values)
