"""A dispatcher dies or hangs, at every moment of a call: another one takes over, and nobody is lost.

There are three. Callers behave as RFC 3261 and RFC 3263 want it: they send again, and turn to the next dispatcher when
one is unreachable or silent.
"""

import time
from collections.abc import Iterator

import pytest

from shared.control.keys import HEARTBEAT_TTL_S, REAP_INTERVAL_S
from shared.ending import CallEnd
from tests.acceptance.callers import PAUSE_MAX_S, SILENCE_S, STALL_S, Callers
from tests.acceptance.pool import Layout, Pool, running_pool, until
from tests.acceptance.raw_sip import RawCaller

FAILOVER_S = 2.0
"""Longest time until a caller whose dispatcher is unreachable is served by the next: ICMP says so at the first copy."""

COPIED_WITHIN_S = 3.0
"""From a worker's answer, which goes to the dead dispatcher, to the copy that reaches its caller through another."""

ORPHANED_WITHIN_S = HEARTBEAT_TTL_S + REAP_INTERVAL_S + 2.0
"""From the pool's own BYE, which is lost with its dispatcher, to the one that another dispatcher says."""

CROWD = 8


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with running_pool(tmp_path_factory.mktemp("pool"), Layout(dispatchers=3), workers=2) as pool:
        yield pool


@pytest.fixture
def pool(shared: Pool) -> Iterator[Pool]:
    """All three dispatchers are there, before the test and after it."""
    shared.wait_until_reached()
    shared.wait_until_seen(2)
    yield shared
    shared.forget_faults()
    for number, dispatcher in enumerate(shared.dispatchers):
        if dispatcher.running:
            shared.thaw_dispatcher(number)
        else:
            shared.restart_dispatcher(number)


@pytest.fixture
def callers(pool: Pool) -> Iterator[Callers]:
    with Callers(pool) as callers:
        yield callers


def test_killed_with_an_invite_it_has_not_read_the_next_one_places_the_call(pool: Pool, callers: Callers) -> None:
    """New: it takes a retransmission longer. Nothing of the call was known to the pool before."""
    pool.freeze_dispatcher()
    since = time.time()
    caller = callers.call()
    pool.kill_dispatcher()
    assert caller.answered().seconds_to("answered", since) < FAILOVER_S
    assert caller.tried == 2
    assert caller.hang_up() == 200
    pool.assert_settled(callers.call_ids)


def test_killed_in_the_middle_of_many_invites_each_is_answered_and_is_one_call(pool: Pool, callers: Callers) -> None:
    """New, at any moment from the INVITE to the 200: answered, by one worker, once."""
    since = time.time()
    new = [callers.call() for _ in range(CROWD)]
    pool.dispatcher.wait_for("call.placed", where=lambda event: event["call_id"] == new[0].call_id)
    pool.kill_dispatcher()
    for caller in new:
        assert caller.answered().seconds_to("answered", since) < FAILOVER_S + COPIED_WITHIN_S
        assert caller.hang_up() == 200
        assert caller.forks == 0
    pool.assert_settled(callers.call_ids)


def test_killed_while_it_rings_the_answer_comes_through_another_one(pool: Pool, callers: Callers) -> None:
    """Ringing: it goes on ringing, and the 200 comes a little late. New: the next dispatcher places them."""
    rang_at = time.time()
    caller = callers.ring()
    pool.kill_dispatcher()
    new = callers.call()
    assert new.answered().tried == 2
    assert caller.answered().seconds_to("answered", rang_at) < STALL_S + COPIED_WITHIN_S
    caller.hears()
    assert (caller.hang_up(), new.hang_up()) == (200, 200)
    pool.assert_settled(callers.call_ids)


def test_killed_while_it_rings_who_gives_up_then_is_hung_up_after_the_answer(pool: Pool, callers: Callers) -> None:
    """Ringing, and the CANCEL goes to the dead: the call is answered, and ended by its caller at once."""
    caller = callers.ring()
    pool.kill_dispatcher()
    caller.give_up()
    assert caller.final() in (200, 487)
    pool.assert_settled(callers.call_ids)


