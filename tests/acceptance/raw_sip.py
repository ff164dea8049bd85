"""A SIP caller of a few lines on a bare UDP socket: for what no proper telephone would do.

It retransmits only when told to, checks nothing, and has no media; it must not be taken for a SIP stack.
"""

import re
import secrets
import select
import socket
import time
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple, Self

from shared.ids import CallId, call_id_for

_TO_TAG = re.compile(r"^To:.*?;tag=([^;\s]+)", re.MULTILINE | re.IGNORECASE)
_CONTACT = re.compile(r"^Contact:\s*(?:[^<\r\n]*<)?(sips?:[^>\s]+)", re.MULTILINE | re.IGNORECASE)
_RECORD_ROUTE = re.compile(r"^Record-Route:\s*(.+?)\s*$", re.MULTILINE | re.IGNORECASE)
_CSEQ = re.compile(r"^CSeq:\s*(\d+)\s+(\w+)", re.MULTILINE | re.IGNORECASE)


class Response(NamedTuple):
    """A response as it came."""

    status: int
    method: str
    """Of the request it answers."""
    text: str


class RawCaller:
    """One caller with one dialog at most; `with` closes its socket."""

    def __init__(self, host: str, port: int, address: str = "127.0.0.1") -> None:
        self._target = (host, port)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 0))
        self._own = "{}:{}".format(*self._socket.getsockname())
        self._call_id = f"{secrets.token_hex(8)}@{address}"
        self._tag = secrets.token_hex(4)
        self._branch = "z9hG4bK" + secrets.token_hex(6)
        self._uri = f"sip:bot@{host}:{port}"
        self._cseq = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    @property
    def call_id(self) -> CallId:
        """The pool's id of this caller's call."""
        return call_id_for(self._call_id, self._tag)

    def send(self, data: bytes, to: tuple[str, int] | None = None) -> None:
        """Sends one datagram, to another dispatcher than this caller's own if one is named."""
        self._socket.sendto(data, to or self._target)

    def invite(self, *headers: str) -> bytes:
        """Returns this caller's INVITE, the same bytes every time; send it as often as wanted."""
        return self._request("INVITE", self._uri, 1, [*headers, "Content-Type: application/sdp"], self._sdp())

    def cancel(self) -> bytes:
        """Returns the CANCEL of that INVITE (RFC 3261 section 9.1)."""
        return self._request("CANCEL", self._uri, 1)

    def ack_failure(self, response: Response, to: tuple[str, int] | None = None) -> None:
        """Acknowledges a final response other than 2xx to the newest INVITE (RFC 3261 section 17.1.1.3)."""
        self.send(self._request("ACK", self._uri, self._cseq, to=_header(response, _TO_TAG)), to)

    def ack(self, response: Response, to: tuple[str, int] | None = None) -> None:
        """Acknowledges a 200 OK: a request of its own along the route set (RFC 3261 section 13.2.2.4)."""
        self._in_dialog("ACK", int(_header(response, _CSEQ)), response, to)

    def bye(self, response: Response, to: tuple[str, int] | None = None) -> None:
        """Ends the call that `response`, its 200 OK, began."""
        self._cseq += 1
        self._in_dialog("BYE", self._cseq, response, to)

    def reinvite(self, response: Response, to: tuple[str, int] | None = None) -> None:
        """Offers the same again within the call that `response` began; its answer is to be acknowledged."""
        self._cseq += 1
        self._in_dialog("INVITE", self._cseq, response, to, ["Content-Type: application/sdp"], self._sdp())

    def options(self) -> int:
        """Returns the status that OPTIONS is answered with, 0 for silence."""
        self._branch = "z9hG4bK" + secrets.token_hex(6)
        self.send(self._request("OPTIONS", self._uri, 1))
        response = self.response("OPTIONS", timeout_s=2.0)
        return response.status if response else 0

    def response(self, method: str = "INVITE", *, final: bool = True, timeout_s: float = 15.0) -> Response | None:
        """Returns the next response to `method`, by default a final one; None when none comes in time."""
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            for response in self.received(left):
                if response.method == method and (response.status >= 200 or not final):
                    return response
        return None

    def received(self, timeout_s: float) -> list[Response]:
        """Returns the response in the next datagram; nothing when that is a request or none comes in time."""
        if not select.select([self._socket], [], [], timeout_s)[0]:
            return []
        text = self._socket.recv(65536).decode(errors="replace")
        cseq = _CSEQ.search(text)
        if not text.startswith("SIP/2.0 ") or not cseq:
            return []
        return [Response(int(text[8:11]), cseq[2].upper(), text)]

    @property
    def _host(self) -> str:
        return self._own.partition(":")[0]

    def _sdp(self) -> str:
        return "\r\n".join(
            ["v=0", f"o=- 1 1 IN IP4 {self._host}", "s=-", f"c=IN IP4 {self._host}", "t=0 0",
             "m=audio 40000 RTP/AVP 0 8", "a=rtpmap:0 PCMU/8000", "a=rtpmap:8 PCMA/8000", "a=sendrecv", ""]
        )  # fmt: skip

    def _in_dialog(
        self,
        method: str,
        cseq: int,
        response: Response,
        to: tuple[str, int] | None,
        headers: Sequence[str] = (),
        body: str = "",
    ) -> None:
        self._branch = "z9hG4bK" + secrets.token_hex(6)
        routes = [f"Route: {route}" for route in reversed(_RECORD_ROUTE.findall(response.text))]
        contact = _header(response, _CONTACT)
        self.send(self._request(method, contact, cseq, [*routes, *headers], body, _header(response, _TO_TAG)), to)

    def _request(
        self, method: str, uri: str, cseq: int, headers: list[str] | None = None, body: str = "", to: str = ""
    ) -> bytes:
        lines = [
            f"{method} {uri} SIP/2.0",
            f"Via: SIP/2.0/UDP {self._own};branch={self._branch};rport",
            "Max-Forwards: 70",
            f"From: <sip:raw@{self._host}>;tag={self._tag}",
            f"To: <{self._uri}>" + (f";tag={to}" if to else ""),
            f"Call-ID: {self._call_id}",
            f"CSeq: {cseq} {method}",
            f"Contact: <sip:raw@{self._own}>",
            *(headers or []),
            f"Content-Length: {len(body)}",
        ]
        return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def _header(response: Response, pattern: re.Pattern[str]) -> str:
    found = pattern.search(response.text)
    return found[1] if found else ""
