"""Offers: the right worker leased, with and without Redis."""

import asyncio
import gc
from dataclasses import replace
from typing import cast

import pytest

from dispatcher.offers import OfferedElsewhere, Offers
from dispatcher.sip.actions import Address, Offer, Place
from dispatcher.sip.message import Request, parse
from dispatcher.sip.trace import Traces
from dispatcher.table import Table
from shared import token
from shared.agents.demands import Demands
from shared.choices import PlacementPolicy
from shared.clock import now_ms
from shared.errors import CallTaken, ControlUnavailable, LeaseLost, NoCapacity
from shared.ids import CallId, LeaseId, WorkerId
from shared.messages import Lease, ResourceQuota, WorkerHealth
from shared.states import WorkerState
from tests.unit.dispatcher.ladder import invite
from tests.unit.dispatcher.pool import Pool

SECRET = "a secret for tests only"
TRUNK = "192.0.2.10"
INVITE = cast(Request, parse(invite()))
TRACE = Traces(1.0).of(INVITE, CallId("0123456789abcdef0123"))
DEMANDS = Demands("desk", {}, 5, (ResourceQuota(name="east"), ResourceQuota(name="west")))


def place(call: str, *exclude: str, replacing: Lease | None = None, attempt: int = 1, silent: bool = False) -> Place:
    """Returns what the SIP side asks."""
    excluded = frozenset(WorkerId(name) for name in exclude)
    return Place(1, CallId(call), TRUNK, 0.0, attempt, excluded, replacing, silent, INVITE, TRACE)


class Desk:
    """A table and offers over a pool in memory."""

    def __init__(self, *workers: str, capacity: int = 1) -> None:
        self.pool = Pool()
        for index, worker in enumerate(workers):
            self.pool.add(worker, port=5070 + index, capacity=capacity)
        self.now = 0.0
        self.table = Table(self.pool, lambda: self.now)
        self.offers = Offers(self.table, self.pool, policy=PlacementPolicy.SPREAD, secret=SECRET, may_wait=False)

    async def make(
        self, call: str = "call-1", *exclude: str, replacing: Lease | None = None, attempt: int = 1
    ) -> Offer | None:
        """Returns an offer, None when no worker has room."""
        try:
            return await self.offers.make(
                place(call, *exclude, replacing=replacing, attempt=attempt), DEMANDS, invite_at_ms=12345
            )
        except NoCapacity:
            return None


async def read(desk: Desk) -> Desk:
    await desk.table.refresh()
    return desk


async def test_an_offer_has_a_lease_an_address_and_a_token_for_that_worker_and_call() -> None:
    desk = await read(Desk("w1"))
    offer = await desk.make()
    assert offer
    assert offer.address == Address("udp", "10.0.1.1", 5070)
    lease = token.verify(offer.token, SECRET, worker_id=WorkerId("w1"), call_id=CallId("call-1"), now_ms=1)
    assert lease == offer.lease
    assert lease.lease_id == desk.pool.leases[CallId("call-1")].lease_id
    assert (lease.invite_at_ms, lease.provisional, lease.peer) == (12345, False, TRUNK)


async def test_without_room_there_is_no_offer() -> None:
    desk = await read(Desk("w1"))
    await desk.make("call-1")
    assert await desk.make("call-2") is None


async def test_a_lost_race_leads_to_the_next_worker() -> None:
    desk = await read(Desk("w1", "w2"))
    desk.pool.hidden = {WorkerId("w1"): 1}
    offers = [await desk.make("call-1")]
    assert [offer and offer.lease.worker_id for offer in offers] == ["w2"]


async def test_a_race_lost_everywhere_is_no_offer() -> None:
    desk = await read(Desk("w1", "w2"))
    desk.pool.hidden = {WorkerId("w1"): 1, WorkerId("w2"): 1}
    assert await desk.make() is None


async def test_a_call_is_not_refused_on_the_word_of_an_old_table() -> None:
    desk = await read(Desk("w1"))
    offer = await desk.make("call-1")
    assert offer
    await desk.pool.release(offer.lease, None)  # by somebody else: this dispatcher has not seen it
    desk.now += 60
    assert await desk.make("call-2")


async def test_many_refusals_read_the_table_once() -> None:
    desk = await read(Desk("w1"))
    await desk.make("call-1")
    desk.now += 60
    before = desk.pool.reads
    assert await asyncio.gather(*(desk.make(f"call-{number}") for number in range(2, 50))) == [None] * 48
    assert desk.pool.reads == before + 1


async def test_a_second_try_goes_elsewhere_and_frees_the_first_offer() -> None:
    desk = await read(Desk("w1", "w2"))
    first = await desk.make()
    assert first
    tried = first.lease.worker_id
    second = await desk.make("call-1", tried, replacing=first.lease, attempt=2)
    assert second and second.lease.worker_id != tried
    assert desk.pool.load(tried) == 0


