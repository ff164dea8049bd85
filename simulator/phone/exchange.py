"""The exchange behind the telephone: whoever a REFER names is dialled there, and answers, is busy or lets it ring.

A few lines of SIP on a UDP socket, for one peer that is well-behaved; it sends no media and repeats nothing.
"""

import asyncio
from typing import cast

_COPIED = ("via", "from", "call-id", "cseq")


class Exchange(asyncio.DatagramProtocol):
    """Answers each INVITE with `status`; 100 stands for ringing until the caller gives up."""

    def __init__(self, status: int) -> None:
        self.address = ""
        """`host:port` of its socket."""
        self._status = status
        self._ringing: dict[str, bytes] = {}

    async def open(self, host: str) -> None:
        """Opens the socket on any free port."""
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: self, local_addr=(host, 0))

    def close(self) -> None:
        """Closes the socket."""
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast(asyncio.DatagramTransport, transport)
        host, port = transport.get_extra_info("sockname")[:2]
        self.address = f"{host}:{port}"

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Called by the loop with each request; an ACK wants no answer."""
        match data.partition(b" ")[0]:
            case b"INVITE":
                self._ringing[_branch(data)] = data
                self._answer(data, self._status, addr)
            case b"CANCEL":
                self._answer(data, 200, addr)
                if invite := self._ringing.get(_branch(data)):
                    self._answer(invite, 487, addr)
            case b"BYE":
                self._answer(data, 200, addr)

    def _answer(self, request: bytes, status: int, addr: tuple[str, int]) -> None:
        self._transport.sendto(response(request, status, self.address), addr)


def response(request: bytes, status: int, contact: str) -> bytes:
    """Returns the response to a request; a 200 to an INVITE gives the offer back as the answer."""
    head, _, body = request.decode().partition("\r\n\r\n")
    start, *lines = head.split("\r\n")
    kept = [line for line in lines if _name(line) in _COPIED]
    to = next(line for line in lines if _name(line) == "to")
    if status > 100 and ";tag=" not in to:
        to += ";tag=exchange"
    answer = body if status == 200 and start.startswith("INVITE ") else ""
    content = ["Content-Type: application/sdp"] if answer else []
    top = [f"SIP/2.0 {status} Exchange", *kept, to, f"Contact: <sip:exchange@{contact}>", *content]
    return "\r\n".join([*top, f"Content-Length: {len(answer)}", "", answer]).encode()


def _branch(request: bytes) -> str:
    """Returns the topmost Via, which an INVITE and its CANCEL share."""
    return next(line for line in request.decode().split("\r\n") if _name(line) == "via")


def _name(line: str) -> str:
    return line.partition(":")[0].strip().lower()
