"""A light SIP user agent for load: thousands of calls on one UDP socket, every message stamped to the microsecond.

    SipCaller     INVITE ... ACK ... BYE      SipAnswerer   180, 200 ... BYE (a worker without media)

Receive times are the kernel's (SO_TIMESTAMPNS), send times are read just before the send, both CLOCK_REALTIME in ns, so
that a busy event loop does not show in what is measured. It needs Linux.

It is an instrument, no SIP stack. UDP and IPv4 addresses only: no names are resolved. It expects header names in their
long form and unfolded, one answer to an INVITE (no forking), loose routers only, and no authentication. The offer is in
the INVITE; a re-INVITE is refused with 488. A CANCEL is sent once and never obeyed. It knows nothing of RTP.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Self

from bench.load.sdp import Answer, offer, parse_answer
from bench.load.wire import LIFETIME_S, T1_S, T2_S, Endpoint, Message, Transaction, UdpAddress, address_of, answer_to

__all__ = ["Answer", "AnsweredCall", "Dialog", "Refused", "SipAnswerer", "SipCaller", "offer", "parse_answer"]

_PROVISIONAL_MARKS = {100: "trying", 180: "ringing"}


class Refused(Exception):
    """An INVITE got no 2xx; `status` is 408 too when nothing final came in time (RFC 3261 section 8.1.3.1)."""

    def __init__(self, dialog: "Dialog", status: int, reason: str) -> None:
        super().__init__(f"{status} {reason}")
        self.dialog = dialog
        self.status = status


class Dialog:
    """One call of a SipCaller."""

    def __init__(self, caller: "SipCaller", uri: str, target: UdpAddress) -> None:
        self.call_id = f"{caller.unique()}@{caller.host}"
        """The SIP Call-ID; with `from_tag` it gives the pool's id of the call (`shared.ids.call_id_for`)."""
        self.from_tag = caller.unique()
        self.status = 0
        """Of the final response to the INVITE, 0 before."""
        self.body = ""
        """The SDP answer."""
        self.marks_ns: dict[str, int] = {}
        """Unix time in ns of: invite (first sent), trying, ringing, answered, bye (sent or received), ended."""
        self.retransmissions = 0
        """How often the INVITE was sent again."""
        self.ended = asyncio.Event()
        """Set once the call is over; never for a call that was refused."""
        self.end_reason = ""
        """`caller`, or `peer` with the Reason header of its BYE."""
        self._caller = caller
        self._uri = uri
        self._target = target
        self._to = f"To: <{uri}>"
        self._from = f"From: <sip:load@{caller.host}>;tag={self.from_tag}"
        self._routes: list[str] = []
        self._branch = caller.branch()
        self._final: asyncio.Future[Message] = caller.loop.create_future()
        self._ack: tuple[bytes, UdpAddress] | None = None
        self._abandoned = False
        self._invite: Transaction

    async def invite(self, sdp: str, timeout_s: float) -> None:
        """Sends the INVITE and returns when it is answered with 2xx; raises Refused."""
        data = self._request("INVITE", 1, self._branch, ["Content-Type: application/sdp"], sdp)
        self._invite = Transaction(self._caller, data, self._branch, self._target, self._answered, longest_s=LIFETIME_S)
        self.marks_ns["invite"] = self._invite.sent_ns
        try:
            async with asyncio.timeout(timeout_s):
                final = await self._final
        except TimeoutError:
            raise Refused(self, 408, "no answer in time") from None
        finally:
            self.retransmissions = self._invite.retransmissions
            if not self.status:
                self._abandon()
        if final.status >= 300:
            self._caller.forget_later(self, self._invite)
            raise Refused(self, final.status, final.start[12:])

    async def bye(self, timeout_s: float = LIFETIME_S) -> int:
        """Hangs up and returns the status of the answer: 408 without one in time, 481 when the peer was first."""
        if self.ended.is_set():
            return 481
        self.marks_ns.setdefault("bye", time.time_ns())
        request, branch, target = self._bye()
        answer = await answer_to(self._caller, request, branch, target, timeout_s)
        self._end("caller")
        return answer.status if answer else 408

    def hung_up(self, request: Message, received_ns: int) -> None:
        """Called when the peer's BYE came."""
        self.marks_ns.setdefault("bye", received_ns)
        self._end(f"peer {request.first('reason')}".rstrip())

    def _answered(self, message: Message, received_ns: int) -> None:
        self._invite.quiet()
        if message.status < 200:
            if mark := _PROVISIONAL_MARKS.get(message.status):
                self.marks_ns.setdefault(mark, received_ns)
            if self._abandoned:
                self._cancel()
            return
        if not self.status:
            self._take(message, received_ns)
        if self._ack:  # again for each retransmission of the response (RFC 3261 sections 13.2.2.4 and 17.1.1.2)
            self._caller.send(*self._ack)

    def _take(self, message: Message, received_ns: int) -> None:
        """Takes over the first final response."""
        self.status, self.body = message.status, message.body
        self._to = f"To: {message.first('to')}"
        if message.status >= 300:
            self._ack = self._request("ACK", 1, self._branch), self._target
        else:
            self.marks_ns["answered"] = received_ns
            self._routes = message.record_route[::-1]
            self._uri = message.contact
            self._target = address_of(self._routes[0] if self._routes else self._uri)
            self._ack = self._request("ACK", 1, self._caller.branch()), self._target
            if self._abandoned:
                request, _, target = self._bye()
                self._caller.send(request, target)
        if not self._final.done():
            self._final.set_result(message)

    def _abandon(self) -> None:
        """Gives up an INVITE without a final response. A CANCEL has to wait for a provisional one (section 9.1)."""
        self._abandoned = True
        self._invite.quiet()
        if self.marks_ns.keys() & _PROVISIONAL_MARKS.values():
            self._cancel()
        self._caller.forget_later(self, self._invite)

    def _cancel(self) -> None:
        self._caller.send(self._request("CANCEL", 1, self._branch), self._target)

    def _bye(self) -> tuple[bytes, str, UdpAddress]:
        branch = self._caller.branch()
        return self._request("BYE", 2, branch), branch, self._target

    def _end(self, reason: str) -> None:
        if not self.ended.is_set():
            self.marks_ns["ended"] = time.time_ns()
            self.end_reason = reason
            self.ended.set()
            self._caller.forget_later(self, self._invite)

    def _request(self, method: str, cseq: int, branch: str, more: Sequence[str] = (), body: str = "") -> bytes:
        names = (self._from, self._to, f"Call-ID: {self.call_id}")
        routes = [f"Route: <{route}>" for route in self._routes]
        return self._caller.request(method, self._uri, branch, names, cseq, [*routes, *more], body)