async def test_a_second_try_does_not_go_to_the_replacement_of_a_worker_that_has_answered_there() -> None:
    desk = Desk("w1", capacity=2)
    desk.pool.add("next", port=5070, capacity=2)
    await desk.table.refresh()
    assert await desk.make("call-1", "w1", attempt=2) is None
    desk.pool.add("w2", port=5071, capacity=2)
    desk.now += 60
    offer = await desk.make("call-1", "w1", attempt=2)
    assert offer and offer.lease.worker_id == "w2"
    waiting = place("call-2", "w1", "w2", attempt=2, silent=True)  # on w1, which is dead: it has answered nothing
    assert (await desk.offers.make(waiting, DEMANDS, invite_at_ms=1)).lease.worker_id == "next"


async def test_a_call_that_its_failed_worker_holds_is_placed_once_it_has_let_go() -> None:
    desk = await read(Desk("w1", "w2"))
    first = await desk.make()
    assert first
    desk.pool.claimed.add(first.lease.lease_id)
    with pytest.raises(LeaseLost):
        await desk.make("call-1", first.lease.worker_id, replacing=first.lease, attempt=2)
    desk.pool.claimed.clear()
    await desk.pool.release(first.lease, None)
    assert await desk.make("call-1", first.lease.worker_id, replacing=first.lease, attempt=2)


async def test_a_call_that_a_worker_has_claimed_through_another_replica_is_taken() -> None:
    desk = await read(Desk("w1", "w2"))
    other = desk.pool.offer("call-1", "w2")
    desk.pool.claimed.add(other.lease_id)
    with pytest.raises(CallTaken):
        await desk.make("call-1")


async def test_the_offer_of_a_worker_that_failed_the_call_is_not_made_again() -> None:
    desk = await read(Desk("w1", "w2"))
    first = await desk.make()
    assert first
    with pytest.raises(LeaseLost):
        await desk.make("call-1", first.lease.worker_id, attempt=3)


async def test_a_lease_on_a_worker_that_the_table_does_not_show_is_no_offer() -> None:
    desk = await read(Desk("w1"))
    with pytest.raises(NoCapacity):
        desk.offers.use(place("call-1"), desk.pool.offer("call-1", "w2"))


async def test_the_offer_that_another_replica_makes_for_the_call_is_left_to_it_and_can_be_taken_over() -> None:
    desk = await read(Desk("w1", "w2", capacity=2))
    other = desk.pool.offer("call-1", "w2")
    with pytest.raises(OfferedElsewhere) as elsewhere:
        await desk.make("call-1")
    assert elsewhere.value.lease == other
    offer = desk.offers.use(place("call-1"), other)
    assert offer.lease == replace(other, peer=TRUNK)
    assert offer.address.port == 5071


async def test_a_lease_names_the_agent_and_a_resource_that_the_worker_reaches() -> None:
    desk = Desk("w1")
    desk.pool.healths[WorkerId("w1")] = WorkerHealth(cut_off=["east"])
    await read(desk)
    offer = await desk.make()
    assert offer
    assert (offer.lease.agent, offer.lease.resource) == ("desk", "west")


async def test_a_worker_that_reaches_no_resource_or_is_late_gets_no_call_and_is_no_room() -> None:
    desk = Desk("w1", "w2")
    desk.pool.healths[WorkerId("w1")] = WorkerHealth(cut_off=["east", "west"])
    desk.pool.healths[WorkerId("w2")] = WorkerHealth(late=True)
    await read(desk)
    assert await desk.make() is None
    assert desk.table.room(["east", "west"]) == 0
    assert desk.table.room(["north", "west"]) == 1, "cut off from what these calls need, not from others'"


async def test_workers_that_redis_has_forgotten_get_provisional_offers_until_they_have_had_time_to_register() -> None:
    desk = await read(Desk("w1"))
    desk.pool.forget("w1", watched_for_s=1.0)
    desk.now += 60
    offer = await desk.make("call-1")
    assert offer and offer.lease.provisional
    assert desk.table.room() == 0, "the slot that was given is counted"
    desk.pool.forget("w1", watched_for_s=60.0)
    desk.now += 60
    assert await desk.make("call-2") is None


async def test_a_table_of_just_now_is_read_anew_when_redis_has_come_back_empty_since() -> None:
    desk = await read(Desk("w1", capacity=3))
    desk.pool.forget("w1", watched_for_s=0.0)
    for number in range(2):  # the second one finds a table that has just been read, with nobody in it
        offer = await desk.make(f"call-{number}")
        assert offer and offer.lease.provisional
    desk.pool.away = True
    offer = await desk.make("call-2")
    assert offer and offer.lease.provisional, "known from before, although Redis has gone again"


async def test_a_slow_redis_gets_the_lease_that_is_offered_without_it() -> None:
    desk = await read(Desk("w1", "w2", capacity=5))
    desk.pool.delay_s = 0.3
    offer = await desk.make("call-1")
    assert offer and offer.lease.provisional
    await desk.pool.settled()
    entered = desk.pool.leases[CallId("call-1")]
    assert (entered.lease_id, entered.worker_id) == (offer.lease.lease_id, offer.lease.worker_id)


