"""A TCP relay that stands before a server, Redis mostly, and spoils the way to it on demand.

    client ── relay ── server      pass, slow (each direction), frozen, cut

It understands nothing of what it carries. `Relay` lives on an event loop; `RelayThread` is the same for callers that
have none.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

CHUNK_BYTES = 64 * 1024
"""Read at once; also what a writer may have waiting before it is waited for."""

CHUNKS_MAX = 64
"""On their way in one direction of a connection; more stay with the sender, as on any connection that is full."""

CONNECT_TIMEOUT_S = 5.0

BACKLOG = 128
"""Connections that the kernel keeps until they are accepted."""

_CONTROL_TIMEOUT_S = 10.0
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of no time: closing sends RST, whatever is unsent is dropped


class Relay:
    """One listening port before one server: `async with Relay(host, port) as relay`.

    Raises OSError when the port cannot be had. What a mode does to connections it does to those that are there, too.
    """

    def __init__(self, host: str, port: int, listen_host: str = "127.0.0.1") -> None:
        self.host = listen_host
        """Where it listens."""
        self.port = 0
        """Where it listens, 0 before it does: a free port, which it keeps."""
        self._upstream = (host, port)
        self._delay_s = 0.0
        self._moving = asyncio.Event()
        self._moving.set()
        self._listening: socket.socket | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.cut()

    @property
    def connections(self) -> int:
        """How many connections there are now."""
        return len(self._connections)

    async def slow(self, ms: float) -> None:
        """Delays every byte of either direction by `ms` from now on: an answer takes twice as long. Order is kept."""
        self._delay_s = ms / 1000

    async def freeze(self) -> None:
        """Moves nothing from now on; connections stay, and new ones are accepted."""
        self._moving.clear()

    async def cut(self) -> None:
        """Resets all connections and refuses new ones."""
        if self._listening is not None:
            asyncio.get_running_loop().remove_reader(self._listening)
            self._listening.close()
            self._listening = None
        await asyncio.sleep(0)  # a connection that was accepted last begins, so that it can end
        for connection in self._connections:
            connection.cancel()
        if self._connections:
            await asyncio.wait(self._connections)

    async def heal(self) -> None:
        """Passes everything on at once again, on the same port; what a frozen relay has taken is delivered."""
        self._delay_s = 0.0
        self._moving.set()
        if self._listening is None:
            self._listen()

    def _listen(self) -> None:
        # Not asyncio's server: on Python 3.11 one that is closed in the moment of accepting leaves a connection behind.
        self._listening = listening = socket.create_server((self.host, self.port), backlog=BACKLOG)
        listening.setblocking(False)
        self.port = int(listening.getsockname()[1])
        asyncio.get_running_loop().add_reader(listening, self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        try:
            accepted, _ = listening.accept()
        except OSError:
            return  # it has been given up again
        connection = asyncio.create_task(self._carry(accepted), name="relayed connection")
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _carry(self, accepted: socket.socket) -> None:
        """Runs one connection until either side ends it, or it is cut."""
        reader, writer = await asyncio.open_connection(sock=accepted, limit=CHUNK_BYTES)
        writers = [writer]
        try:
            await self._moving.wait()
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                upstream = await asyncio.open_connection(*self._upstream, limit=CHUNK_BYTES)
            writers.append(upstream[1])
            ways = [asyncio.create_task(self._pump(*way)) for way in ((reader, upstream[1]), (upstream[0], writer))]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.wait(ways)
        except OSError:  # no server there; TimeoutError is one of these
            _reset(writer)
        except asyncio.CancelledError:
            for end in writers:
                _reset(end)
            raise
        finally:
            for end in writers:
                end.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carries one direction until its sender ends it or its receiver is gone."""
        loop = asyncio.get_running_loop()
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(CHUNKS_MAX)
        try:
            async with asyncio.TaskGroup() as tasks:
                delivering = tasks.create_task(self._deliver(waiting, writer))
                while data := await reader.read(CHUNK_BYTES):
                    await waiting.put((loop.time() + self._delay_s, data))
                await waiting.join()
                delivering.cancel()
        except* OSError:
            pass  # either side has reset it

    async def _deliver(self, waiting: "asyncio.Queue[tuple[float, bytes]]", writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, data = await waiting.get()
            await asyncio.sleep(due - loop.time())
            await self._moving.wait()
            if writer.is_closing():  # uvloop has no error of its own for this
                raise ConnectionResetError("the receiver is gone")
            writer.write(data)
            await writer.drain()
            waiting.task_done()


class RelayThread:
    """A relay on an event loop and a thread of its own; it listens from the start, and until `close`.

    Each method returns when what it asks for is so; they raise what `Relay` does.
    """

    def __init__(self, host: str, port: int, listen_host: str = "127.0.0.1") -> None:
        self._relay = Relay(host, port, listen_host)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay", daemon=True)
        self._thread.start()
        try:
            self._do(self._relay.__aenter__())
        except BaseException:
            self._stop()
            raise

    def close(self) -> None:
        """Resets all connections and ends the thread."""
        try:
            self.cut()
        finally:
            self._stop()

    @property
    def host(self) -> str:
        """Where it listens."""
        return self._relay.host

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._relay.port

    def slow(self, ms: float) -> None:
        """Delays every byte of either direction by `ms` from now on: an answer takes twice as long. Order is kept."""
        self._do(self._relay.slow(ms))

    def freeze(self) -> None:
        """Moves nothing from now on; connections stay, and new ones are accepted."""
        self._do(self._relay.freeze())

    def cut(self) -> None:
        """Resets all connections and refuses new ones."""
        self._do(self._relay.cut())

    def heal(self) -> None:
        """Passes everything on at once again, on the same port; what a frozen relay has taken is delivered."""
        self._do(self._relay.heal())

    def _do(self, control: Coroutine[Any, Any, Any]) -> None:
        done: Future[Any] = asyncio.run_coroutine_threadsafe(control, self._loop)
        done.result(_CONTROL_TIMEOUT_S)

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(asyncio.sleep(0))  # transports close in the turn after
        self._loop.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):  # the other side was quicker
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