class SipCaller(Endpoint):
    """Makes calls, all from one socket."""

    def __init__(self, host: str) -> None:
        """Opens the socket on a free port; `close` closes it. Raises OSError."""
        super().__init__(host)
        self._dialogs: dict[str, Dialog] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, host: str) -> AsyncIterator[Self]:
        """Yields a caller for the block; calls that are up at its end are not hung up."""
        caller = cls(host)
        try:
            yield caller
        finally:
            caller.close()

    async def invite(
        self, uri_host: str, uri_port: int, sdp: str, user: str = "bot", timeout_s: float = LIFETIME_S
    ) -> Dialog:
        """Returns an established call; raises Refused. Cancelled or out of time, it takes the call back."""
        dialog = Dialog(self, f"sip:{user}@{uri_host}:{uri_port}", (uri_host, uri_port))
        self._dialogs[dialog.call_id] = dialog
        await dialog.invite(sdp, timeout_s)
        return dialog

    async def options(self, uri_host: str, uri_port: int, timeout_s: float = 2.0) -> int:
        """Returns the status that OPTIONS is answered with, 0 for silence."""
        branch, uri = self.branch(), f"sip:{uri_host}:{uri_port}"
        names = (
            f"From: <sip:load@{self.host}>;tag={self.unique()}",
            f"To: <{uri}>",
            f"Call-ID: {self.unique()}@{self.host}",
        )
        request = self.request("OPTIONS", uri, branch, names, 1)
        answer = await answer_to(self, request, branch, (uri_host, uri_port), timeout_s)
        return answer.status if answer else 0

    def forget_later(self, dialog: Dialog, invite: Transaction) -> None:
        """Keeps a finished call for as long as its peer may retransmit."""
        self.loop.call_later(LIFETIME_S, self._forget, dialog, invite)

    def received(self, request: Message, received_ns: int) -> None:
        """Answers a request."""
        dialog = self._dialogs.get(request.call_id)
        if request.method == "ACK":
            return
        if request.method == "OPTIONS":
            status = 200
        elif dialog is None or request.method == "CANCEL":
            status = 481
        else:
            status = {"BYE": 200, "INVITE": 488}.get(request.method, 501)
        self.send(self.response(request, status), request.source)
        if dialog and request.method == "BYE":
            dialog.hung_up(request, received_ns)

    def _forget(self, dialog: Dialog, invite: Transaction) -> None:
        self._dialogs.pop(dialog.call_id, None)
        invite.end()


