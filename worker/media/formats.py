"""The audio formats a session can have, by name: encoding, rate, and Voice Live's word for each direction.

It converts nothing; the native audio port does.
"""

from dataclasses import dataclass
from typing import Literal

from shared.choices import AudioFormat

BRIDGE_RATE = 8000
"""Samples per second inside pjmedia: the rate of G.711, so that the conference bridge never resamples."""

Encoding = Literal["pcm16", "g711_ulaw", "g711_alaw"]


@dataclass(frozen=True, slots=True)
class WireFormat:
    """How audio looks on the WebSocket, the same in both directions."""

    encoding: Encoding
    """Also Voice Live's name for it (input_audio_format, output_audio_format)."""
    rate: int
    """Samples per second."""

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample."""
        return 2 if self.encoding == "pcm16" else 1

    @property
    def bytes_per_ms(self) -> int:
        """Bytes that one millisecond of mono audio takes."""
        return self.rate * self.sample_bytes // 1000


G711_ULAW = WireFormat("g711_ulaw", 8000)
G711_ALAW = WireFormat("g711_alaw", 8000)
PCM16_24K = WireFormat("pcm16", 24000)
"""Voice Live's native format: the only one whose input and output rate are both 24 kHz."""


def wire_format(wanted: AudioFormat, law: str) -> WireFormat:
    """Returns the session's format; `law` is the leg's codec name (PCMU or PCMA), so that G.711 is never transcoded."""
    if wanted is AudioFormat.PCM16:
        return PCM16_24K
    return G711_ALAW if law == "PCMA" else G711_ULAW
