"""TCP and TLS: the connections that peers open, those opened to peers, and the messages on them.

It understands no SIP but where a message ends (`dispatcher/sip/framing.py`). A connection is named by its other end;
what is sent there goes over it, and without it over a new one, to where the address says that the peer listens.

The bounds: connections in all, of which one too many is closed unheard; connections of one host, in whose favour that
one is closed that was silent for longest; a time for a message to be whole, and one for silence; what waits to be sent.
"""

import asyncio
import errno
import os
import socket
import ssl
import struct
from collections.abc import Coroutine
from typing import Any, Protocol, cast

import structlog

from dispatcher.sip.actions import Address
from dispatcher.sip.framing import PING, PONG, Framer
from dispatcher.sip.grammar import Malformed
from dispatcher.transport.tls import Tls

CONNECTIONS_MAX = 800
"""Connections in all: what a process may have of files where nobody raised that (1,024), less what it needs itself."""

HOST_CONNECTIONS_MAX = 200
"""Connections of one host: many telephones behind one address, and no host can take all there are."""

HANDSHAKE_S = 5.0
"""Longest TLS handshake, and longest wait for a connection to a peer, its handshake included."""

FIRST_S = 32.0
"""Longest silence at the beginning of a connection: 64*T1."""

MESSAGE_S = 10.0
"""Longest time from the beginning of a message to its end."""

IDLE_S = 3600.0
"""Longest silence later. Keep-alives, OPTIONS and session refreshes come more often; a call may do without them."""

PROBE_S, PROBE_INTERVAL_S, PROBES = 60, 15, 4
"""TCP's own keep-alives: after two silent minutes a peer that has vanished is known to have."""

UNACKNOWLEDGED_S = 32
"""Longest time in which a peer acknowledges nothing of what was sent: 64*T1. It also bounds the end of a connection."""

SWEEP_S = 1.0
"""How often connections are looked at for the times above."""

UNSENT_MAX = 262_144
"""Bytes that a peer may leave unread before its connection is cut."""

WAITING_MAX = 64
"""Messages that wait for one connection to be made; further ones are treated as if it had failed."""

ACCEPT_BATCH = 32
"""Connections accepted before other tasks get their turn."""

ACCEPT_AGAIN_S = 1.0
"""Pause after the kernel has run out of files or memory for connections."""

READ_BYTES = 16_384

_BACKLOG = 512
_SHORT_OF = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)

log = structlog.get_logger()


class Ears(Protocol):
    """Who hears what comes over connections, and says from whom one is taken: `dispatcher.transport.driver.Driver`."""

    def takes(self, host: str) -> bool:
        """Whether connections from a host are taken."""

    def received(self, data: bytes, source: Address) -> None:
        """A message has come."""

    def failed(self, to: Address) -> None:
        """What was sent there could not be delivered."""

    def disconnected(self, connection: Address) -> None:
        """A connection is there no more; nobody knows what of the last that was sent has arrived."""

    def notice(self, event: str, host: str, reason: str) -> None:
        """A peer did something that is worth a log line."""


