"""Peers on real loopback sockets, and a dispatcher in this process among them.

It decides nothing about the dispatcher: a worker here is a script that answers, a caller is the test itself.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from typing import Any, cast

from dispatcher.agents import AgentDirectory
from dispatcher.app import Dispatcher
from dispatcher.sip.actions import Address
from dispatcher.sip.framing import Framer
from dispatcher.sip.message import Request, parse
from dispatcher.telemetry import Notes
from shared.ids import CallId
from shared.settings import DispatcherSettings
from tests.unit.dispatcher.ladder import SDP, SECRET, header_of, request, response, summary
from tests.unit.dispatcher.pool import Pool

PATIENCE_S = 20.0
"""How long a test waits for something that must come."""


class Peer(asyncio.DatagramProtocol):
    """A UDP socket with a queue of what it got."""

    def __init__(self) -> None:
        self.inbox: asyncio.Queue[bytes] = asyncio.Queue()
        self.seen: list[str] = []
        """Summaries of everything that came."""
        self.proxy = ("127.0.0.1", 0)

    async def open(self, proxy_port: int = 0, host: str = "127.0.0.1") -> "Peer":
        """Opens the socket; `proxy_port` is where `send` sends to."""
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(host, 0))
        self.address = Address("udp", *self.transport.get_extra_info("sockname")[:2])
        self.proxy = ("127.0.0.1", proxy_port)
        return self

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Called by the loop."""
        if data.strip():
            self.seen.append(summary(data))
            self.inbox.put_nowait(data)
            self.got(data, addr)

    def got(self, data: bytes, source: tuple[str, int]) -> None:
        """Called with each message; a script answers here."""

    def send(self, data: bytes) -> None:
        """Sends to the dispatcher."""
        self.transport.sendto(data, self.proxy)

    async def expect(self, wanted: str) -> bytes:
        """Returns the next message with this summary and passes over others."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                data = await self.inbox.get()
                if summary(data) == wanted:
                    return data

    def request(self, method: str, uri: str = "", **changes: Any) -> bytes:
        """Returns a request from this peer."""
        body = SDP if method == "INVITE" else b""
        uri = uri or f"sip:100@127.0.0.1:{self.proxy[1]}"
        return request(method, uri, source=self.address, body=body, **changes)

    def close(self) -> None:
        """Closes the socket."""
        self.transport.close()


class Connected(Peer):
    """A peer with a connection instead, which may listen as well."""

    def __init__(self, transport: str, context: ssl.SSLContext | None = None) -> None:
        """`context` is for TLS, of a client."""
        super().__init__()
        self._over = transport
        self._context = context
        self._server: asyncio.Server | None = None
        self.closed = asyncio.Event()
        """Set when the dispatcher has closed a connection, or this peer has."""

    async def listen(self, context: ssl.SSLContext | None = None) -> None:
        """Opens a port for the dispatcher's own connections, which stands in Via and Contact."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Line(self), "127.0.0.1", 0, ssl=context)
        self._listens = int(self._server.sockets[0].getsockname()[1])

    async def open(self, proxy_port: int = 0, host: str = "127.0.0.1") -> "Connected":
        """Connects to the dispatcher."""
        loop = asyncio.get_running_loop()
        name = "127.0.0.1" if self._context else None
        line, _ = await loop.create_connection(
            lambda: _Line(self), "127.0.0.1", proxy_port, ssl=self._context, server_hostname=name, local_addr=(host, 0)
        )
        self._line: asyncio.WriteTransport = line
        own_host, own_port = line.get_extra_info("sockname")[:2]
        self.address = Address(self._over, own_host, own_port, self._listens if self._server else 0)
        self.proxy = ("127.0.0.1", proxy_port)
        return self

    def send(self, data: bytes) -> None:
        """Sends over the connection that was used last, whoever opened it."""
        self._line.write(data)

    def take(self, data: bytes, line: asyncio.WriteTransport) -> None:
        """Called with each message."""
        self._line = line
        self.datagram_received(data, self.proxy)

    def hang_up(self) -> None:
        """Closes the connection."""
        self._line.close()

    def close(self) -> None:
        """Closes everything."""
        self._line.abort()
        if self._server:
            self._server.close()


