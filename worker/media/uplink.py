"""Caller audio on its way to the model.

    RTP -> pjmedia -> audio port (ring, 2 s; full: newest dropped and counted)
        -> eventfd -> Pump -> send() -> Connection.append -> WebSocket
                                |  and the latest of it is kept, for the next connection

It has no task: a task switch for each chunk would cost as much as the chunk. While the WebSocket does not take more,
audio waits in the port's ring. It does not decide what is sent: silence goes too, because the model's turn detection
counts audio time, not wall-clock time.
"""

from typing import Protocol

from worker.media.formats import WireFormat
from worker.media.port import AudioPort

WINDOW_MS = 600
"""Audio always kept: speech that has begun but has not been noticed when another connection takes over."""

KEPT_MAX_MS = 15_000
"""Audio kept of what the caller is saying, or has said while there was no connection. Full: the oldest is dropped."""

SLACK_MS = 400
"""Audio beyond either that may wait to be dropped with more: dropping some with each chunk costs as much as sending."""

PIECE_MS = 1_000
"""Longest audio sent in one message."""


class AudioSink(Protocol):
    """Where the audio goes: the connection."""

    @property
    def congested(self) -> bool: ...
    def append(self, audio: bytes, /) -> None: ...


class Uplink:
    """Sends what the port has captured, a chunk per wake-up, to one sink at a time."""

    def __init__(self, port: AudioPort, wire: WireFormat) -> None:
        self._port = port
        self._bytes_per_ms = wire.bytes_per_ms
        self._sink: AudioSink | None = None
        self._deaf = True
        self._kept = bytearray()
        self._full_bytes = 0
        """From here on the oldest of what is kept is dropped."""
        self._utterance = False
        self._sent_bytes = 0
        self.dropped_bytes = 0
        """Audio that came while there was no connection, and was too much to keep."""

    @property
    def sent_ms(self) -> float:
        """How much audio the present sink has been given."""
        return self._sent_bytes / self._bytes_per_ms

    def listen(self, sink: AudioSink) -> None:
        """Sends what was kept and from now on everything to `sink`."""
        self._trim()
        self._sink, self._deaf = sink, False
        kept = bytes(self._kept)
        piece = PIECE_MS * self._bytes_per_ms
        for start in range(0, len(kept), piece):
            sink.append(kept[start : start + piece])
        self._sent_bytes = len(kept)
        self._trim()

    def hold(self) -> None:
        """Sends nothing until the next `listen`, but keeps it."""
        self._trim()
        self._sink, self._deaf = None, False
        self._trim()

    def deafen(self) -> None:
        """Throws audio away until the next `listen`."""
        self._sink, self._deaf = None, True
        self._kept.clear()

    def retain(self, utterance: bool) -> None:
        """Says whether what comes now, and the last of what came, may have to be sent again."""
        self._trim()
        self._utterance = utterance
        self._trim()

    def send(self) -> None:
        """Moves what is waiting, unless what was sent before is still on its way out."""
        sink = self._sink
        if sink is not None and sink.congested:
            return
        audio = self._port.read()
        if not audio or self._deaf:
            return
        kept = self._kept
        kept += audio
        if len(kept) > self._full_bytes:
            self._trim()
        if sink is not None:
            sink.append(audio)
            self._sent_bytes += len(audio)

    def _trim(self) -> None:
        """Drops what need not be kept as things are; also before they change, so that slack is not kept for good."""
        held = self._sink is None
        limit = (KEPT_MAX_MS if held or self._utterance else WINDOW_MS) * self._bytes_per_ms
        self._full_bytes = limit if held else limit + SLACK_MS * self._bytes_per_ms
        dropped = len(self._kept) - limit
        if dropped > 0:
            del self._kept[:dropped]
            if held:
                self.dropped_bytes += dropped
