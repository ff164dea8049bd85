"""What a simulated caller is to do, and what came of it.

It does nothing itself; `conversation.py` follows the plan and fills in the report.
"""

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from simulator.phone.analysis import Signal


class Codec(StrEnum):
    """What is offered in SDP; ANY offers both, PCMU first."""

    PCMU = "PCMU"
    PCMA = "PCMA"
    ANY = "any"


class Transport(StrEnum):
    """What SIP goes over. The other side's certificate is not verified."""

    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"


class DtmfMethod(StrEnum):
    """How keys are sent: RFC 4733 events, INFO with the digit alone (application/dtmf), or INFO as dtmf-relay."""

    RFC4733 = "rfc4733"
    INFO = "info"
    DTMF_RELAY = "dtmf-relay"


class Refer(StrEnum):
    """What becomes of a REFER.

    ACCEPT: 202, then NOTIFY 100 and 200. BUSY: 202, then NOTIFY 100 and 486. IGNORE: 202, NOTIFY 100, and nothing more.
    BYE: the same, and the caller hangs up. REJECT: 603.
    """

    ACCEPT = "accept"
    REJECT = "reject"
    BUSY = "busy"
    IGNORE = "ignore"
    BYE = "bye"


class CallFailed(Exception):
    """The call did not go as planned; the message says where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPlan:
    """One call: what is said, and for how long the caller is patient."""

    target: str
    """SIP URI to dial."""
    utterances: tuple[Signal, ...]
    """What the caller says, one for each turn."""
    greeting: bool = True
    """Wait for the greeting to be over before saying anything."""
    ring_timeout_s: float = 20.0
    greeting_timeout_s: float = 10.0
    """Longest wait for a greeting to begin."""
    answer_timeout_s: float = 15.0
    """Longest wait for the answer to begin, from the end of what was said."""
    talk_over_after_s: float | None = None
    """Say the next utterance this long after the first answer began, instead of hearing it out."""
    cancel_after_s: float | None = None
    """Give up this long after the INVITE if nobody has answered (CANCEL)."""
    hangup_after_s: float | None = None
    """Hang up this long after the answer, whatever is being said."""
    hold_until_bye: bool = False
    """After the last turn, stay until the other side hangs up."""
    hold_s: float = 0.0
    """After the last turn, stay silent for this long, or until the other side hangs up."""
    digits: str = ""
    """Keyed in before the first utterance. When the call is not to be held, an answer to them is heard out."""
    digits_after_s: float | None = None
    """Key them in this long after the call was answered, whatever is being said."""
    dtmf_method: DtmfMethod = DtmfMethod.RFC4733
    cough_ms: int = 0
    """Make a noise of this length during the first answer, which is heard out all the same."""
    cough_after_s: float = 1.0
    """How far into the first answer."""
    headers: tuple[tuple[str, str], ...] = ()
    """Headers of the INVITE, name and value."""


@dataclass(slots=True)
class Turn:
    """One thing said and the answer to it; times in Unix ms, those that happened."""

    speech_start: float
    speech_end: float
    answer_first_packet: float | None = None
    answer_end: float | None = None
    talked_over: bool = False
    """The answer was cut short by the caller's next words; it is not compared with what was said."""
    correlation: float | None = None
    longest_gap_ms: float | None = None


@dataclass(slots=True)
class Heard:
    """A stretch of speech that the caller heard, in Unix ms."""

    start: float
    end: float


@dataclass(slots=True)
class CallReport:
    """What came of one call."""

    ok: bool = False
    reason: str = "not dialled"
    sip_call_id: str = ""
    from_tag: str = ""
    status: int = 0
    """Final response to the INVITE; 487 for a call that was cancelled, 408 for one that nobody responded to."""
    ended_by: str | None = None
    """`caller` or `pool`: who sent the BYE."""
    digits_received: str = ""
    """Keys that the other side sent."""
    refer_target: str | None = None
    """The URI in the last REFER of the other side."""
    marks: dict[str, float] = field(default_factory=dict)
    """What happened when, in Unix ms: invite, trying, ringing, answered, greeting_first_packet, greeting_end, then the
    first turn's speech_start, speech_end, answer_first_packet, answer_end, and bye."""
    turns: list[Turn] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)
    """All speech on the right track, in order; less than 800 ms of silence does not end it."""
    rtp: dict[str, int] = field(default_factory=dict)
    """What reached the caller: packets `received` and `lost`, frames for which the jitter buffer was `empty`, and the
    longest a frame waited in it (`max_delay_ms`)."""
    stall_ms: float = 0.0
    """The longest that the telephone itself stood still, because the machine was busy or paused: a recording with a
    stall beyond what jitter buffers hold says nothing about the other side."""
    recording: str | None = None
    """WAV, 8 kHz, 16 bit; left is what the caller said, right what the caller heard, on one time axis."""
    recording_start: float | None = None
    """Unix ms of the recording's first sample."""
    correlation: float | None = None
    """The worst of the turns' that were heard out."""
    longest_gap_ms: float | None = None
    """The worst of the turns'."""

    def as_json(self) -> dict[str, Any]:
        """Returns the report as plain values."""
        return asdict(self)
