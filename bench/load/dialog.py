"""One call of a load's caller: its INVITE at one dispatcher after another, its ACKs, its end.

    Dialog      what the caller sees as one call
    Attempt     the INVITE transaction at one address
    Leg         what one 2xx has made: an established dialog, with its own tag, route set and ACK

The first 2xx is the call. Every further one with another tag is a fork: it gets its ACK and a BYE (RFC 3261 section
13.2.2.4). An attempt that was given up is not cancelled: dispatchers may know by Call-ID that both are one call.
"""

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from bench.load.transaction import LIFETIME_S, Failure, Transaction, ask
from bench.load.wire import Message, UdpAddress, address_of

if TYPE_CHECKING:
    from bench.load.sip import SipCaller

_PROVISIONAL_MARKS = {100: "trying", 180: "ringing"}
_INVITE_CSEQ, _BYE_CSEQ = 1, 2


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
        """Of the final response to the INVITE, 0 before. It may still come after Refused with 408."""
        self.decided = asyncio.Event()
        """Set when the INVITE has had its final response, or has failed."""
        self.body = ""
        """The SDP answer."""
        self.marks_ns: dict[str, int] = {}
        """Unix time in ns of: invite (first sent), trying, ringing, answered or refused, bye (either way), ended."""
        self.retransmissions = 0
        """How often the INVITE was sent again, wherever to."""
        self.tried: list[UdpAddress] = []
        """Where the INVITE was sent, in turn."""
        self.forks = 0
        """How many more dialogs its INVITE has made; each was ended at once."""
        self.byes = 0
        """How many addresses our BYE was sent to, in turn."""
        self.ended = asyncio.Event()
        """Set once the call is over; never for a call that was refused."""
        self.end_reason = ""
        """`caller`, or `peer` with the Reason header of its BYE."""
        self._caller = caller
        self._uri = uri
        self._from = f"From: <sip:load@{caller.host}>;tag={self.from_tag}"
        self._left = caller.dispatchers.order(target)
        self._attempts: list[_Attempt] = []
        self._legs: dict[str, _Leg] = {}
        self._leg: _Leg | None = None
        self._reason = ""
        self._abandoned = False

    async def invite(self, sdp: str, timeout_s: float) -> None:
        """Sends the INVITE and returns when it is answered with 2xx; raises Refused."""
        self._sdp = sdp
        try:
            async with asyncio.timeout(timeout_s):
                self._attempt()
                await self.decided.wait()
        except TimeoutError:
            if not self.decided.is_set():  # an answer that has arrived in the same moment counts
                raise Refused(self, 408, "no answer in time") from None
        finally:
            self.retransmissions = sum(attempt.transaction.retransmissions for attempt in self._attempts)
            if not self.decided.is_set():
                self._abandon()
            if self._leg is None:
                self._caller.forget_later(self)
        if self._leg is None:
            raise Refused(self, self.status or 408, self._reason)

    async def bye(self, timeout_s: float = LIFETIME_S) -> int:
        """Hangs up and returns the status of the answer: 408 without one in time, 481 when the peer was first."""
        leg = self._leg
        if leg is None or self.ended.is_set():
            return 481
        self.marks_ns.setdefault("bye", time.time_ns())
        silence_s = self._caller.dispatchers.silence_s

        def write(branch: str) -> bytes:
            self.byes += 1
            return leg.write_bye(branch)

        answer = await ask(self._caller, "BYE", write, leg.targets, timeout_s, silence_s)
        self._end("caller")
        return answer.status if answer else 408

    def hung_up(self, request: Message, received_ns: int) -> bool:
        """Called with a BYE of the peer; returns whether it is for a dialog of ours."""
        leg = self._legs.get(request.from_tag)
        if leg is not None and leg is self._leg:
            self.marks_ns.setdefault("bye", received_ns)
            self._end(f"peer {request.first('reason')}".rstrip())
        return leg is not None

    def forget(self) -> None:
        """Stops listening for copies of what the peer sent."""
        for attempt in self._attempts:
            attempt.transaction.end()
        for leg in self._legs.values():
            leg.end()

    def request(
        self, method: str, cseq: int, branch: str, to: str, uri: str, more: Sequence[str] = (), body: str = ""
    ) -> bytes:
        """Returns a request of this call."""
        names = (self._from, f"To: {to}", f"Call-ID: {self.call_id}")
        return self._caller.request(method, uri, branch, names, cseq, more, body)

    def _attempt(self) -> None:
        target, branch = self._left.pop(0), self._caller.branch()
        data = self.request(
            "INVITE", _INVITE_CSEQ, branch, f"<{self._uri}>", self._uri, ["Content-Type: application/sdp"], self._sdp
        )
        attempt = _Attempt(branch)
        self._attempts.append(attempt)
        self.tried.append(target)
        attempt.transaction = Transaction(
            self._caller,
            "INVITE",
            branch,
            data,
            target,
            partial(self._answered, attempt),
            partial(self._failed, attempt),
            self._caller.dispatchers.silence_s,
        )
        self.marks_ns.setdefault("invite", attempt.transaction.sent_ns)

    def _answered(self, attempt: "_Attempt", message: Message, received_ns: int) -> None:
        if message.status < 200:
            if mark := _PROVISIONAL_MARKS.get(message.status):
                self.marks_ns.setdefault(mark, received_ns)
            attempt.provisional = True
            if self._abandoned:
                self._cancel(attempt)
        elif message.status < 300:
            self._establish(message, received_ns)
        else:
            self._refuse(attempt, message, received_ns)

    def _failed(self, attempt: "_Attempt", failure: Failure) -> None:
        if attempt is not self._attempts[-1] or self.decided.is_set():
            return
        if self._left and not self._abandoned:
            attempt.transaction.quiet()
            self._attempt()
        elif failure is Failure.SILENT:  # where there is nowhere else to go, an ICMP error is no reason to give up
            self._decide(0, failure)

    def _refuse(self, attempt: "_Attempt", message: Message, received_ns: int) -> None:
        """Acknowledges a final response other than 2xx, each time it comes (RFC 3261 section 17.1.1.3)."""
        ack = self.request("ACK", _INVITE_CSEQ, attempt.branch, message.first("to"), self._uri)
        self._caller.send_request(ack, attempt.transaction.target)
        if attempt is not self._attempts[-1] or self.decided.is_set():
            return
        if message.status == 503 and self._left and not self._abandoned:
            self._attempt()
        else:
            self.marks_ns["refused"] = received_ns
            self._decide(message.status, message.start[12:])

    def _establish(self, message: Message, received_ns: int) -> None:
        """Acknowledges a 2xx, each time it comes (RFC 3261 section 13.2.2.4)."""
        leg = self._legs.get(message.to_tag)
        if leg is None:
            leg = self._legs[message.to_tag] = _Leg(self._caller, self, message)
            if not self.decided.is_set():
                self.marks_ns["answered"] = received_ns
                self.body = message.body
                self._leg = None if self._abandoned else leg
                for attempt in self._attempts:
                    attempt.transaction.quiet()
                self._decide(message.status, "")
            else:
                self.forks += 1
            leg.acknowledge()
            if leg is not self._leg:
                leg.bye()
        else:
            leg.acknowledge()

    def _decide(self, status: int, reason: str) -> None:
        self.status, self._reason = status, reason
        self.decided.set()

    def _abandon(self) -> None:
        """Gives up an INVITE without a final response. A CANCEL has to wait for a provisional one (section 9.1)."""
        self._abandoned = True
        for attempt in self._attempts:
            attempt.transaction.quiet()
        if self._attempts and self._attempts[-1].provisional:
            self._cancel(self._attempts[-1])

    def _cancel(self, attempt: "_Attempt") -> None:
        if attempt.cancel is None:
            target = attempt.transaction.target
            data = self.request("CANCEL", _INVITE_CSEQ, attempt.branch, f"<{self._uri}>", self._uri)
            attempt.cancel = _unattended(self._caller, "CANCEL", attempt.branch, data, target)

    def _end(self, reason: str) -> None:
        if not self.ended.is_set():
            self.marks_ns["ended"] = time.time_ns()
            self.end_reason = reason
            self.ended.set()
            self._caller.forget_later(self)