class _Line(asyncio.Protocol):
    """One connection of a peer."""

    def __init__(self, peer: Connected) -> None:
        self._peer = peer
        self._framer = Framer()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        self._framer.feed(data)
        while (message := self._framer.next()) is not None:
            self._peer.take(message, self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._peer.closed.set()


class Worker(Peer):
    """A user agent server that answers INVITEs with `statuses`, and everything else with 200."""

    def __init__(self, *statuses: int) -> None:
        super().__init__()
        self.statuses = statuses
        self.invites: dict[bytes, bytes] = {}
        """The INVITEs by their branch: what came, without retransmissions."""

    def got(self, data: bytes, source: tuple[str, int]) -> None:
        message = parse(data)
        if not isinstance(message, Request) or message.method == b"ACK":
            return
        if message.method == b"INVITE":
            self.invites.setdefault(message.via.branch, data)
            self.proxy = source
            for status in self.statuses:
                self.answer(data, status, source)
            return
        self.answer(data, 200, source)
        if message.method == b"CANCEL":
            self.answer(self.invites[message.via.branch], 487, source)

    @property
    def first(self) -> bytes:
        """The first INVITE."""
        return next(iter(self.invites.values()))

    def answer(self, data: bytes, status: int, to: tuple[str, int] | None = None) -> None:
        """Answers a request to the dispatcher it came from."""
        contact = f"Contact: <sip:{self.address.host}:{self.address.port}>"
        self.transport.sendto(response(data, status, headers=(contact,)), to or self.proxy)


class Told:
    """What the dispatcher has told of calls."""

    def __init__(self) -> None:
        self.refusals: list[tuple[int, str]] = []
        """Status and reason of calls that were not placed."""
        self.orphans: list[CallId] = []
        """Calls of dead workers whose callers know."""

    def refused(self, call_id: CallId, status: int, reason: str) -> None:
        """Called when a call has not been placed."""
        self.refusals.append((status, reason))

    def settled(self, call_id: CallId) -> None:
        """Called when an orphan's caller knows, or cannot be told."""
        self.orphans.append(call_id)


class Scene:
    """A dispatcher, its pool, and peers that end with it."""

    def __init__(self, pool: Pool, dispatcher: Dispatcher, told: Told, port: int) -> None:
        self.pool = pool
        self.dispatcher = dispatcher
        self.told = told
        self.port = port
        self.peers: list[Peer] = []

    async def caller(self, host: str = "127.0.0.1") -> Peer:
        """Returns a caller."""
        peer = await Peer().open(self.port, host)
        self.peers.append(peer)
        return peer


@asynccontextmanager
async def dispatching(pool: Pool, **settings: object) -> AsyncIterator[Scene]:
    """Runs a dispatcher over `pool` for the block."""
    options: dict[str, object] = {
        "lease_secret": SECRET,
        "sip_local_address": "127.0.0.1",
        "sip_port": 0,
        "sip_allowed_peers": (ip_network("127.0.0.1/32"),),
        "sip_invite_rate": 10_000.0,
        **settings,
    }
    read = DispatcherSettings(_env_file=None, **options)  # type: ignore[call-arg, arg-type]
    agents, told = AgentDirectory(read), Told()
    await agents.open()
    dispatcher = Dispatcher(read, pool, pool, agents, told, Notes(None))
    await dispatcher.start()
    running = asyncio.create_task(dispatcher.run())
    async with asyncio.timeout(PATIENCE_S):
        address = await asyncio.shield(dispatcher.listening)
    scene = Scene(pool, dispatcher, told, address.port)
    try:
        yield scene
    finally:
        dispatcher.stop()
        await running
        for peer in scene.peers:
            peer.close()


@asynccontextmanager
async def workers(pool: Pool, *scripts: Worker, capacity: int = 10) -> AsyncIterator[None]:
    """Opens workers w1, w2 ... and registers them for the block."""
    for index, worker in enumerate(scripts, 1):
        await worker.open()
        pool.add(f"w{index}", worker.address.host, worker.address.port, capacity)
    try:
        yield
    finally:
        for worker in scripts:
            worker.close()


def ack_for(peer: Peer, answer: bytes, **changes: Any) -> bytes:
    """Returns the ACK for an answer to the peer's INVITE: in the dialog for a 2xx, hop by hop for others."""
    tag = header_of(answer, "To").partition("tag=")[2]
    if not summary(answer).startswith("2"):
        return peer.request("ACK", to_tag=tag, **changes)
    return in_dialog(peer, answer, "ACK", branch="z9hG4bKack", **changes)


def in_dialog(peer: Peer, answer: bytes, method: str, *, branch: str, cseq: int = 1, **changes: Any) -> bytes:
    """Returns a request in the dialog that a 2xx made."""
    tag = header_of(answer, "To").partition("tag=")[2]
    target = header_of(answer, "Contact").strip("<>")
    message = parse(answer)
    assert message
    routes = [value.decode() for value in reversed(message.values(b"record-route"))]
    return peer.request(
        method, target, branch=branch, to_tag=tag, cseq=cseq, headers=(f"Route: {', '.join(routes)}",), **changes
    )