class AnsweredCall:
    """One call of a SipAnswerer."""

    def __init__(self, invite: Message, tag: str) -> None:
        self.invite = invite
        self.tag = tag
        """Our tag in To."""
        self.status = 0
        """The final status given, 0 before."""
        self.last = b""
        """The newest response, sent again when the INVITE comes again."""
        self.timer: asyncio.TimerHandle | None = None

    def quiet(self) -> None:
        """Stops sending the final response again."""
        if self.timer:
            self.timer.cancel()


class SipAnswerer(Endpoint):
    """Answers calls like a worker, all on one socket, without media."""

    def __init__(
        self,
        host: str,
        sdp: str,
        on_invite: Callable[[AnsweredCall, int], int | None] = lambda call, received_ns: 200,
        on_bye: Callable[[AnsweredCall], None] = lambda call: None,
    ) -> None:
        """Opens the socket on a free port; `close` closes it. Raises OSError.

        `on_invite` is given each new call and the time its INVITE came, Unix time in ns, before anything is answered;
        it returns the final status, or None when `answer` will be called later. `on_bye` is given each call that the
        caller ended.
        """
        super().__init__(host)
        self._sdp = sdp
        self._on_invite = on_invite
        self._on_bye = on_bye
        self._calls: dict[str, AnsweredCall] = {}

    def close(self) -> None:
        """Closes the socket and forgets all calls; nothing is sent."""
        super().close()
        for call in self._calls.values():
            call.quiet()

    def answer(self, call: AnsweredCall, status: int) -> None:
        """Sends the final response, again and again until its ACK comes (RFC 3261 section 13.3.1.4)."""
        call.status = status
        self._respond(call, status, self._sdp if status < 300 else "")
        call.timer = self.loop.call_later(T1_S, self._again, call, T1_S, self.loop.time() + LIFETIME_S)

    async def bye(self, call: AnsweredCall, timeout_s: float = LIFETIME_S) -> int:
        """Hangs up and returns the status of the answer, 408 without one in time."""
        invite, branch = call.invite, self.branch()
        names = (
            f"From: {invite.first('to')};tag={call.tag}",
            f"To: {invite.first('from')}",
            f"Call-ID: {invite.call_id}",
        )
        routes = invite.record_route
        request = self.request("BYE", invite.contact, branch, names, 1, [f"Route: <{route}>" for route in routes])
        target = address_of(routes[0] if routes else invite.contact)
        answer = await answer_to(self, request, branch, target, timeout_s)
        self._forget(call)
        return answer.status if answer else 408

    def received(self, request: Message, received_ns: int) -> None:
        """Handles a request."""
        call = self._calls.get(request.call_id)
        match request.method:
            case "INVITE" if call is None:
                self._ring(request, received_ns)
            case "INVITE" if call and request.branch == call.invite.branch:
                self.send(call.last, request.source)
            case "INVITE":
                self.send(self.response(request, 488), request.source)
            case "ACK":
                if call:
                    call.quiet()
                if call and call.status >= 300:
                    self._forget(call)
            case "BYE" if call:
                self._forget(call)
                self.send(self.response(request, 200), request.source)
                self._on_bye(call)
            case "BYE" | "CANCEL":
                self.send(self.response(request, 481), request.source)
            case method:
                self.send(self.response(request, 200 if method == "OPTIONS" else 501), request.source)

    def _ring(self, invite: Message, received_ns: int) -> None:
        call = self._calls[invite.call_id] = AnsweredCall(invite, self.unique())
        status = self._on_invite(call, received_ns)
        self._respond(call, 180)
        if status:
            self.answer(call, status)

    def _respond(self, call: AnsweredCall, status: int, sdp: str = "") -> None:
        routes = [f"Record-Route: {value}" for value in call.invite.all("record-route")]
        contact = f"Contact: <sip:bot@{self.host}:{self.port}>"
        described = ["Content-Type: application/sdp"] if sdp else []
        call.last = self.response(call.invite, status, call.tag, [*routes, contact, *described], sdp)
        self.send(call.last, call.invite.source)

    def _again(self, call: AnsweredCall, interval_s: float, until: float) -> None:
        if self.loop.time() >= until:
            self._forget(call)
            return
        self.send(call.last, call.invite.source)
        interval_s = min(2 * interval_s, T2_S)
        call.timer = self.loop.call_later(interval_s, self._again, call, interval_s, until)

    def _forget(self, call: AnsweredCall) -> None:
        call.quiet()
        self._calls.pop(call.invite.call_id, None)