class _Attempt:
    """The INVITE at one address."""

    transaction: Transaction

    def __init__(self, branch: str) -> None:
        self.branch = branch
        self.provisional = False
        self.cancel: Transaction | None = None


class _Leg:
    """A dialog that a 2xx has made."""

    def __init__(self, caller: "SipCaller", dialog: Dialog, answer: Message) -> None:
        self._caller = caller
        self._dialog = dialog
        self._to = answer.first("to")
        self._uri = answer.contact
        routes = answer.record_route[::-1]
        self._routes = [f"Route: <{route}>" for route in routes]
        self.targets = caller.dispatchers.order(address_of(routes[0] if routes else self._uri))
        """Where its requests go, in turn: the Route stays the same, whoever takes it."""
        branch = caller.branch()
        self._ack = _Ack(caller, branch, self._request("ACK", _INVITE_CSEQ, branch), self.targets)

    def acknowledge(self) -> None:
        """Sends the ACK, the first time or again."""
        self._ack.send()

    def write_bye(self, branch: str) -> bytes:
        """Returns the BYE."""
        return self._request("BYE", _BYE_CSEQ, branch)

    def bye(self) -> None:
        """Hangs up and does not ask what became of it."""
        branch = self._caller.branch()
        _unattended(self._caller, "BYE", branch, self.write_bye(branch), self.targets[0])

    def end(self) -> None:
        """Stops listening."""
        self._ack.end()

    def _request(self, method: str, cseq: int, branch: str) -> bytes:
        return self._dialog.request(method, cseq, branch, self._to, self._uri, self._routes)


class _Ack:
    """The ACK for a 2xx. It is no transaction, but goes to the next address when ICMP says that it found nobody."""

    def __init__(self, caller: "SipCaller", branch: str, data: bytes, targets: Sequence[UdpAddress]) -> None:
        self._caller = caller
        self._key = branch, "ACK"
        self._data = data
        self._targets = list(targets)
        caller.pending[self._key] = self

    def send(self) -> None:
        """Sends it, the first time or again."""
        self._caller.send_request(self._data, self._targets[0])

    def answered(self, message: Message, received_ns: int) -> None:
        """Nothing answers an ACK."""

    def unreachable(self) -> None:
        """Goes to the next address; the same one again would need a copy of the 2xx."""
        if len(self._targets) > 1:
            del self._targets[0]
            self.send()

    def end(self) -> None:
        """Stops listening."""
        self._caller.pending.pop(self._key, None)


def _unattended(caller: "SipCaller", method: str, branch: str, data: bytes, target: UdpAddress) -> Transaction:
    """Sends a request until it is answered or nobody is left to answer; what is answered does not matter."""

    def answered(message: Message, _: int) -> None:
        if message.status >= 200:
            transaction.end()

    def failed(failure: Failure) -> None:
        if failure is Failure.SILENT:
            transaction.end()

    transaction = Transaction(caller, method, branch, data, target, answered, failed)
    return transaction
