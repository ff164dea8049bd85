"""Placing: what a call waits for, and for how long, on a clock that jumps when nothing else is to do."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from dispatcher.offers import OfferedElsewhere
from dispatcher.placing import ELSEWHERE_S, HELD_S, RELEASE_S, Left, Placing, Refused
from dispatcher.sip.actions import Address, Offer, Place
from shared.agents.demands import Demands
from shared.errors import CallTaken, LeaseLost, NoCapacity, NoQuota
from shared.ids import CallId, LeaseId, WorkerId
from shared.messages import Lease
from tests.unit.dispatcher.test_offers import DEMANDS, place

LEASE = Lease(
    lease_id=LeaseId("lease"), call_id=CallId("call-1"), worker_id=WorkerId("w1"), offered_at_ms=1, invite_at_ms=1
)
OFFER = Offer(LEASE, Address("udp", "10.0.1.1", 5070), "token")
IN_LINE = NoQuota("in line", wait_s=0.3)
Answer = Offer | Exception
Play = Callable[..., Any]


class JumpingLoop(asyncio.SelectorEventLoop):
    """A loop in which time passes only while everybody waits, and then at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self.now = max(self.now, self._scheduled[0]._when)  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


class Script:
    """Offers that answer as they are told: each answer once, the last one for ever."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.asked = 0
        self.left_line = 0
        self.rang = 0
        self.taken = 0

    async def make(self, place: Place, demands: Demands, invite_at_ms: int) -> Offer:
        self.asked += 1
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def use(self, place: Place, lease: Lease) -> Offer:
        return OFFER

    async def leave_line(self, place: Place, demands: Demands) -> None:
        self.left_line += 1

    def ring(self) -> None:
        self.rang += 1

    def take(self) -> None:
        self.taken += 1


def play(script: Script, *, silent: bool = False, line_s: float = 10.0, give_up_at_s: float | None = None) -> Any:
    """Returns what came of a call, and when."""

    async def story() -> Any:
        placing = Placing(script, place("call-1", silent=silent), DEMANDS, 12345)  # type: ignore[arg-type]
        loop = asyncio.get_running_loop()
        if give_up_at_s is not None:
            loop.call_at(give_up_at_s, placing.give_up)
        return await placing.run(line_s, script.ring, script.take), loop.time()

    return _run(story())


def _run(story: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(story)


def test_an_offer_at_once_is_an_offer() -> None:
    assert play(Script(OFFER)) == (OFFER, 0.0)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (NoCapacity("full"), Refused("no_capacity")),
        (NoQuota("the line is full"), Refused("no_quota")),
    ],
)
def test_what_waiting_does_not_change_is_said_at_once(answer: Exception, outcome: object) -> None:
    assert play(Script(answer)) == (outcome, 0.0)


def test_a_caller_in_line_hears_ringing_once_and_is_placed_in_his_turn() -> None:
    script = Script(IN_LINE, IN_LINE, OFFER)
    outcome, at_s = play(script)
    assert outcome == OFFER
    assert at_s == pytest.approx(0.6)
    assert (script.rang, script.left_line) == (1, 0)


def test_a_caller_in_line_asks_often_enough_to_stay_in_it() -> None:
    script = Script(*[NoQuota("in line", wait_s=5.0)] * 3, OFFER)
    _, at_s = play(script)
    assert at_s == pytest.approx(1.5)


def test_nobody_stays_in_line_longer_than_allowed_or_for_what_takes_longer() -> None:
    script = Script(IN_LINE)
    outcome, at_s = play(script, line_s=2.0)
    assert outcome == Refused("no_quota")
    assert 1.5 < at_s <= 2.0
    assert script.left_line == 1
    assert play(Script(NoQuota("in line", wait_s=3.0)), line_s=2.0) == (Refused("no_quota"), 0.0)


def test_a_caller_who_gives_up_leaves_the_line_at_once() -> None:
    script = Script(NoQuota("in line", wait_s=5.0))
    outcome, at_s = play(script, give_up_at_s=0.7)
    assert outcome == Refused("caller_cancelled")
    assert at_s == pytest.approx(0.7)
    assert script.left_line == 1


def test_a_call_that_another_replica_offers_is_left_to_it_until_that_is_dead() -> None:
    taken = Script(*[OfferedElsewhere(LEASE)] * 3, CallTaken("claimed"))
    outcome, at_s = play(taken)
    assert outcome == Left()
    assert taken.taken == 1
    outcome, at_s = play(Script(OfferedElsewhere(LEASE)))
    assert outcome == OFFER
    assert ELSEWHERE_S < at_s < ELSEWHERE_S + 0.5


def test_a_worker_that_refused_the_call_is_given_a_moment_to_let_go_of_it() -> None:
    outcome, at_s = play(Script(LeaseLost("claimed"), LeaseLost("claimed"), OFFER))
    assert outcome == OFFER
    assert at_s < 0.2
    outcome, at_s = play(Script(LeaseLost("claimed")))
    assert outcome == Refused("no_capacity")
    assert RELEASE_S < at_s < RELEASE_S + 0.5


def test_a_silent_worker_that_holds_the_call_is_waited_for_until_it_would_be_known_to_be_dead() -> None:
    outcome, at_s = play(Script(LeaseLost("claimed")), silent=True)
    assert outcome == Left()
    assert HELD_S < at_s < HELD_S + 0.5


def test_a_worker_that_has_the_call_through_another_replica_is_watched_until_it_would_be_known_to_be_dead() -> None:
    alive = Script(CallTaken("claimed"))
    outcome, at_s = play(alive)
    assert outcome == Left()
    assert HELD_S < at_s < HELD_S + 0.5
    dead = Script(*[CallTaken("claimed")] * 5, OFFER)
    outcome, at_s = play(dead)
    assert outcome == OFFER
    assert (alive.taken, dead.taken) == (1, 1)
