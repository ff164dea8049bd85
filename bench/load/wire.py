"""SIP over one UDP socket: messages in and out with their times, and ICMP errors to those whose request it was.

It sends nothing again and knows no calls: `transaction.py` and `sip.py` do, and say what all of them leave out.
"""

import asyncio
import errno
import itertools
import re
import secrets
import select
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

BATCH = 64
"""Datagrams read before other tasks get their turn."""

BUFFER_BYTES = 4 * 1024 * 1024
"""Receive buffer asked for; the kernel grants what net.core.rmem_max allows."""

# <asm-generic/socket.h>, <linux/in.h>, <linux/errqueue.h>; the socket module does not name them
_SO_TIMESTAMPNS = 35
_IP_RECVERR = 11
_FROM_ICMP = 2
_TIMESPEC = struct.Struct("@ll")
_ANCILLARY_BYTES = socket.CMSG_SPACE(_TIMESPEC.size)
_ERROR = struct.Struct("=IBBBB")
"""Start of struct sock_extended_err: errno, origin, type, code, pad."""
_ERROR_BYTES = 512

_REASONS = {
    180: "Ringing", 200: "OK", 403: "Forbidden", 481: "Call/Transaction Does Not Exist", 488: "Not Acceptable Here",
    482: "Loop Detected", 487: "Request Terminated", 501: "Not Implemented", 503: "Service Unavailable",
}  # fmt: skip

_BRANCH = re.compile(r";\s*branch=([^;,\s]+)", re.IGNORECASE)
_METHOD = re.compile(r"[A-Z]+")
_TAG = re.compile(r";\s*tag=([^;,\s]+)", re.IGNORECASE)
_BRACKETED = re.compile(r"<([^>]+)>")
_HOST_PORT = re.compile(r"sip:(?:[^@;?]*@)?([\d.]+)(?::(\d+))?", re.IGNORECASE)

UdpAddress = tuple[str, int]


class Message:
    """A SIP message as it came: start line, header values by lower-case name, body."""

    __slots__ = ("body", "headers", "method", "source", "start", "status")

    def __init__(self, data: bytes, source: UdpAddress) -> None:
        """Parses a datagram; raises ValueError when it is no SIP message."""
        head, end, self.body = data.decode("utf-8", "surrogateescape").partition("\r\n\r\n")
        self.start, *lines = head.split("\r\n")
        self.source = source
        self.headers: dict[str, list[str]] = {}
        for line in lines:
            name, _, value = line.partition(":")
            self.headers.setdefault(name.rstrip().lower(), []).append(value.strip())
        if not end or not all(self.first(name) for name in ("via", "from", "to", "call-id", "cseq")):
            raise ValueError("not a SIP message")
        self.status = int(self.start[8:11]) if self.start.startswith("SIP/2.0 ") else 0
        """0 for a request."""
        self.method = self.first("cseq").rpartition(" ")[2]
        """For a response, the method of what it answers."""

    def first(self, name: str) -> str:
        """Returns the first value of a header, or nothing."""
        values = self.headers.get(name)
        return values[0] if values else ""

    def all(self, name: str) -> list[str]:
        """Returns all header lines of that name, in order."""
        return self.headers.get(name, [])

    @property
    def call_id(self) -> str:
        """The Call-ID."""
        return self.headers["call-id"][0]

    @property
    def from_tag(self) -> str:
        """The From tag, or nothing."""
        return _found(_TAG, self.first("from"))

    @property
    def to_tag(self) -> str:
        """The To tag: nothing outside a dialog."""
        return _found(_TAG, self.first("to"))

    @property
    def branch(self) -> str:
        """The branch of the topmost Via: names the transaction (RFC 3261 section 17.1.3)."""
        return _found(_BRANCH, self.first("via"))

    @property
    def contact(self) -> str:
        """The URI of the Contact."""
        value = self.first("contact")
        return _found(_BRACKETED, value) or value.partition(";")[0]

    @property
    def record_route(self) -> list[str]:
        """The Record-Route URIs, topmost first."""
        return _BRACKETED.findall(",".join(self.all("record-route")))


class Pending(Protocol):
    """A request that was sent and may hear something."""

    def answered(self, message: Message, received_ns: int) -> None:
        """Called with each response."""

    def unreachable(self) -> None:
        """Called when ICMP says that nobody listens where it was sent."""

    def end(self) -> None:
        """Stops sending and listening."""


