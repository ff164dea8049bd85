"""Caller audio on its way to the model.

    RTP -> pjmedia -> audio port (ring, 2 s; full: newest dropped and counted)
        -> eventfd -> Pump -> send() -> Connection.append -> WebSocket

It keeps no queue of its own, and no task: a task switch for each chunk would cost as much as the chunk. While the
WebSocket does not take more, audio waits in the port's ring. It does not decide what is sent: silence goes too, because
the model's turn detection counts audio time, not wall-clock time.
"""

from typing import Protocol

from worker.media.port import AudioPort


class AudioSink(Protocol):
    """Where the audio goes: the connection."""

    @property
    def congested(self) -> bool: ...
    def append(self, audio: bytes, /) -> None: ...


class Uplink:
    """Sends what the port has captured, a chunk per wake-up."""

    def __init__(self, port: AudioPort, sink: AudioSink) -> None:
        self._port = port
        self._sink = sink

    def send(self) -> None:
        """Sends what is waiting, unless what was sent before is still on its way out."""
        if self._sink.congested:
            return
        audio = self._port.read()
        if audio:
            self._sink.append(audio)