def test_killed_while_it_rings_a_refusal_comes_through_another_one(pool: Pool, callers: Callers) -> None:
    """Ringing, and the call cannot be answered: the caller is told so, instead of ringing on for ever."""
    caller = callers.ring()
    pool.order_faults(next_handshake={"status": 401, "count": 5})
    pool.kill_dispatcher()
    assert caller.final() == CallEnd.SESSION_UNAUTHORIZED.sip_status
    pool.forget_faults()
    pool.assert_settled(callers.call_ids)
    assert pool.endings(caller.call_id) == [CallEnd.SESSION_UNAUTHORIZED]
    pool.wait_until_reached()


def test_killed_between_the_200_and_its_ack_the_ack_and_the_bye_go_through_another_one(pool: Pool) -> None:
    with RawCaller(*pool.addresses[0]) as caller:
        caller.send(caller.invite())
        answer = caller.response()
        assert answer and answer.status == 200, pool.tails()
        pool.kill_dispatcher()
        caller.ack(answer, pool.addresses[1])
        caller.bye(answer, pool.addresses[2])
        bye = caller.response("BYE")
        assert bye and bye.status == 200, pool.tails()
    pool.assert_settled([caller.call_id])
    assert pool.endings(caller.call_id) == [CallEnd.CALLER_HANGUP]


def test_killed_with_calls_in_progress_they_go_on_and_either_side_can_hang_up(pool: Pool, callers: Callers) -> None:
    """In progress: not a packet is lost, the caller's BYE goes to the next dispatcher, the pool's own one follows."""
    first, second = [callers.call().answered() for _ in range(2)]
    for caller in (first, second):
        caller.hears()
    since = time.time()
    pool.kill_dispatcher()
    new = callers.call().answered()
    pool.hang_up(second.call_id)
    ended_at = time.time()
    assert first.longest_pause_s(since) < PAUSE_MAX_S
    assert (first.hang_up(), new.hang_up()) == (200, 200)
    assert second.hung_up_on() - ended_at < ORPHANED_WITHIN_S
    pool.assert_settled(callers.call_ids)
    assert pool.endings(second.call_id) == [CallEnd.OPERATOR_HANGUP]


def test_frozen_the_next_one_is_asked_and_thawed_it_makes_no_second_call(pool: Pool, callers: Callers) -> None:
    """In progress: they go on. New: answered after their own patience with a silent dispatcher."""
    talking = callers.call().answered()
    talking.hears()
    since = time.time()
    pool.freeze_dispatcher()
    new = callers.call()
    assert new.answered().seconds_to("answered", since) < SILENCE_S + FAILOVER_S
    assert talking.longest_pause_s(since) < PAUSE_MAX_S
    pool.thaw_dispatcher()
    pool.dispatcher.wait_for("call.taken", where=lambda event: event["call_id"] == new.call_id)
    assert (new.hang_up(), talking.hang_up()) == (200, 200)
    assert new.forks == 0
    pool.assert_settled(callers.call_ids)


def test_all_killed_callers_in_progress_go_on_and_new_ones_are_answered_by_the_first_to_come_back(
    pool: Pool, callers: Callers
) -> None:
    """In progress: they go on. New: nobody answers, until a dispatcher is back."""
    talking = callers.call().answered()
    talking.hears()
    since = time.time()
    for number in range(3):
        pool.kill_dispatcher(number)
    new = callers.call()
    until(lambda: new.tried == 3, FAILOVER_S, pool.tails)
    pool.restart_dispatcher(2)
    assert new.answered().call_id
    assert talking.longest_pause_s(since) < PAUSE_MAX_S
    assert (new.hang_up(), talking.hang_up()) == (200, 200)
    pool.assert_settled(callers.call_ids)