async def test_a_slow_redis_that_then_refuses_is_heard_out_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    desk = await read(Desk("w1"))
    desk.pool.delay_s = 0.3
    offer = await desk.make("call-1")
    assert offer and offer.lease.provisional
    desk.pool.workers.clear()
    await desk.pool.settled()
    gc.collect()
    assert caplog.messages == []


async def test_every_offer_carries_the_trace_of_its_call() -> None:
    desk = await read(Desk("w1", "w2"))
    leased = await desk.make("call-1")
    desk.pool.away = True
    provisional = await desk.make("call-2")
    for offer in (leased, provisional):
        assert offer and offer.lease.traceparent == str(TRACE.context)
    assert provisional and token.verify(
        provisional.token, SECRET, worker_id=provisional.lease.worker_id, call_id=CallId("call-2"), now_ms=now_ms()
    ).traceparent == str(TRACE.context)


async def test_while_redis_is_away_offers_are_provisional_and_counted_here() -> None:
    desk = await read(Desk("w1", "w2"))
    desk.pool.away = True
    offers = [await desk.make(f"call-{number}") for number in range(3)]
    assert [offer and offer.lease.provisional for offer in offers] == [True, True, None]
    assert {offer.lease.worker_id for offer in offers if offer} == {"w1", "w2"}


async def test_a_redis_that_does_not_answer_is_not_waited_for() -> None:
    desk = await read(Desk("w1", capacity=50))
    desk.pool.stuck = True
    before = desk.pool.unanswered
    offers = await asyncio.gather(*(desk.make(f"call-{number}") for number in range(20)))
    assert all(offer and offer.lease.provisional for offer in offers)
    assert desk.pool.unanswered == before + 20  # all of them still hang


async def test_once_the_table_could_not_be_read_redis_is_not_asked_for_leases() -> None:
    desk = await read(Desk("w1", capacity=50))
    desk.pool.away = True
    with pytest.raises(ControlUnavailable):
        await desk.table.refresh()
    desk.pool.away = False
    offer = await desk.make("call-1")
    assert offer and offer.lease.provisional
    assert desk.pool.leases == {}


async def test_provisional_tokens_verify() -> None:
    desk = await read(Desk("w1"))
    desk.pool.away = True
    offer = await desk.make()
    assert offer
    now_ms = offer.lease.offered_at_ms
    lease = token.verify(offer.token, SECRET, worker_id=WorkerId("w1"), call_id=CallId("call-1"), now_ms=now_ms)
    assert (lease.provisional, lease.peer) == (True, TRUNK)


async def test_counts_that_are_too_old_to_be_true_do_not_refuse_calls() -> None:
    desk = await read(Desk("w1"))
    desk.pool.away = True
    assert await desk.make("call-1")
    assert await desk.make("call-2") is None
    desk.now += 60
    assert await desk.make("call-3")


async def test_drained_and_excluded_workers_get_nothing_while_redis_is_away_either() -> None:
    desk = Desk("w1", "w2")
    desk.pool.set_state("w1", WorkerState.DRAINING)
    await read(desk)
    desk.pool.away = True
    desk.now += 60
    assert await desk.make("call-1", "w2") is None


async def test_an_empty_table_has_no_room_with_or_without_redis() -> None:
    desk = Desk()
    assert await desk.make() is None
    assert await (await read(desk)).make() is None


async def test_when_redis_is_back_leases_are_real_again() -> None:
    desk = await read(Desk("w1", capacity=3))
    desk.pool.away = True
    await desk.make("call-1")
    desk.pool.away = False
    await desk.table.refresh()
    offer = await desk.make("call-2")
    assert offer and not offer.lease.provisional


async def test_a_provisional_offer_that_failed_is_not_looked_for_in_redis() -> None:
    desk = await read(Desk("w1", "w2"))
    desk.pool.away = True
    first = await desk.make()
    assert first
    desk.pool.away = False
    await desk.table.refresh()
    second = await desk.make("call-1", first.lease.worker_id, replacing=first.lease, attempt=2)
    assert second and second.lease.worker_id != first.lease.worker_id


async def test_an_offer_that_is_withdrawn_makes_room_at_once() -> None:
    desk = await read(Desk("w1"))
    offer = await desk.make("call-1")
    assert offer
    await desk.offers.withdraw(offer.lease)
    assert desk.pool.leases == {}
    reads = desk.pool.reads
    assert await desk.make("call-2")
    assert desk.pool.reads == reads


async def test_a_claimed_lease_cannot_be_withdrawn() -> None:
    desk = await read(Desk("w1"))
    offer = await desk.make("call-1")
    assert offer
    desk.pool.claimed.add(LeaseId(offer.lease.lease_id))
    await desk.offers.withdraw(offer.lease)
    assert await desk.make("call-2") is None


async def test_withdrawing_without_redis_leaves_the_offer_to_lapse() -> None:
    desk = await read(Desk("w1"))
    offer = await desk.make("call-1")
    assert offer
    desk.pool.away = True
    await desk.offers.withdraw(offer.lease)


async def test_a_worker_that_names_a_host_instead_of_an_address_is_left_out() -> None:
    desk = Desk()
    desk.pool.add("w1", host="worker.example.com")
    await read(desk)
    assert await desk.make() is None
