"""Several dispatchers at once: whichever of them a request of a call reaches, it is one call and goes its way."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from admin.ports import free_udp_range
from bench.load.proxy_set import Balancer
from shared.ending import CallEnd
from tests.acceptance.callers import Callers
from tests.acceptance.pool import Layout, Pool, running_pool
from tests.acceptance.process import START_S
from tests.acceptance.raw_sip import RawCaller, Response

CALLS = 12
REINVITES = 200  # a round trip each


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with running_pool(tmp_path_factory.mktemp("pool"), Layout(dispatchers=3), workers=2) as pool:
        yield pool


def answer_to(caller: RawCaller, pool: Pool) -> Response:
    """Returns the 200 OK."""
    answer = caller.response()
    assert answer and answer.status == 200, pool.tails()
    return answer


def answer_to_reinvite(caller: RawCaller, answer: Response, address: tuple[str, int], pool: Pool) -> Response:
    """Returns its 200 OK; a re-INVITE that overtook the ACK, which went another way, is tried again (RFC 3261 14.1)."""
    for _ in range(REINVITES):
        caller.reinvite(answer, address)
        response = caller.response()
        if not response or response.status != 491:
            break
        caller.ack_failure(response, address)
    assert response and response.status == 200, pool.tails()
    return response


def hang_up(caller: RawCaller, answer: Response, address: tuple[str, int], pool: Pool) -> None:
    """Ends the call that `answer` began, through the dispatcher at `address`."""
    caller.bye(answer, address)
    bye = caller.response("BYE")
    assert bye and bye.status == 200, pool.tails()


def test_copies_of_an_invite_at_three_of_them_are_one_call(pool: Pool) -> None:
    sessions = len(pool.sessions())
    with RawCaller(*pool.addresses[0]) as caller:
        for address in pool.addresses * 2:
            caller.send(caller.invite(), address)
        answer = answer_to(caller, pool)
        caller.ack(answer)
        assert pool.leases() == {caller.call_id}
        hang_up(caller, answer, pool.addresses[0], pool)
    pool.assert_settled([caller.call_id])
    assert len(pool.sessions()) - sessions == 1


def test_ack_reinvite_and_bye_are_carried_by_any_of_them(pool: Pool) -> None:
    first, second, third = pool.addresses
    with RawCaller(*first) as caller:
        caller.send(caller.invite())
        answer = answer_to(caller, pool)
        caller.ack(answer, second)
        caller.ack(answer_to_reinvite(caller, answer, third, pool), second)
        hang_up(caller, answer, third, pool)
    pool.assert_settled([caller.call_id])
    assert pool.endings(caller.call_id) == [CallEnd.CALLER_HANGUP]


def test_a_reinvite_that_overtakes_the_ack_is_refused_and_may_be_tried_again(pool: Pool) -> None:
    first, second, third = pool.addresses
    with RawCaller(*first) as caller:
        caller.send(caller.invite())
        answer = answer_to(caller, pool)
        caller.reinvite(answer, third)
        pending = caller.response()
        assert pending and pending.status == 491, pool.tails()
        caller.ack_failure(pending, third)
        caller.ack(answer, second)
        caller.ack(answer_to_reinvite(caller, answer, third, pool), second)
        hang_up(caller, answer, third, pool)
    pool.assert_settled([caller.call_id])
    assert pool.endings(caller.call_id) == [CallEnd.CALLER_HANGUP]


def test_a_cancel_at_another_one_ends_the_call(pool: Pool) -> None:
    pool.order_faults(next_handshake={"stall": True})
    with RawCaller(*pool.addresses[0]) as caller:
        caller.send(caller.invite())
        ringing = caller.response(final=False)
        while ringing and ringing.status != 180:
            ringing = caller.response(final=False)
        assert ringing, pool.tails()
        caller.send(caller.cancel(), pool.addresses[1])
        cancelled = caller.response("CANCEL")
        assert cancelled and cancelled.status == 200, pool.tails()
        refusal = caller.response()
        assert refusal and refusal.status == 487, pool.tails()
        caller.ack_failure(refusal)
    pool.assert_settled([caller.call_id])
    assert pool.endings(caller.call_id) == [CallEnd.CALLER_CANCELLED]


def test_behind_a_balancer_that_sends_each_datagram_to_any_of_them_every_call_is_one(pool: Pool) -> None:
    sessions = len(pool.sessions())
    balancer = Balancer(pool.addresses, random.Random(5))
    with Callers(pool, dispatchers=balancer) as callers:
        for caller in [callers.call() for _ in range(CALLS)]:
            caller.answered().hears()
        callers.hang_up()
        assert not any(caller.forks for caller in callers)
        pool.assert_settled(callers.call_ids)
    assert len(pool.sessions()) - sessions == CALLS


def test_on_one_port_of_one_host_they_share_the_calls(tmp_path: Path) -> None:
    port = free_udp_range("127.0.0.1", 1)
    with running_pool(tmp_path, Layout(dispatchers=0)) as pool:
        for number in range(2):
            pool.start_dispatcher(SIP_PORT=str(port), SIP_SHARE_PORT="true")
            pool.wait_until_placeable(number)
        assert pool.addresses == [("127.0.0.1", port)] * 2
        while not all(dispatcher.events("call.answered") for dispatcher in pool.dispatchers):
            with Callers(pool) as callers:  # another port each time: the kernel chooses the socket by it
                callers.call().answered().hears()
                callers.hang_up()
                pool.assert_settled(callers.call_ids)
        pool.kill_dispatcher(0)
        with Callers(pool) as callers:
            for caller in [callers.call() for _ in range(CALLS)]:
                caller.answered(START_S)
            callers.hang_up()
            pool.assert_settled(callers.call_ids)
