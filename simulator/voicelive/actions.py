"""What a session wants done to the outside world, as values. Does not do it (see `connection`)."""

from dataclasses import dataclass

from simulator.voicelive.audio import AudioFormat, Clip
from simulator.voicelive.recordings import Recording
from simulator.voicelive.shapes import Event


@dataclass(frozen=True, slots=True)
class Send:
    """Send an event as a text frame; audio in it is `bytes`, to be written as base64."""

    event: Event


@dataclass(frozen=True, slots=True)
class SendRaw:
    """Send a frame that is no proper event; `str` as text, `bytes` as binary."""

    payload: str | bytes


@dataclass(frozen=True, slots=True)
class Render:
    """Speak a text, or convert audio, into a format; the answer goes to `Session.rendered` with the same `ref`."""

    ref: str
    source: str | Clip | Recording
    to: AudioFormat


@dataclass(frozen=True, slots=True)
class Close:
    """Close the WebSocket with this code and reason."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Abort:
    """Drop the TCP connection without a word."""


@dataclass(frozen=True, slots=True)
class StopPongs:
    """Leave pings unanswered from now on."""


Action = Send | SendRaw | Render | Close | Abort | StopPongs
