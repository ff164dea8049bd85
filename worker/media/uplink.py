"""Caller audio on its way to the model.

    RTP -> pjmedia -> audio port (ring, 2 s; full: newest dropped and counted)
        -> eventfd -> Pump -> wake() -> run() -> Connection.append -> WebSocket

It keeps no queue of its own: while the WebSocket does not take more, audio waits in the port's ring. It does not decide
what is sent: silence goes too, because the model's turn detection counts audio time, not wall-clock time.
"""

import asyncio
from collections.abc import Awaitable, Callable

from worker.media.port import AudioPort


class Uplink:
    """Sends what the port has captured, a chunk per wake-up."""

    def __init__(self, port: AudioPort, append: Callable[[bytes], Awaitable[None]]) -> None:
        self._port = port
        self._append = append
        self._waiting = asyncio.Event()

    def wake(self) -> None:
        """Says that a chunk is waiting."""
        self._waiting.set()

    async def run(self) -> None:
        """Carries audio until it is cancelled; raises UpstreamError when the connection is gone."""
        while True:
            await self._waiting.wait()
            self._waiting.clear()
            audio = self._port.read()
            if audio:
                await self._append(audio)
