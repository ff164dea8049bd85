"""Placing: a call's way to an offer, with the patience that an INVITE deserves.

Each try is `offers.py`'s. What is waited for: a Voice Live resource that has something left again, while the caller
hears ringing; a worker that is giving back the slot of a call it failed; another replica that offers the same call.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from dispatcher.offers import OfferedElsewhere, Offers
from dispatcher.sip.actions import Offer, Place
from shared.agents.demands import Demands
from shared.control.keys import HEARTBEAT_TTL_S
from shared.errors import CallTaken, LeaseLost, NoCapacity, NoQuota

ELSEWHERE_S = 1.0
"""An offer of another replica that no worker has claimed by then is taken over: that replica is dead."""

HELD_S = HEARTBEAT_TTL_S + 1.5
"""Longest watch over a call that a worker holds without a word to us: until it is known to be dead, and reaped."""

RELEASE_S = 1.0
"""Longest wait for a worker that has answered 503 to give back its lease, which it does at about the same time."""

ASK_AGAIN_S = (0.02, 0.05, 0.1, 0.2)
"""Pauses between tries; the last one is repeated."""

LINE_POLL_S = 0.5
"""How often a call in line asks at least: it is taken out when it does not (WAITING_TTL_S)."""


@dataclass(frozen=True, slots=True)
class Refused:
    """There is no offer, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Left:
    """The call is left to the replica that a worker answers."""


class Placing:
    """Finds an offer for one Place."""

    def __init__(self, offers: Offers, place: Place, demands: Demands, invite_at_ms: int) -> None:
        self._offers = offers
        self._place = place
        self._demands = demands
        self._invite_at_ms = invite_at_ms
        self._given_up = asyncio.Event()
        self.in_line = False
        """Whether it waits for a resource."""
        self._taken = False
        self._tries = 0

    def give_up(self) -> None:
        """The caller waits no longer: `run` ends soon."""
        self._given_up.set()

    async def run(
        self, line_limit_s: float, waiting: Callable[[], None], taken: Callable[[], None]
    ) -> Offer | Left | Refused:
        """Returns what came of it.

        `waiting` is called when the caller begins to wait in line, `taken` when a worker is seen to have the call
        through another replica. It is watched for a while: if it dies, or gives the call back, there is an offer.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not self._given_up.is_set():
            waited_s = loop.time() - began
            try:
                return await self._offers.make(self._place, self._demands, self._invite_at_ms)
            except NoCapacity:
                return await self._refuse("no_capacity")
            except NoQuota as error:
                if error.wait_s is None or waited_s + error.wait_s > line_limit_s:
                    return await self._refuse("no_quota")
                if not self.in_line:
                    self.in_line = True
                    waiting()
                await self._pause(min(error.wait_s, LINE_POLL_S))
            except OfferedElsewhere as elsewhere:
                if waited_s > ELSEWHERE_S:
                    return self._take_over(elsewhere)
                await self._pause(self._next_pause_s())
            except (CallTaken, LeaseLost) as held:
                if isinstance(held, LeaseLost) and not self._place.silent:
                    if waited_s > RELEASE_S:
                        return Refused("no_capacity")
                elif waited_s > HELD_S:
                    return Left()
                elif isinstance(held, CallTaken) and not self._taken:
                    self._taken = True
                    taken()
                await self._pause(self._next_pause_s())
        return await self._refuse("caller_cancelled")

    async def _refuse(self, reason: str) -> Refused:
        if self.in_line:
            await self._offers.leave_line(self._place, self._demands)
        return Refused(reason)

    def _take_over(self, elsewhere: OfferedElsewhere) -> Offer | Refused:
        try:
            return self._offers.use(self._place, elsewhere.lease)
        except NoCapacity:
            return Refused("no_capacity")

    def _next_pause_s(self) -> float:
        self._tries += 1
        return ASK_AGAIN_S[min(self._tries, len(ASK_AGAIN_S)) - 1]

    async def _pause(self, seconds: float) -> None:
        """Returns after that time, or when the caller gives up."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._given_up.wait()
