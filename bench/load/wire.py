"""SIP over one UDP socket: messages in and out with their times, and requests that are retransmitted.

It knows no calls; `sip.py` does, and says what both leave out.
"""

import asyncio
import itertools
import re
import secrets
import socket
import struct
import time
from collections.abc import Callable, Sequence

T1_S = 0.5
"""Estimate of the round trip: the first retransmission interval (RFC 3261 section 17.1.1.1)."""

T2_S = 4.0
"""Longest retransmission interval of everything but an INVITE request (RFC 3261 section 17.1.2.2)."""

LIFETIME_S = 64 * T1_S
"""Longest wait for an answer, and how long a finished dialog is kept for retransmissions of its peer."""

BATCH = 64
"""Datagrams read before other tasks get their turn."""

BUFFER_BYTES = 4 * 1024 * 1024
"""Receive buffer asked for; the kernel grants what net.core.rmem_max allows."""

_SO_TIMESTAMPNS = 35  # <asm-generic/socket.h>; the socket module does not name it
_TIMESPEC = struct.Struct("@ll")
_ANCILLARY_BYTES = socket.CMSG_SPACE(_TIMESPEC.size)

_REASONS = {
    180: "Ringing", 200: "OK", 403: "Forbidden", 481: "Call/Transaction Does Not Exist", 488: "Not Acceptable Here",
    501: "Not Implemented", 503: "Service Unavailable",
}  # fmt: skip

_BRANCH = re.compile(r";\s*branch=([^;,\s]+)", re.IGNORECASE)
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
        self.pending: dict[str, Transaction] = {}
        """Our requests by branch."""
        self.loop.add_reader(self._socket, self._readable)

    def close(self) -> None:
        """Closes the socket and forgets all calls; nothing is sent."""
        self.loop.remove_reader(self._socket)
        self._socket.close()
        for transaction in list(self.pending.values()):
            transaction.end()

    def unique(self) -> str:
        """Returns a token that nobody else uses."""
        return f"{self._prefix}{next(self._numbers):x}"

    def branch(self) -> str:
        """Returns the branch of a new request."""
        return f"z9hG4bK{self.unique()}"

    def send(self, data: bytes, target: UdpAddress) -> None:
        """Sends a datagram, or drops it when the kernel's buffer is full, as UDP does."""
        try:
            self._socket.sendto(data, target)
        except BlockingIOError:
            pass

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
        for _ in range(BATCH):
            try:
                data, ancillary, _, source = self._socket.recvmsg(65536, _ANCILLARY_BYTES)
            except BlockingIOError:
                return
            seconds, nanoseconds = _TIMESPEC.unpack(ancillary[0][2])
            try:
                message = Message(data, source)
            except ValueError:
                continue  # a keep-alive, or nothing of ours
            self._dispatch(message, seconds * 1_000_000_000 + nanoseconds)

    def _dispatch(self, message: Message, received_ns: int) -> None:
        if not message.status:
            self.received(message, received_ns)
        elif transaction := self.pending.get(message.branch):
            transaction.answered(message, received_ns)


class Transaction:
    """One request, sent again at doubling intervals until something comes back or it is ended."""

    def __init__(
        self,
        endpoint: Endpoint,
        request: bytes,
        branch: str,
        target: UdpAddress,
        answered: Callable[[Message, int], None],
        longest_s: float = T2_S,
    ) -> None:
        self.answered = answered
        self.retransmissions = 0
        self._endpoint = endpoint
        self._request = request
        self._branch = branch
        self._target = target
        self._longest_s = longest_s
        self._interval_s = T1_S
        endpoint.pending[branch] = self
        self._timer = endpoint.loop.call_later(T1_S, self._again)
        self.sent_ns = time.time_ns()
        endpoint.send(request, target)

    def quiet(self) -> None:
        """Stops sending; answers are still heard."""
        self._timer.cancel()

    def end(self) -> None:
        """Stops sending and listening."""
        self._timer.cancel()
        self._endpoint.pending.pop(self._branch, None)

    def _again(self) -> None:
        self.retransmissions += 1
        self._interval_s = min(2 * self._interval_s, self._longest_s)
        self._timer = self._endpoint.loop.call_later(self._interval_s, self._again)
        self._endpoint.send(self._request, self._target)


async def answer_to(
    endpoint: Endpoint, request: bytes, branch: str, target: UdpAddress, timeout_s: float
) -> Message | None:
    """Sends a request other than INVITE and returns its final response, None when none comes in time."""
    final: asyncio.Future[Message] = endpoint.loop.create_future()

    def answered(message: Message, _: int) -> None:
        if message.status >= 200 and not final.done():
            final.set_result(message)

    transaction = Transaction(endpoint, request, branch, target, answered)
    try:
        async with asyncio.timeout(timeout_s):
            return await final
    except TimeoutError:
        return None
    finally:
        transaction.end()


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
