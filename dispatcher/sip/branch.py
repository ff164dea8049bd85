"""One attempt to get a request answered: a client transaction, and the CANCEL that may have to follow it.

It does not choose where the request goes and does not answer the caller; its owner does.
"""

from enum import StrEnum
from typing import Protocol

from dispatcher.sip.actions import Address
from dispatcher.sip.forwarding import Forwarded
from dispatcher.sip.layer import Layer
from dispatcher.sip.message import Response
from dispatcher.sip.transaction import Event

TIMER_C_S = 181.0
"""Longest wait for the answer to an INVITE after the last provisional response (RFC 3261 section 16.6 step 11)."""

_TIMER_C = "timer C"
_CANCELLED = "cancelled"


class Failure(StrEnum):
    """Why no final response will come."""

    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    CANCELLED = "cancelled"


class BranchOwner(Protocol):
    """Whoever the answers are for."""

    def answered(self, branch: "Branch", response: Response, now: float) -> None:
        """Called with each response."""

    def unanswered(self, branch: "Branch", failure: Failure, now: float) -> None:
        """Called when no final response will come."""


class Branch:
    """A request at one destination. It ends in bounded time, whatever the destination does."""

    def __init__(self, layer: Layer, owner: BranchOwner, to: Address) -> None:
        self.to = to
        self.alarms: dict[str, int] = {}
        self.provisional = False
        """Whether anything was heard from there."""
        self._layer = layer
        self._owner = owner
        self._cancelled = False
        self._invite: Forwarded | None = None
        """What a CANCEL would be for; nothing once there is a final response, or none will come."""

    def start(self, forwarded: Forwarded, branch: bytes, data: bytes, now: float) -> None:
        """Sends the request, which has our `branch` in its Via."""
        self._branch = branch
        self._client = self._layer.open_client(forwarded, data, (branch, forwarded.method), self.to, self, now)
        if forwarded.method == b"INVITE":
            self._invite = forwarded
            self._layer.alarms.set(self, _TIMER_C, now + TIMER_C_S)

    def cancel(self, now: float) -> None:
        """Sends a CANCEL, or has it sent once a provisional response is there: never before (RFC 3261 section 9.1)."""
        if not self._cancelled:
            self._cancelled = True
            if self.provisional:
                self._send_cancel(now)

    def abandon(self, now: float, *, answers_another: bool = False) -> None:
        """Gives up on it. If an answer comes after all, the destination is told that nobody waits for it.

        One that `answers_another` replica, perhaps, is told at once: no answer would be heard here.
        """
        self._client.stop_retransmitting()
        self.provisional |= answers_another
        self.cancel(now)

    def drop(self) -> None:
        """Forgets it, and says nothing to anybody."""
        self._layer.alarms.cancel_all(self)
        self._client.terminate()

    def response(self, response: Response, now: float) -> None:
        """Called by the transaction."""
        if response.status >= 200:
            self._layer.alarms.cancel_all(self)
            self._invite = None
        else:
            if response.status > 100 and not self._cancelled:
                self._layer.alarms.set(self, _TIMER_C, now + TIMER_C_S)
            first, self.provisional = not self.provisional, True
            if first and self._cancelled:
                self._send_cancel(now)
        self._owner.answered(self, response, now)

    def failed(self, now: float, *, unreachable: bool) -> None:
        """Called by the transaction."""
        self._layer.alarms.cancel_all(self)
        self._invite = None
        self._owner.unanswered(self, Failure.UNREACHABLE if unreachable else Failure.TIMEOUT, now)

    def alarm(self, name: str, now: float) -> None:
        """Called when timer C fires (section 16.8), or when nothing came of a CANCEL for 64*T1 (section 9.1)."""
        if name == _TIMER_C:
            self.cancel(now)
        else:
            self._client.terminate()
            self._owner.unanswered(self, Failure.CANCELLED, now)

    def _send_cancel(self, now: float) -> None:
        if self._invite is None:
            return
        key = (self._branch, b"CANCEL")
        self._layer.open_client(self._invite, self._invite.cancel(), key, self.to, Unheard(), now)
        self._layer.alarms.cancel(self, _TIMER_C)
        self._layer.alarms.set(self, _CANCELLED, now + self._layer.timers[self.to.transport].seconds[Event.F])


class Unheard:
    """Nobody waits for the answer to a CANCEL: what counts is the answer to its INVITE."""

    def response(self, response: Response, now: float) -> None:
        """Ignored."""

    def failed(self, now: float, *, unreachable: bool) -> None:
        """Ignored."""
