"""Keeps the caller's appended audio and hands out stretches of it. Does not decide when a turn begins or ends.

Positions are milliseconds of audio since the session began. What is kept is bounded: the last `IDLE_KEEP_MS` while
nobody speaks, the last `UTTERANCE_KEEP_MS` while an utterance grows (its oldest audio falls out first).
"""

from simulator.voicelive.audio import AudioFormat, Clip

# Enough for the longest prefix padding plus the time it takes to notice speech.
IDLE_KEEP_MS = 10_000
UTTERANCE_KEEP_MS = 120_000

# Cutting moves the bytes that stay; doing it once per second of surplus keeps that cheap.
_SLACK_MS = 1_000


class InputBuffer:
    """Bytes of the caller's audio in one format, addressed by audio time."""

    def __init__(self, fmt: AudioFormat) -> None:
        self.format = fmt
        self._held = bytearray()
        self._dropped = 0
        self._idle_keep = IDLE_KEEP_MS * fmt.bytes_per_ms
        self._utterance_keep = UTTERANCE_KEEP_MS * fmt.bytes_per_ms
        self._slack = _SLACK_MS * fmt.bytes_per_ms

    @property
    def total_ms(self) -> float:
        """All audio ever appended, in ms."""
        return (self._dropped + len(self._held)) / self.format.bytes_per_ms

    def append(self, data: bytes, *, growing: bool) -> None:
        """Add `data`; `growing` says that an utterance is under way or that turns are manual."""
        self._held += data
        surplus = len(self._held) - (self._utterance_keep if growing else self._idle_keep)
        if surplus > self._slack:
            del self._held[:surplus]
            self._dropped += surplus

    def skip(self, data: bytes) -> None:
        """Count `data`, which nobody will ask for, without keeping it; not to be mixed with `append`."""
        self._dropped += len(data)

    def between(self, start_ms: float, end_ms: float) -> Clip:
        """What is still held of the audio from `start_ms` up to `end_ms`, byte for byte as it was appended."""
        per_ms = self.format.bytes_per_ms
        start = max(round(start_ms * per_ms) - self._dropped, 0)
        end = max(round(end_ms * per_ms) - self._dropped, 0)
        return Clip(bytes(self._held[start:end]), self.format)
