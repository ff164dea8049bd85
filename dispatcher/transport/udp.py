"""A UDP socket that says which destination an ICMP error is about. It understands no SIP."""

import asyncio
import errno
import select
import socket
import struct
from collections.abc import Callable

from dispatcher.sip.actions import Address
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
