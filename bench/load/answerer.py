"""The other end of a load's calls: answers like a worker, all on one socket, without media.

It keeps no route of its own and offers nothing; what it leaves out otherwise, `sip.py` says.
"""

import asyncio
from collections.abc import Callable

from bench.load.transaction import LIFETIME_S, T1_S, T2_S, ask
from bench.load.wire import Endpoint, Message, address_of


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
        caller ended, by BYE or by CANCEL.
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
        """Sends the final response, again and again until its ACK comes (RFC 3261 section 13.3.1.4).

        A call that has had its final response, because the caller cancelled it, gets no other.
        """
        if call.status:
            return
        call.status = status
        self._respond(call, status, self._sdp if status < 300 else "")
        call.timer = self.loop.call_later(T1_S, self._again, call, T1_S, self.loop.time() + LIFETIME_S)

    async def bye(self, call: AnsweredCall, timeout_s: float = LIFETIME_S) -> int:
        """Hangs up and returns the status of the answer, 408 without one in time."""
        invite, routes = call.invite, call.invite.record_route
        names = (
            f"From: {invite.first('to')};tag={call.tag}",
            f"To: {invite.first('from')}",
            f"Call-ID: {invite.call_id}",
        )

        def write(branch: str) -> bytes:
            return self.request("BYE", invite.contact, branch, names, 1, [f"Route: <{route}>" for route in routes])

        target = address_of(routes[0] if routes else invite.contact)
        answer = await ask(self, "BYE", write, [target], timeout_s)
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
            case "INVITE":  # another copy that came another way (section 8.2.2.2), or a re-INVITE
                self.send(self.response(request, 488 if request.to_tag else 482), request.source)
            case "ACK":
                if call:
                    call.quiet()
                if call and call.status >= 300:
                    self._forget(call)
            case "BYE" if call:
                self._forget(call)
                self.send(self.response(request, 200), request.source)
                self._on_bye(call)
            case "CANCEL" if call and request.branch == call.invite.branch:
                self.send(self.response(request, 200), request.source)
                if not call.status:
                    self.answer(call, 487)
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
