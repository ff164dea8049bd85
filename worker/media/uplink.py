"""Caller audio on its way to the model.

    RTP -> pjmedia -> audio port (ring, 2 s; full: newest dropped and counted)
        -> eventfd -> Pump -> send() -> Connection.append -> WebSocket
                                |  and the latest of it is kept, for the next connection

It has no task: a task switch for each chunk would cost as much as the chunk. While the WebSocket does not take more,
audio waits in the port's ring. It does not decide what is sent: silence goes too, because the model's turn detection
counts audio time, not wall-clock time.
"""

from collections import deque
from typing import Protocol

from worker.media.formats import WireFormat
from worker.media.port import AudioPort

WINDOW_MS = 600
"""Audio always kept: speech that has begun but has not been noticed when another connection takes over."""

KEPT_MAX_MS = 15_000
"""Audio kept of what the caller is saying, or has said while there was no connection. Full: the oldest is dropped."""

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
        self._kept: deque[bytes] = deque()
        self._kept_bytes = 0
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
        self._sink, self._deaf, self._sent_bytes = sink, False, 0
        kept = b"".join(self._kept)
        piece = PIECE_MS * self._bytes_per_ms
        for start in range(0, len(kept), piece):
            self._give(sink, kept[start : start + piece])
        self._trim()

    def hold(self) -> None:
        """Sends nothing until the next `listen`, but keeps it."""
        self._sink, self._deaf = None, False

    def deafen(self) -> None:
        """Throws audio away until the next `listen`."""
        self._sink, self._deaf = None, True
        self._forget()

    def retain(self, utterance: bool) -> None:
        """Says whether what comes now, and the last of what came, may have to be sent again."""
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
        self._kept.append(audio)
        self._kept_bytes += len(audio)
        self._trim()
        if sink is not None:
            self._give(sink, audio)

    def _give(self, sink: AudioSink, audio: bytes) -> None:
        sink.append(audio)
        self._sent_bytes += len(audio)

    def _trim(self) -> None:
        held = self._sink is None
        limit = (KEPT_MAX_MS if held or self._utterance else WINDOW_MS) * self._bytes_per_ms
        while self._kept_bytes > limit:
            dropped = len(self._kept.popleft())
            self._kept_bytes -= dropped
            if held:
                self.dropped_bytes += dropped

    def _forget(self) -> None:
        self._kept.clear()
        self._kept_bytes = 0