class Endpoint:
    """One socket, the requests sent from it, and what is needed to write messages."""

    def __init__(self, host: str, port: int = 0) -> None:
        self.loop = asyncio.get_running_loop()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            self._socket.bind((host, port))
        except OSError:
            self._socket.close()
            raise
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self.host, self.port = self._socket.getsockname()
        self._prefix = secrets.token_hex(5)
        self._numbers = itertools.count()
        self.pending: dict[tuple[str, str], Pending] = {}
        """Our requests by branch and method: a CANCEL has the branch of its INVITE (RFC 3261 section 9.1)."""
        # libuv stops watching a descriptor that shows an error itself; so it watches an epoll that watches the socket.
        self._socket.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
        self._epoll = select.epoll()
        self._epoll.register(self._socket, select.EPOLLIN)
        self.loop.add_reader(self._epoll, self._readable)

    def close(self) -> None:
        """Closes the socket and forgets all calls; nothing is sent."""
        self.loop.remove_reader(self._epoll)
        self._epoll.close()
        self._socket.close()
        for sent in list(self.pending.values()):
            sent.end()

    def unique(self) -> str:
        """Returns a token that nobody else uses."""
        return f"{self._prefix}{next(self._numbers):x}"

    def branch(self) -> str:
        """Returns the branch of a new request."""
        return f"z9hG4bK{self.unique()}"

    def send(self, data: bytes, target: UdpAddress) -> None:
        """Sends a datagram, or drops it when it cannot be sent, as UDP does."""
        for _ in range(2):  # an error may be about an earlier datagram: the kernel tells it here, and has sent nothing
            with suppress(OSError):
                self._socket.sendto(data, target)
                return

    def send_request(self, data: bytes, target: UdpAddress) -> None:
        """Sends one of our requests."""
        self.send(data, target)

    def request(
        self,
        method: str,
        uri: str,
        branch: str,
        names: Sequence[str],
        cseq: int,
        more: Sequence[str] = (),
        body: str = "",
    ) -> bytes:
        """Returns a request; `names` are its From, To and Call-ID lines."""
        via = f"Via: SIP/2.0/UDP {self.host}:{self.port};branch={branch};rport"
        start = (f"{method} {uri} SIP/2.0", via, "Max-Forwards: 70", *names, f"CSeq: {cseq} {method}")
        return _rendered([*start, f"Contact: <sip:load@{self.host}:{self.port}>", *more], body)

    def response(self, request: Message, status: int, tag: str = "", more: Sequence[str] = (), body: str = "") -> bytes:
        """Returns a response; what is copied from the request is what RFC 3261 sections 8.2.6.2 and 12.1.1 name."""
        to = request.first("to")
        lines = [
            f"SIP/2.0 {status} {_REASONS[status]}",
            *(f"Via: {via}" for via in request.all("via")),
            f"From: {request.first('from')}",
            f"To: {to}" if not tag or request.to_tag else f"To: {to};tag={tag}",
            f"Call-ID: {request.call_id}",
            f"CSeq: {request.first('cseq')}",
            *more,
        ]
        return _rendered(lines, body)

    def received(self, request: Message, received_ns: int) -> None:
        """Called with each request."""
        raise NotImplementedError

    def _readable(self) -> None:
        if any(events & select.EPOLLERR for _, events in self._epoll.poll(0)):
            self._read_errors()
        for _ in range(BATCH):
            try:
                data, ancillary, _, source = self._socket.recvmsg(65536, _ANCILLARY_BYTES)
            except BlockingIOError:
                return
            except OSError:
                continue  # what it is about stands in the error queue
            seconds, nanoseconds = _TIMESPEC.unpack(ancillary[0][2])
            try:
                message = Message(data, source)
            except ValueError:
                continue  # a keep-alive, or nothing of ours
            self._dispatch(message, seconds * 1_000_000_000 + nanoseconds)

    def _read_errors(self) -> None:
        """Tells each request that came back with an ICMP error; the kernel gives its beginning, which has the Via."""
        for _ in range(BATCH):
            try:
                data, ancillary, _, _ = self._socket.recvmsg(2048, _ERROR_BYTES, socket.MSG_ERRQUEUE)
            except OSError:
                return
            errors = (_ERROR.unpack_from(item) for _, kind, item in ancillary if kind == _IP_RECVERR)
            if any(origin == _FROM_ICMP and number != errno.EMSGSIZE for number, origin, *_ in errors):
                text = data.decode("utf-8", "surrogateescape")
                method = _METHOD.match(text)
                if method and (sent := self.pending.get((_found(_BRANCH, text), method[0]))):
                    sent.unreachable()

    def _dispatch(self, message: Message, received_ns: int) -> None:
        if not message.status:
            self.received(message, received_ns)
        elif sent := self.pending.get((message.branch, message.method)):
            sent.answered(message, received_ns)


def address_of(uri: str) -> UdpAddress:
    """Returns where a SIP URI leads; raises ValueError when that is no IPv4 address."""
    found = _HOST_PORT.match(uri)
    if not found:
        raise ValueError(f"no IPv4 address in {uri!r}")
    return found[1], int(found[2] or 5060)


def _found(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found[1] if found else ""


def _rendered(lines: Sequence[str], body: str) -> bytes:
    encoded = body.encode("utf-8", "surrogateescape")
    head = "\r\n".join([*lines, f"Content-Length: {len(encoded)}", "", ""])
    return head.encode("utf-8", "surrogateescape") + encoded
