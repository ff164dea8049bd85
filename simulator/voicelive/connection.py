"""Joins one session to one WebSocket: frames in, actions out, timers. Does not decide anything.

reader ── events ──> session ── actions ──> outbox ── writer ──> WebSocket
timer ──────────────>   ^  └── Render ──> speech ──┐
                        └──────────────────────────┘
"""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from time import monotonic, time_ns

from aiohttp import WSCloseCode, WSMsgType, web

from simulator.voicelive.actions import Abort, Action, Close, Render, Send, SendRaw, StopPongs
from simulator.voicelive.faults import SessionFault
from simulator.voicelive.session import Session
from simulator.voicelive.speech import Speech, SpeechFailed
from simulator.voicelive.trace import Trace
from simulator.voicelive.wire import Append, decode, encode

# 15 MiB of audio in base64, and its event around it.
MAX_FRAME_BYTES = 21 * 1024 * 1024

# SO_LINGER on with no time: closing the socket resets the connection instead of ending it in order.
_LINGER_RESET = struct.pack("ii", 1, 0)

# uvloop's timers go by whole milliseconds, to the nearest: one that fires too early would be set again, and again,
# until its time has come. For the same reason sessions run on `monotonic`, the loop's clock without the rounding.
_HALF_TICK_S = 0.0005


class Connection:
    """One client. `run` returns when the connection is over; `session` can be looked at and faulted meanwhile."""

    def __init__(
        self,
        socket_: web.WebSocketResponse,
        transport: asyncio.Transport,
        session: Session,
        speech: Speech,
        trace: Trace | None = None,
    ) -> None:
        self.session = session
        self._socket = socket_
        self._transport = transport
        self._speech = speech
        self._trace = trace
        self._traced_as = session.id.encode()
        self._loop = asyncio.get_running_loop()
        self._outbox: deque[Send | SendRaw | Close | Abort] = deque()
        self._filled = asyncio.Event()
        self._pongs = True
        self._over = False
        self._ending: Close | Abort | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at: float | None = None
        self._tasks: asyncio.TaskGroup
        self._renders: set[asyncio.Task[None]] = set()

    async def run(self, faults: Iterable[SessionFault] = ()) -> None:
        """Carry the session, with these faults in it, until either side ends it."""
        try:
            async with asyncio.TaskGroup() as self._tasks:
                reader = self._tasks.create_task(self._read(), name=f"reader of {self.session.id}")
                writer = self._tasks.create_task(self._write(), name=f"writer of {self.session.id}")
                self._perform(self.session.start(monotonic(), faults))
                await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED)
                for task in (reader, writer, *self._renders):
                    task.cancel()
        finally:
            self._over = True
            if self._timer is not None:
                self._timer.cancel()
        if self._ending is not None:
            await self._end(self._ending)

    def order(self, fault: SessionFault) -> None:
        """Commit a fault in this session."""
        self._perform(self.session.order(fault, monotonic()))

    def close(self, code: int, reason: str) -> None:
        """Close the WebSocket from outside the session, as a server that stops does."""
        self._perform([Close(code, reason)])

    @property
    def close_code(self) -> int | None:
        """The code of the first close frame, 1006 when there was none; None while the connection is up."""
        match self._ending:
            case Close(code):
                return code
            case Abort():
                return int(WSCloseCode.ABNORMAL_CLOSURE)
        return None if self._socket.close_code is None else int(self._socket.close_code)

    async def _read(self) -> None:
        while True:
            message = await self._socket.receive()
            if message.type is WSMsgType.TEXT:
                if self._trace is not None:
                    self._trace.write(time_ns(), self._traced_as, b"in", message.data.encode())
                self._hear(message.data)
            elif message.type is WSMsgType.BINARY:
                self._hear(message.data.decode("utf-8", errors="replace"))
            elif message.type is WSMsgType.PING:
                if self._pongs:
                    with suppress(ConnectionError):  # the client is gone; the next read says so
                        await self._socket.pong(message.data)
            elif message.type is not WSMsgType.PONG:
                return

    def _hear(self, text: str) -> None:
        event, now = decode(text), monotonic()
        if not isinstance(event, Append):
            self._perform(self.session.receive(event, now))
            return
        actions = self.session.append(event.audio, now)
        if actions or self.session.next_wake != self._timer_at:  # nearly always neither
            self._perform(actions)

    def _perform(self, actions: Iterable[Action]) -> None:
        if self._over:
            return
        for action in actions:
            if isinstance(action, Render):
                task = self._tasks.create_task(self._render(action), name=f"render for {self.session.id}")
                self._renders.add(task)
                task.add_done_callback(self._renders.discard)
            elif isinstance(action, StopPongs):
                self._pongs = False
            else:
                self._outbox.append(action)
                self._filled.set()
        self._set_timer()

    def _set_timer(self) -> None:
        wake = self.session.next_wake
        if wake == self._timer_at:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = wake
        self._timer = None if wake is None else self._loop.call_at(wake + _HALF_TICK_S, self._wake)

    def _wake(self) -> None:
        self._timer_at = None
        self._perform(self.session.advance(monotonic()))

    async def _render(self, action: Render) -> None:
        try:
            audio = await self._speech.render(action.source, action.to)
        except SpeechFailed as error:
            self._perform(self.session.render_failed(action.ref, str(error), monotonic()))
        else:
            self._perform(self.session.rendered(action.ref, audio, monotonic()))

    async def _write(self) -> None:
        """Send what is in the outbox until something in it ends the connection, or the client is gone."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            while self._outbox:
                action = self._outbox.popleft()
                if isinstance(action, Close | Abort):
                    self._ending = action
                    return
                with suppress(ConnectionError):  # the client is gone, which the reader finds out
                    await self._send(action)

    async def _send(self, action: Send | SendRaw) -> None:
        if isinstance(action, Send):
            await self._send_text(encode(action.event))
        elif isinstance(action.payload, str):
            await self._send_text(action.payload.encode())
        else:
            await self._socket.send_bytes(action.payload)

    async def _send_text(self, text: bytes) -> None:
        if self._trace is not None:
            self._trace.write(time_ns(), self._traced_as, b"out", text)
        await self._socket.send_frame(text, WSMsgType.TEXT)

    async def _end(self, action: Close | Abort) -> None:
        """Close, or abort. Nobody reads any more: aiohttp completes the closing handshake only when it may read."""
        if isinstance(action, Close):
            await self._socket.close(code=action.code, message=action.reason.encode())
            return
        raw = self._transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
        self._transport.abort()
