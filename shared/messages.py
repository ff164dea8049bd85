"""What is written to Redis and signed into lease tokens: frozen values that pack and unpack themselves.

It does not talk to Redis and does not sign; `shared/control/` and `shared/token.py` do.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, Self, cast

import msgpack

from shared.ids import CallId, DispatcherId, LeaseId, WorkerId
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
        """Returns the msgpack bytes.

        Bytes are packed as text is: the scripts read some messages, and Redis's Lua knows no other bytes.
        """
        return cast(bytes, msgpack.packb({"v": VERSION, **asdict(self)}, use_bin_type=False))

    @classmethod
    def unpack(cls, data: bytes) -> Self:
        """Returns the value behind `data`; raises MessageError when it is something else or newer."""
        try:
            raw: dict[str, Any] = msgpack.unpackb(data, unicode_errors="surrogateescape")
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
    loop_lag_p99_ms: float = 0.0
    """The lag that 1 % of all moments exceeded."""
    cpu_percent: float = 0.0
    """CPU time of its process, in percent of one core."""
    late_ticks: int = 0
    """Ticks of its audio clock, of 20 ms each, that came more than 10 ms late."""
    late: bool = False
    """It is to be given no new call for now."""
    cut_off: list[str] = field(default_factory=list)
    """Names of the Voice Live resources that it cannot reach."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceQuota(Message):
    """A Voice Live resource and its limits, all workers together; 0 is no limit."""

    name: str
    """As in the agent file; empty is that of the settings."""
    connections_per_minute: int = 0
    """New sessions in any minute."""
    sessions: int = 0
    """Sessions at once."""
    tokens_per_minute: int = 0
    """Tokens in any minute, input and output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatcherRecord(Message):
    """What a dispatcher says of itself, with every heartbeat."""

    dispatcher_id: DispatcherId
    pid: int
    sip_host: str
    """Its own address, which stands in its Via: workers and other dispatchers reach this one there, and no other."""
    sip_port: int
    draining: bool
    started_at_ms: int
    """Unix time in ms."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialog(Part):
    """An answered call's dialog as its worker sees it (RFC 3261 section 12.1.1), as far as a BYE needs it.

    All values stand in the BYE as they are. They have telephone numbers in them: they are not logged.
    """

    call_id: bytes
    local: bytes
    """Value of the worker's From, with its tag."""
    remote: bytes
    """Value of the caller's To, with its tag."""
    target: bytes
    """URI of the caller's Contact."""
    routes: list[bytes] = field(default_factory=list)
    """Values of the INVITE's Record-Route, in order."""

    def __post_init__(self) -> None:
        for name in ("call_id", "local", "remote", "target"):
            object.__setattr__(self, name, _as_bytes(getattr(self, name)))
        object.__setattr__(self, "routes", [_as_bytes(route) for route in self.routes])


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease(Message):
    """The right of one call to use one slot of one worker, and one session of one Voice Live resource."""

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
    """IP address that the INVITE came to the dispatcher from."""
    agent: str = ""
    """Who is to answer, as the dispatcher found; empty when it did not look."""
    resource: str = ""
    """Voice Live resource whose quota the call counts against; empty is the one of the settings."""
    traceparent: str = ""
    """Trace that the call belongs to (`shared/telemetry/trace.py`); empty when its dispatcher began none."""
    answered_at_ms: int | None = None
    dialog: Dialog | None = None
    """Known once the call is answered: whoever frees a lease with a dialog owes the caller a BYE."""

    def __post_init__(self) -> None:
        if self.dialog is not None:
            object.__setattr__(self, "dialog", Dialog.of(self.dialog))

    @property
    def trace_id(self) -> str:
        """Id of its trace, for log lines; empty when there is none."""
        return self.traceparent[3:35]


class CommandName(StrEnum):
    """What an operator can ask of a worker or a dispatcher."""

    DRAIN = "drain"
    UNDRAIN = "undrain"
    HANGUP = "hangup"
    TRANSFER = "transfer"
    SAY = "say"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(Message):
    """One thing an operator asks of one process."""

    command_id: str
    name: str
    """A CommandName; one that the process does not know is answered as failed."""
    call_id: CallId | None = None
    """The call it is about, if it is about one."""
    argument: str = ""
    """Where to transfer to, or what to say."""


class CommandState(StrEnum):
    """How far a command has come."""

    BEGUN = "begun"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandReply(Message):
    """What the process says of a command: at once, and once more when it took its time."""

    command_id: str
    state: str
    """A CommandState; after BEGUN another reply follows."""
    detail: str = ""
    """Why it failed, or what came of it; for people."""


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


def _as_bytes(value: object) -> bytes:
    """Returns what was packed as bytes, as it was; raises TypeError when it is neither that nor text."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, bytes):
        return value
    raise TypeError(f"{type(value).__name__} is not bytes")