class Streams:
    """All connections of a dispatcher."""

    def __init__(self, ears: Ears) -> None:
        self.ears = ears
        self.buffer = memoryview(bytearray(READ_BYTES))
        """What is read goes through here, and is taken out before anybody else reads."""
        self._loop = asyncio.get_running_loop()
        self._listeners: list[tuple[str, socket.socket]] = []
        self._connections: dict[Address, Connection] = {}
        """The one that was silent for longest comes first."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeping: asyncio.Handle | None = None
        self._tls: Tls | None = None
        self._local = ""

    def listen(self, host: str, port: int, *, shared: bool = False, tls: Tls | None = None) -> int:
        """Opens a listening socket and returns its port; raises OSError when it is taken.

        `shared`: others may listen there too, and the kernel gives each connection to one of them.
        """
        listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind((host, port))
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
        listener.setblocking(False)
        self._tls = tls or self._tls
        self._local = host
        self._listeners.append(("tls" if tls else "tcp", listener))
        return int(listener.getsockname()[1])

    def serve(self) -> None:
        """Starts to take connections."""
        for transport, listener in self._listeners:
            self._loop.add_reader(listener.fileno(), self._accept, transport, listener)

    def close(self) -> None:
        """Takes no more connections and closes those there are; what was sent still goes out."""
        for _, listener in self._listeners:
            self._loop.remove_reader(listener.fileno())
            listener.close()
        self._listeners.clear()
        for task in self._tasks:
            task.cancel()
        for connection in list(self._connections.values()):
            connection.close()
        if self._sweeping:
            self._sweeping.cancel()

    def send(self, data: bytes, to: Address) -> None:
        """Sends one message over the connection that `to` names, or over one to where it listens."""
        connection = self._connections.get(to.connection) or self._connections.get(to.listener) or self._connect(to)
        if connection is None or not connection.send(data, to):
            self._loop.call_soon(self.ears.failed, to)

    def heard(self, connection: "Connection") -> None:
        """Called when something came over a connection."""
        self._connections[connection.address] = self._connections.pop(connection.address)

    def gone(self, connection: "Connection") -> None:
        """Called when a connection is not to be used any more."""
        if self._connections.get(connection.address) is connection:
            del self._connections[connection.address]

    def _connect(self, to: Address) -> "Connection | None":
        address = to.listener
        if not self._listeners or len(self._connections) >= CONNECTIONS_MAX:
            return None
        connection = self._add(address)
        self._begin(self._open(connection))
        return connection

    async def _open(self, connection: "Connection") -> None:
        """Opens a connection to a peer."""
        host, port = connection.address.host, connection.address.port
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                opened = await self._dial(host, port)
                secure = self._tls.client if connection.address.transport == "tls" and self._tls else None
                name = host if secure else None
                await self._loop.create_connection(lambda: connection, sock=opened, ssl=secure, server_hostname=name)
        except (OSError, TimeoutError) as error:
            self.ears.notice("sip.connection_failed", host, _reason(error))
            connection.fail()

    async def _dial(self, host: str, port: int) -> socket.socket:
        """Returns a connected socket, from the address that is listened on; raises OSError."""
        opened = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            opened.setblocking(False)
            opened.bind((self._local, 0))
            _watch_over(opened)
            await self._loop.sock_connect(opened, (host, port))
        except BaseException:
            opened.close()
            raise
        return opened

    def _accept(self, transport: str, listener: socket.socket) -> None:
        for _ in range(ACCEPT_BATCH):
            try:
                accepted, (host, port, *_) = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _SHORT_OF:
                    self._pause(transport, listener, error)
                    return
                continue  # a peer that has gone again
            self._take(accepted, Address(transport, host, port))

    def _pause(self, transport: str, listener: socket.socket, error: OSError) -> None:
        """Lets connections wait in the kernel for a while: those that end leave room."""
        log.warning("sip.accept_paused", reason=error.strerror)
        self._loop.remove_reader(listener.fileno())

        def resume() -> None:
            if (transport, listener) in self._listeners:
                self._loop.add_reader(listener.fileno(), self._accept, transport, listener)

        self._loop.call_later(ACCEPT_AGAIN_S, resume)

    def _take(self, accepted: socket.socket, address: Address) -> None:
        if refusal := self._refusal(address.host):
            self.ears.notice("sip.connection_refused", address.host, refusal)
            # With a reset: the peer knows at once, and nothing of it is left here.
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
            accepted.close()
            return
        accepted.setblocking(False)
        _watch_over(accepted)
        self._begin(self._welcome(accepted, self._add(address)))

    def _refusal(self, host: str) -> str:
        """Why a host gets no connection, or empty. A host with many gives one up for it."""
        if not self.ears.takes(host):
            return "not allowed"
        if len(self._connections) >= CONNECTIONS_MAX:
            return "too many connections"
        own = [each for each in self._connections.values() if each.address.host == host]
        if len(own) >= HOST_CONNECTIONS_MAX:
            self.ears.notice("sip.connection_closed", host, "too many connections")
            own[0].close()
        return ""

    async def _welcome(self, accepted: socket.socket, connection: "Connection") -> None:
        """Serves a connection that a peer has opened, after its handshake if it is to be TLS."""
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                secure = self._tls.server if connection.address.transport == "tls" and self._tls else None
                await self._loop.connect_accepted_socket(lambda: connection, accepted, ssl=secure)
        except (OSError, TimeoutError) as error:
            self.ears.notice("sip.connection_failed", connection.address.host, _reason(error))
            connection.fail()

    def _add(self, address: Address) -> "Connection":
        connection = Connection(self, address, self._loop)
        self._connections[address] = connection
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(SWEEP_S, self._sweep)
        return connection

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work, name="connection")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _sweep(self) -> None:
        now = self._loop.time()
        for connection in [each for each in self._connections.values() if each.due <= now]:
            connection.expire()
        self._sweeping = self._loop.call_later(SWEEP_S, self._sweep) if self._connections else None


class Connection(asyncio.BufferedProtocol):
    """One connection, from its handshake to its end."""

    def __init__(self, streams: Streams, address: Address, loop: asyncio.AbstractEventLoop) -> None:
        self.address = address
        self.due = loop.time() + FIRST_S
        """When it is closed, unless something comes."""
        self._streams = streams
        self._loop = loop
        self._framer = Framer()
        self._transport: asyncio.Transport | None = None
        self._waiting: list[tuple[bytes, Address]] = []
        """What is to be sent once it is made."""
        self._over = False

    def send(self, data: bytes, to: Address) -> bool:
        """Sends one message, or keeps it until there is a connection; False when too many wait already."""
        if self._transport:
            self._transport.write(data)
        elif len(self._waiting) < WAITING_MAX:
            self._waiting.append((data, to))
        else:
            return False
        return True

    def close(self) -> None:
        """Closes it once what was sent is out; nothing is sent over it any more."""
        self._over = True
        self._streams.gone(self)
        if self._transport:
            self._transport.close()

    def fail(self) -> None:
        """It has not come about."""
        self.close()
        for to in dict.fromkeys(to for _, to in self._waiting):
            self._streams.ears.failed(to)

    def expire(self) -> None:
        """Its time is over."""
        if self._framer.unfinished:
            self._streams.ears.notice("sip.connection_closed", self.address.host, "message takes too long")
        self.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop once the handshake is done."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=UNSENT_MAX)
        for data, _ in self._waiting:
            self._transport.write(data)
        self._waiting.clear()
        if self._over:  # meanwhile
            self._transport.close()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Called by the loop before it reads."""
        return self._streams.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Called by the loop with what it has read."""
        if self._over:
            return
        had_begun = self._framer.unfinished
        self._framer.feed(self._streams.buffer[:nbytes])
        self._streams.heard(self)
        try:
            any_came = self._take_messages()
        except Malformed as error:
            self._streams.ears.notice("sip.connection_closed", self.address.host, str(error))
            self.close()
            return
        if not self._framer.unfinished:
            self.due = self._loop.time() + IDLE_S
        elif any_came or not had_begun:
            self.due = self._loop.time() + MESSAGE_S

    def _take_messages(self) -> bool:
        """Hands on all that is whole; returns whether anything was. Raises Malformed."""
        any_came = False
        while not self._over and (message := self._framer.next()) is not None:
            any_came = True
            if message == PING:
                self.send(PONG, self.address)
            else:
                self._streams.ears.received(message, self.address)
        return any_came

    def pause_writing(self) -> None:
        """Called by the loop when too much is unsent: a peer that reads so little gets no calls done."""
        self._streams.ears.notice("sip.connection_closed", self.address.host, "reads nothing")
        self._over = True
        self._streams.gone(self)
        if self._transport:
            self._transport.abort()

    def eof_received(self) -> None:
        """Called by the loop when the peer sends no more; it closes the connection then, for both directions."""
        self._over = True
        self._streams.gone(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop at the end, whoever wanted it."""
        self._over = True
        self._streams.gone(self)
        self._streams.ears.disconnected(self.address)


def _watch_over(connection: socket.socket) -> None:
    """Has the kernel find out whether the peer is there, and send small messages at once."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, PROBE_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, PROBE_INTERVAL_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * UNACKNOWLEDGED_S)


def _reason(error: OSError | TimeoutError) -> str:
    """Returns what to log: an error's own text may show what a peer wrote."""
    if isinstance(error, ssl.SSLError):
        return (error.reason or "TLS").lower().replace("_", " ")
    if isinstance(error, TimeoutError):
        return "timeout"
    return os.strerror(error.errno) if error.errno else type(error).__name__
