"""The UDP side: datagrams into the core, its actions out, its timers on the event loop.

It understands no SIP. Each replica has a socket of its own, which nobody else reads. Replicas on one host can share
another one: the kernel gives each caller to one of them, and to the next when that one dies. What goes to workers
leaves from the own socket, so that ICMP errors about them come back here; everything else from the shared one, where
callers send to, but for what is answered at once: that leaves from where it came in.
"""

import asyncio
import errno
import select
import socket
import struct
from collections.abc import Callable
from functools import partial
from typing import Protocol

import structlog

from dispatcher.sip.actions import Action, Address, Order, Send
from dispatcher.sip.message import MAX_BYTES

BATCH = 64
"""Datagrams read before other tasks get their turn."""

BUFFER_BYTES = 4 * 1024 * 1024
"""Receive buffer asked for: two seconds of a flood; the kernel grants what net.core.rmem_max allows."""

# Linux, <linux/in.h> and <linux/in6.h>; the socket module does not name them
_IP_RECVERR = 11
_IPV6_RECVERR = 25
_ERROR = struct.Struct("=IBBBB")
"""Start of struct sock_extended_err: errno, origin, type, code, pad."""
_FROM_ICMP = (2, 3)

log = structlog.get_logger()


class Core(Protocol):
    """What is driven: `dispatcher.sip.proxy.Proxy`."""

    def receive(self, data: bytes, source: Address, now: float) -> list[Action]:
        """Handles a datagram."""

    def unreachable(self, address: Address, now: float) -> list[Action]:
        """Handles an ICMP error."""

    def wake(self, now: float) -> list[Action]:
        """Runs timers."""

    def wakes_at(self) -> float | None:
        """Returns when the next timer is due."""

    def is_worker(self, address: Address) -> bool:
        """Whether a worker listens there."""


class Driver:
    """Runs the core on the event loop."""

    def __init__(self, handle: Callable[[Order], None]) -> None:
        """`handle` is given every action but Send."""
        self._core: Core
        self._own: UdpSocket
        self._shared: UdpSocket | None = None
        self._sockets: list[UdpSocket] = []
        self._handle = handle
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.Handle | None = None
        self._timer_at = 0.0

    def listen(self, host: str, port: int) -> int:
        """Opens the own socket and returns its port; raises OSError when it is taken."""
        self._own = UdpSocket(host, port)
        self._sockets.append(self._own)
        return self._own.port

    def share(self, host: str, port: int) -> int:
        """Opens the shared socket and returns its port; raises OSError when somebody has it who does not share it."""
        self._shared = UdpSocket(host, port, shared=True)
        self._sockets.append(self._shared)
        return self._shared.port

    def serve(self, core: Core) -> None:
        """Starts to receive."""
        self._core = core
        for udp in self._sockets:
            udp.serve(partial(self._datagram, udp), self._unreachable)

    def close(self) -> None:
        """Stops receiving and waking."""
        for udp in self._sockets:
            udp.close()
        if self._timer:
            self._timer.cancel()

    def run(self, step: Callable[[float], list[Action]], source: Address | None = None) -> None:
        """Gives `now` to a step of the core and carries out what comes back.

        Whatever goes wrong in it costs this one step: it is logged with its source, and the next datagram is served.
        """
        self._run(step, source, None)

    def _run(self, step: Callable[[float], list[Action]], source: Address | None, came_to: "UdpSocket | None") -> None:
        try:
            for action in step(self._loop.time()):
                if isinstance(action, Send):
                    udp = came_to if came_to and action.to == source else self._socket_to(action.to)
                    udp.send(action.data, action.to)
                else:
                    self._handle(action)
        except Exception:
            log.exception("sip.internal_error", source=source.host if source else "")
        self._schedule()

    def _socket_to(self, address: Address) -> "UdpSocket":
        return self._own if self._shared is None or self._core.is_worker(address) else self._shared

    def _datagram(self, udp: "UdpSocket", data: bytes, source: Address) -> None:
        self._run(lambda now: self._core.receive(data, source, now), source, udp)

    def _unreachable(self, address: Address) -> None:
        self.run(lambda now: self._core.unreachable(address, now), address)

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


class UdpSocket:
    """A UDP socket whose ICMP errors say which destination they are about."""

    def __init__(self, host: str, port: int, *, shared: bool = False) -> None:
        """Binds it, together with others that do the same if it is to be `shared`; raises OSError."""
        v6 = ":" in host
        self._loop = asyncio.get_running_loop()
        self._received: Callable[[bytes, Address], None]
        self._failed: Callable[[Address], None]
        self._socket = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            if shared:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self._socket.bind((host, port))
        except OSError:
            self._socket.close()
            raise
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        self._epoll = _watch_with_errors(self._socket, v6) if hasattr(select, "epoll") else None
        self._watched = self._epoll.fileno() if self._epoll else self._socket.fileno()

    @property
    def port(self) -> int:
        """The port it is bound to."""
        return int(self._socket.getsockname()[1])

    def serve(self, received: Callable[[bytes, Address], None], failed: Callable[[Address], None]) -> None:
        """Gives each datagram and its source to `received`, and each destination where nobody listens to `failed`."""
        self._received, self._failed = received, failed
        self._loop.add_reader(self._watched, self._readable)

    def close(self) -> None:
        """Closes it."""
        self._loop.remove_reader(self._watched)
        if self._epoll:
            self._epoll.close()
        self._socket.close()

    def send(self, data: bytes, to: Address) -> None:
        """Sends one datagram, or drops it when the kernel's buffer is full, as UDP does."""
        for last in (False, True):
            try:
                self._socket.sendto(data, (to.host, to.port))
                return
            except BlockingIOError:
                return
            except OSError:
                # The first error may be about an earlier datagram: the kernel reports it here and has sent nothing.
                if last:
                    self._loop.call_soon(self._failed, to)

    def _readable(self) -> None:
        if self._epoll and any(events & select.EPOLLERR for _, events in self._epoll.poll(0)):
            self._read_errors()
        for _ in range(BATCH):
            try:
                data, address = self._socket.recvfrom(MAX_BYTES + 1)
            except BlockingIOError:
                return
            except OSError:
                continue  # the errors behind it are in the error queue
            self._received(data, Address("udp", address[0], address[1]))

    def _read_errors(self) -> None:
        for _ in range(BATCH):
            try:
                _, ancillary, _, address = self._socket.recvmsg(0, 512, socket.MSG_ERRQUEUE)
            except OSError:
                return
            for _, _, data in ancillary:
                number, origin, *_ = _ERROR.unpack_from(data)
                if origin in _FROM_ICMP and number != errno.EMSGSIZE:
                    self._failed(Address("udp", address[0], address[1]))


def _watch_with_errors(udp: socket.socket, v6: bool) -> "select.epoll":
    """Returns an epoll to watch in the socket's stead. libuv stops watching a descriptor that shows an error itself."""
    if v6:
        udp.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
    else:
        udp.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
    epoll = select.epoll()
    epoll.register(udp.fileno(), select.EPOLLIN)
    return epoll
