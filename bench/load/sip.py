"""A light SIP user agent for load: thousands of calls on one UDP socket, every message stamped to the microsecond.

    SipCaller     INVITE ... ACK ... BYE      SipAnswerer   180, 200 ... BYE (a worker without media)

    sip, answerer ── dialog ── transaction ── wire        proxy_set: which dispatcher a request goes to

Receive times are the kernel's (SO_TIMESTAMPNS), send times are read just before the send, both CLOCK_REALTIME in ns, so
that a busy event loop does not show in what is measured. It needs Linux.

It behaves as RFC 3261 wants a caller to: timers A, B, D, E and F, an ACK for every copy of a final response, CANCEL,
forks; and as RFC 3263 section 4.3 wants it where there are several dispatchers. But it is an instrument, no SIP stack.
UDP and IPv4 addresses only: no names are resolved. It expects header names in their long form and unfolded, loose
routers only, and no authentication. The offer is in the INVITE; a re-INVITE is refused with 488. It knows nothing of
RTP.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from bench.load.answerer import AnsweredCall, SipAnswerer
from bench.load.dialog import Dialog, Refused
from bench.load.proxy_set import Balancer, ProxySet
from bench.load.sdp import Answer, offer, parse_answer
from bench.load.transaction import LIFETIME_S, ask
from bench.load.wire import Endpoint, Message, UdpAddress

__all__ = [
    "Answer",
    "AnsweredCall",
    "Balancer",
    "Dialog",
    "ProxySet",
    "Refused",
    "SipAnswerer",
    "SipCaller",
    "offer",
    "parse_answer",
]

_ONE_BY_ONE = ProxySet()
"""No dispatcher stands in for another."""


class SipCaller(Endpoint):
    """Makes calls, all from one socket."""

    def __init__(self, host: str, dispatchers: ProxySet | Balancer = _ONE_BY_ONE) -> None:
        """Opens the socket on a free port; `close` closes it. Raises OSError."""
        super().__init__(host)
        self.dispatchers = dispatchers
        """Who stands in for whom."""
        self._dialogs: dict[str, Dialog] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, host: str, dispatchers: ProxySet | Balancer = _ONE_BY_ONE) -> AsyncIterator[Self]:
        """Yields a caller for the block; calls that are up at its end are not hung up."""
        caller = cls(host, dispatchers)
        try:
            yield caller
        finally:
            caller.close()

    async def invite(
        self, uri_host: str, uri_port: int, sdp: str, user: str = "bot", timeout_s: float = LIFETIME_S
    ) -> Dialog:
        """Returns an established call; raises Refused. Cancelled or out of time, it takes the call back."""
        dialog = self.dialog(uri_host, uri_port, user)
        await dialog.invite(sdp, timeout_s)
        return dialog

    def dialog(self, uri_host: str, uri_port: int, user: str = "bot") -> Dialog:
        """Returns a call that is still to be made, by its `invite`: for those who want to see what came of it."""
        dialog = Dialog(self, f"sip:{user}@{uri_host}:{uri_port}", (uri_host, uri_port))
        self._dialogs[dialog.call_id] = dialog
        return dialog

    async def options(self, uri_host: str, uri_port: int, timeout_s: float = 2.0) -> int:
        """Returns the status that OPTIONS is answered with, 0 for silence."""
        uri = f"sip:{uri_host}:{uri_port}"
        names = (
            f"From: <sip:load@{self.host}>;tag={self.unique()}",
            f"To: <{uri}>",
            f"Call-ID: {self.unique()}@{self.host}",
        )

        def write(branch: str) -> bytes:
            return self.request("OPTIONS", uri, branch, names, 1)

        answer = await ask(self, "OPTIONS", write, [(uri_host, uri_port)], timeout_s)
        return answer.status if answer else 0

    def send_request(self, data: bytes, target: UdpAddress) -> None:
        """Sends one of our requests to where its target, or whoever stands in for it, is."""
        self.send(data, self.dispatchers.pick(target))

    def forget_later(self, dialog: Dialog) -> None:
        """Keeps a finished call for as long as its peer may retransmit."""
        self.loop.call_later(LIFETIME_S, self._forget, dialog)

    def received(self, request: Message, received_ns: int) -> None:
        """Answers a request."""
        dialog = self._dialogs.get(request.call_id)
        match request.method:
            case "ACK":
                return
            case "OPTIONS":
                status = 200
            case "BYE" if dialog and dialog.hung_up(request, received_ns):
                status = 200
            case "INVITE" if dialog:
                status = 488
            case "BYE" | "CANCEL" | "INVITE":
                status = 481
            case _:
                status = 501
        self.send(self.response(request, status), request.source)

    def _forget(self, dialog: Dialog) -> None:
        self._dialogs.pop(dialog.call_id, None)
        dialog.forget()
