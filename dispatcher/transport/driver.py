"""The driver: messages into the core, its actions out, its timers on the event loop.

It understands no SIP. Each replica has a UDP socket of its own, which nobody else reads. Replicas on one host can share
another one, and the ports for TCP and TLS: the kernel gives each caller to one of them, and to the next when that one
dies. What goes to workers leaves from the own socket, so that ICMP errors about them come back here; everything else
that goes over UDP from the shared one, where callers send to, but for what is answered at once: that leaves from where
it came in.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Protocol

import structlog

from dispatcher.sip.actions import Action, Address, Order, Report, Send
from dispatcher.transport.streams import Streams
from dispatcher.transport.tls import Tls
from dispatcher.transport.udp import UdpSocket

FREE_PORT_TRIES = 20
"""A port that is free over UDP may not be so over TCP: another one is taken then."""

log = structlog.get_logger()


class Core(Protocol):
    """What is driven: `dispatcher.sip.proxy.Proxy`."""

    def receive(self, data: bytes, source: Address, now: float) -> list[Action]:
        """Handles a datagram, or a message from a connection."""

    def unreachable(self, address: Address, now: float) -> list[Action]:
        """Handles an ICMP error, or a connection that cannot be had."""

    def disconnected(self, connection: Address, now: float) -> list[Action]:
        """Handles the end of a connection."""

    def wake(self, now: float) -> list[Action]:
        """Runs timers."""

    def wakes_at(self) -> float | None:
        """Returns when the next timer is due."""

    def is_worker(self, address: Address) -> bool:
        """Whether a worker listens there."""

    def is_peer(self, host: str) -> bool:
        """Whether connections from a host are taken."""


class Driver:
    """Runs the core on the event loop."""

    def __init__(self, handle: Callable[[Order], None]) -> None:
        """`handle` is given every action but Send."""
        self._core: Core
        self._own: UdpSocket
        self._shared: UdpSocket | None = None
        self._sockets: list[UdpSocket] = []
        self._streams = Streams(self)
        self._handle = handle
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0
        self._closed = False

    def listen(self, host: str, port: int, *, tcp: bool = False) -> int:
        """Opens the own socket, listens on the same port over TCP if wanted, and returns it; raises OSError."""
        self._own = self._open(host, port, shared=False, tcp=tcp)
        return self._own.port

    def share(self, host: str, port: int, *, tcp: bool = False) -> int:
        """Does the same for the shared socket; raises OSError when somebody has the port who does not share it."""
        self._shared = self._open(host, port, shared=True, tcp=tcp)
        return self._shared.port

    def listen_tls(self, host: str, port: int, tls: Tls, *, shared: bool = False) -> int:
        """Listens over TLS, together with others that do the same if it is to be `shared`; raises OSError."""
        return self._streams.listen(host, port, shared=shared, tls=tls)

    def serve(self, core: Core) -> None:
        """Starts to receive."""
        self._core = core
        for udp in self._sockets:
            udp.serve(partial(self._datagram, udp), self.failed)
        self._streams.serve()

    def close(self) -> None:
        """Stops receiving and waking."""
        self._closed = True
        for udp in self._sockets:
            udp.close()
        self._streams.close()
        if self._timer:
            self._timer.cancel()

    def run(self, step: Callable[[float], list[Action]], source: Address | None = None) -> None:
        """Gives `now` to a step of the core and carries out what comes back.

        Whatever goes wrong in it costs this one step: it is logged with its source, and the next datagram is served.
        """
        self._run(step, source, None)

    def takes(self, host: str) -> bool:
        """Whether connections from a host are taken."""
        return self._core.is_peer(host)

    def received(self, data: bytes, source: Address) -> None:
        """Gives a message from a connection to the core."""
        self.run(lambda now: self._core.receive(data, source, now), source)

    def failed(self, to: Address) -> None:
        """Tells the core that nobody is reached there."""
        if not self._closed:
            self.run(lambda now: self._core.unreachable(to, now), to)

    def disconnected(self, connection: Address) -> None:
        """Tells the core of the end of a connection."""
        if not self._closed:
            self.run(lambda now: self._core.disconnected(connection, now), connection)

    def notice(self, event: str, host: str, reason: str) -> None:
        """Reports what a peer did."""
        self._handle(Report(event, {"source": host, "reason": reason}))

    def _open(self, host: str, port: int, *, shared: bool, tcp: bool) -> UdpSocket:
        for tries_left in reversed(range(1 if port else FREE_PORT_TRIES)):
            udp = UdpSocket(host, port, shared=shared)
            try:
                if tcp:
                    self._streams.listen(host, udp.port, shared=shared)
            except OSError as error:
                udp.close()
                if not tries_left:
                    raise OSError(error.errno, f"{error.strerror} (TCP)") from error
            else:
                self._sockets.append(udp)
                break
        return udp

    def _run(self, step: Callable[[float], list[Action]], source: Address | None, came_to: UdpSocket | None) -> None:
        try:
            for action in step(self._loop.time()):
                if not isinstance(action, Send):
                    self._handle(action)
                elif action.to.transport != "udp":
                    self._streams.send(action.data, action.to)
                else:
                    udp = came_to if came_to and action.to == source else self._socket_to(action.to)
                    udp.send(action.data, action.to)
        except Exception:
            log.exception("sip.internal_error", source=source.host if source else "")
        self._schedule()

    def _socket_to(self, address: Address) -> UdpSocket:
        return self._own if self._shared is None or self._core.is_worker(address) else self._shared

    def _datagram(self, udp: UdpSocket, data: bytes, source: Address) -> None:
        self._run(lambda now: self._core.receive(data, source, now), source, udp)

    def _wake(self) -> None:
        self._timer = None
        self.run(self._core.wake)

    def _schedule(self) -> None:
        """Keeps one timer, never later than the core asks for; an early one finds nothing to do and is set again."""
        at = self._core.wakes_at()
        if at is not None and (self._timer is None or at < self._timer_at):
            if self._timer:
                self._timer.cancel()
            self._timer, self._timer_at = self._loop.call_at(at, self._wake), at
