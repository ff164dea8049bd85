"""As many calls as there is room for, in the pool and at Voice Live; who has to wait for it hears ringing meanwhile."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.control import keys
from tests.acceptance.callers import Callers, patient
from tests.acceptance.pool import Layout, Pool, running_pool, until

QUEUE_WAIT_S = 4.0

NEXT_WITHIN_S = keys.SESSION_WAIT_S + 1.5
"""From the end of a call to the answer of who waits for its session: asked every SESSION_WAIT_S."""

BLOCKED_S = 2
"""What the service asks for with its 429."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """Room for many calls, and two sessions at once."""
    directory = tmp_path_factory.mktemp("pool")
    quotas = {"VOICE_LIVE_SESSIONS": "2", "VOICE_LIVE_CONNECTIONS_PER_MINUTE": "600", "QUEUE_WAIT_S": str(QUEUE_WAIT_S)}
    layout = Layout(dispatchers=2)
    with running_pool(directory, layout, workers=2, AGENTS_FILE=patient(directory), **quotas) as pool:
        yield pool


@pytest.fixture
def pool(shared: Pool) -> Iterator[Pool]:
    shared.wait_until_seen(2)
    yield shared
    shared.forget_faults()


@pytest.fixture
def callers(pool: Pool) -> Iterator[Callers]:
    with Callers(pool) as callers:
        yield callers


def test_a_call_too_many_gets_503_and_one_later_works(tmp_path: Path) -> None:
    with running_pool(tmp_path, workers=1, WORKER_CAPACITY="1") as pool, Callers(pool) as callers:
        first = callers.call().answered()
        assert callers.call().final() == 503
        first.hears()
        assert first.hang_up() == 200
        pool.assert_settled([first.call_id])
        pool.wait_until_placeable()
        later = callers.call().answered()
        later.hears()
        assert later.hang_up() == 200
        pool.assert_settled([later.call_id])


def test_the_third_of_two_sessions_hears_ringing_and_is_answered_when_one_ends(pool: Pool, callers: Callers) -> None:
    first, second = (callers.call(number).answered() for number in range(2))
    third = callers.call()
    third.rings()
    assert pool.quota().waiting == 1
    first.hears()
    ended_at = time.time()
    assert first.hang_up() == 200
    assert third.answered().seconds_to("answered", ended_at) < NEXT_WITHIN_S
    assert pool.quota().waiting == 0
    assert (second.hang_up(), third.hang_up()) == (200, 200)
    pool.assert_settled(callers.call_ids)


def test_who_has_waited_for_too_long_gets_503_and_who_gives_up_487(pool: Pool, callers: Callers) -> None:
    talking = [callers.call().answered() for _ in range(2)]
    since = time.time()
    impatient, patient_one = callers.call(0), callers.call(1)
    for caller in (impatient, patient_one):
        caller.rings()
    impatient.give_up()
    assert impatient.final() == 487
    assert patient_one.final() == 503
    assert time.time() - since > QUEUE_WAIT_S - keys.SESSION_WAIT_S
    callers.hang_up()
    pool.assert_settled(caller.call_id for caller in talking)


def test_a_429_of_the_service_lowers_the_budget_and_callers_wait_as_long_as_it_asks(
    pool: Pool, callers: Callers
) -> None:
    """The one who met it hears ringing, and so do those who call now: nobody is refused for it."""
    pool.order_faults(next_handshake={"status": 429, "retry_after": BLOCKED_S, "count": 1})
    first = callers.call()
    until(lambda: pool.quota().share < 0.6, 5.0, pool.tails)
    assert pool.quota().blocked_s > 0
    blocked_at = time.time()
    second = callers.call()
    second.rings()
    for caller in (first, second):
        assert BLOCKED_S - 0.5 < caller.answered().seconds_to("answered", blocked_at) < BLOCKED_S + NEXT_WITHIN_S
    callers.hang_up()
    pool.assert_settled(callers.call_ids)
