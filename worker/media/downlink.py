"""Model audio on its way to the caller.

    WebSocket -> Session (decides) -> play() -> audio port (ring, about 16 s) -> pjmedia's clock -> RTP
                                       |  ring full
                                       v
                                    overflow (bounded; full: newest dropped and counted) -> top_up()

Voice Live sends a whole answer within a second, so the playout holds whole answers. It is paced by pjmedia's clock
alone, and what the caller heard is the port's `played` counter. Which answer that was, the ledger knows.
"""

from collections import deque

from worker.media.formats import BRIDGE_RATE, WireFormat
from worker.media.ledger import CutOff, Ledger
from worker.media.port import AudioPort

OVERFLOW_MAX_MS = 180_000
"""Audio kept beyond the port's ring: three minutes, longer than any answer fit for a telephone."""

_END_OF_ANSWER = b""


class Downlink:
    """Feeds the port in order and keeps what does not fit yet."""

    def __init__(self, port: AudioPort, wire: WireFormat) -> None:
        self._port = port
        self._sample_bytes = wire.sample_bytes
        self._bridge_samples = BRIDGE_RATE / (wire.rate * wire.sample_bytes)  # for each byte
        self._overflow: deque[bytes] = deque()
        self._overflow_bytes = 0
        self._overflow_max_bytes = OVERFLOW_MAX_MS * wire.bytes_per_ms
        self._ledger = Ledger()
        self.dropped_bytes = 0
        """Audio that arrived when even the overflow was full."""

    def play(self, item_id: str, audio: bytes) -> None:
        """Queues `audio` of an item behind what is already there; half a sample at its end is dropped."""
        audio = audio[: len(audio) // self._sample_bytes * self._sample_bytes]
        counters = self._port.counters()
        if not counters.queued and not self._overflow:
            self._ledger.begin(counters.written)
        taken = 0 if self._overflow else self._port.write(audio)
        rest = audio[taken:]
        if rest and self._overflow_bytes + len(rest) > self._overflow_max_bytes:
            self.dropped_bytes += len(rest)
            rest = b""
        if rest:
            self._overflow.append(rest)
            self._overflow_bytes += len(rest)
        queued = (taken + len(rest)) * self._bridge_samples
        self._ledger.add(item_id, queued, counters.played + counters.flushed)

    @property
    def queued_ms(self) -> float:
        """How long it takes until everything has been played."""
        waiting = self._port.counters().queued + self._overflow_bytes * self._bridge_samples
        return waiting * 1000 / BRIDGE_RATE

    def finish(self) -> None:
        """Marks the end of an answer behind what is queued."""
        if self._overflow or not self._port.finish():
            self._overflow.append(_END_OF_ANSWER)

    def flush(self) -> list[CutOff]:
        """Drops everything the caller has not heard; returns the items that were cut off, the one being heard first."""
        self._overflow.clear()
        self._overflow_bytes = 0
        dropped = self._port.flush()
        # Only we write, so that this is where the clock stood at the moment of the flush.
        return self._ledger.cut(self._port.counters().written - dropped)

    def top_up(self) -> None:
        """Moves overflow into the port as far as it has room; called on every wake-up of the call."""
        while self._overflow:
            audio = self._overflow[0]
            if audio is _END_OF_ANSWER:
                if not self._port.finish():
                    return
                self._overflow.popleft()
                continue
            taken = self._port.write(audio)
            self._overflow_bytes -= taken
            if taken < len(audio):
                self._overflow[0] = audio[taken:]
                return
            self._overflow.popleft()
