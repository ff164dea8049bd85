"""One lease, from offer to release."""

from dataclasses import replace

import pytest
from redis.asyncio import Redis

from shared.control import keys
from shared.control.connection import ask
from shared.control.leases import Leases, Wish
from shared.control.workers import Workers
from shared.errors import CallTaken, LeaseLost, NoCapacity
from shared.ids import CallId, LeaseId, WorkerId, new_lease_id
from shared.messages import Lease
from shared.states import WorkerState
from tests.integration.control.pool import (
    INVITE_AT_MS,
    call_record,
    check,
    pass_time,
    reasons,
    snapshot,
    worker_record,
)

CALL = CallId("a")
ONE, TWO = WorkerId("one"), WorkerId("two")


@pytest.fixture(autouse=True)
async def two_workers(workers: Workers) -> None:
    """Two ready workers with two slots each."""
    await workers.register(worker_record("one"), [])
    await workers.register(worker_record("two"), [])


def provisional(call_id: str, worker_id: str = "one") -> Lease:
    """Returns a lease that a dispatcher makes up while Redis is away."""
    return Lease(
        lease_id=new_lease_id(),
        call_id=CallId(call_id),
        worker_id=WorkerId(worker_id),
        offered_at_ms=INVITE_AT_MS + 5,
        invite_at_ms=INVITE_AT_MS,
        provisional=True,
    )


async def acquired(leases: Leases, call_id: str = "a", worker_id: str = "one") -> Lease:
    """Returns a fresh offer."""
    return await leases.acquire(CallId(call_id), WorkerId(worker_id), invite_at_ms=INVITE_AT_MS)


class TestAcquire:
    async def test_lease_names_call_worker_and_redis_time(self, redis: Redis, leases: Leases) -> None:
        lease = await leases.acquire(CALL, ONE, invite_at_ms=INVITE_AT_MS)
        assert (lease.call_id, lease.worker_id, lease.invite_at_ms) == (CALL, ONE, INVITE_AT_MS)
        seconds = int((await ask(redis, "TIME"))[0])
        assert 0 <= seconds * 1000 + 999 - lease.offered_at_ms < 60_000
        assert not lease.provisional

    async def test_full_worker_has_no_capacity(self, leases: Leases) -> None:
        await acquired(leases, "a")
        await acquired(leases, "b")
        with pytest.raises(NoCapacity, match="one: full"):
            await acquired(leases, "c")

    async def test_unknown_worker_has_no_capacity(self, leases: Leases) -> None:
        with pytest.raises(NoCapacity, match="unknown"):
            await acquired(leases, "a", "three")

    async def test_silent_worker_has_no_capacity(self, redis: Redis, leases: Leases) -> None:
        await pass_time(redis, keys.HEARTBEAT_TTL_S + 0.1)
        with pytest.raises(NoCapacity, match="silent"):
            await acquired(leases)

    @pytest.mark.parametrize("state", [WorkerState.STARTING, WorkerState.DRAINING, WorkerState.STOPPED])
    async def test_worker_that_is_not_ready_has_no_capacity(
        self, workers: Workers, leases: Leases, state: WorkerState
    ) -> None:
        await workers.heartbeat(ONE, state)
        with pytest.raises(NoCapacity, match="not ready"):
            await acquired(leases)

    async def test_same_call_on_another_replica_gets_the_lease_there_is(self, leases: Leases) -> None:
        first = await acquired(leases, "a", "one")
        assert await acquired(leases, "a", "two") == first

    async def test_call_that_a_worker_has_claimed_is_taken(self, redis: Redis, leases: Leases) -> None:
        first = await acquired(leases, "a", "one")
        await leases.claim(first)
        before = await snapshot(redis)
        with pytest.raises(CallTaken):
            await acquired(leases, "a", "two")
        assert await snapshot(redis) == before

    async def test_offer_of_an_older_release_which_knew_no_resources_is_returned_and_given_back(
        self, redis: Redis, leases: Leases
    ) -> None:
        first = await acquired(leases)
        await ask(redis, "HDEL", keys.call(CALL), "resource")
        assert await acquired(leases) == first
        assert await leases.find(CALL) == first
        assert await leases.release(first, None)
        assert await ask(redis, "HGET", keys.sessions(), "") == b"1", "that lease had not been counted"

    async def test_lease_says_who_is_to_answer_and_who_asked(self, leases: Leases) -> None:
        wish = Wish(agent="reception", peer="192.0.2.9")
        lease = await leases.acquire(CALL, ONE, invite_at_ms=INVITE_AT_MS, wish=wish)
        assert (lease.agent, lease.peer, lease.resource) == ("reception", "192.0.2.9", "")
        assert await leases.find(CALL) == lease
        assert await leases.find(CallId("nobody")) is None

    async def test_refused_call_leaves_nothing_behind(self, redis: Redis, leases: Leases) -> None:
        before = await snapshot(redis)
        with pytest.raises(NoCapacity):
            await acquired(leases, "a", "three")
        assert await snapshot(redis) == before


class TestReplacing:
    async def test_next_worker_gets_the_call_and_the_first_its_slot_back(self, redis: Redis, leases: Leases) -> None:
        first = await acquired(leases)
        second = await leases.acquire(CALL, TWO, invite_at_ms=INVITE_AT_MS, replacing=first.lease_id)
        assert second.worker_id == TWO and second.lease_id != first.lease_id
        seen = await snapshot(redis)
        check(seen, capacity=2)
        assert list(seen.leases) == [second.lease_id]

    async def test_replaced_offer_cannot_be_claimed_or_released(self, redis: Redis, leases: Leases) -> None:
        first = await acquired(leases)
        second = await leases.acquire(CALL, TWO, invite_at_ms=INVITE_AT_MS, replacing=first.lease_id)
        with pytest.raises(LeaseLost, match="released"):
            await leases.claim(first)
        assert not await leases.release(first, call_record(first))
        await leases.claim(second)
        assert await reasons(redis) == {}

    async def test_claimed_lease_is_not_replaced(self, redis: Redis, leases: Leases) -> None:
        first = await acquired(leases)
        await leases.claim(first)
        with pytest.raises(LeaseLost, match="claimed"):
            await leases.acquire(CALL, TWO, invite_at_ms=INVITE_AT_MS, replacing=first.lease_id)
        assert list((await snapshot(redis)).leases) == [first.lease_id]

    async def test_offer_stands_when_the_next_worker_has_no_room(self, redis: Redis, leases: Leases) -> None:
        first = await acquired(leases)
        with pytest.raises(NoCapacity):
            await leases.acquire(CALL, WorkerId("three"), invite_at_ms=INVITE_AT_MS, replacing=first.lease_id)
        assert list((await snapshot(redis)).leases) == [first.lease_id]

    async def test_lease_that_another_replica_moved_on_to_is_returned(self, leases: Leases) -> None:
        first = await acquired(leases)
        second = await leases.acquire(CALL, TWO, invite_at_ms=INVITE_AT_MS, replacing=first.lease_id)
        assert await leases.acquire(CALL, ONE, invite_at_ms=INVITE_AT_MS, replacing=first.lease_id) == second

    async def test_lease_that_is_gone_already_is_no_obstacle(self, redis: Redis, leases: Leases) -> None:
        second = await leases.acquire(CALL, TWO, invite_at_ms=INVITE_AT_MS, replacing=LeaseId("gone"))
        assert list((await snapshot(redis)).leases) == [second.lease_id]


class TestClaim:
    async def test_offer_is_claimed_once(self, redis: Redis, leases: Leases) -> None:
        lease = await acquired(leases)
        await leases.claim(lease)
        assert (await snapshot(redis)).leases[lease.lease_id].state == "claimed"
        with pytest.raises(LeaseLost, match="claimed before"):
            await leases.claim(lease)

    async def test_claimed_lease_outlives_an_offer(self, redis: Redis, leases: Leases) -> None:
        lease = await acquired(leases)
        await leases.claim(lease)
        lapses_at = float(await ask(redis, "ZSCORE", keys.lapses(), lease.call_id))
        assert lapses_at >= lease.offered_at_ms + keys.ms(keys.LEASE_TTL_S)

    async def test_unknown_lease_is_lost(self, leases: Leases) -> None:
        with pytest.raises(LeaseLost, match="unknown"):
            await leases.claim(replace(provisional("a"), provisional=False))

    async def test_expired_offer_is_lost_although_nobody_has_reaped_it(self, redis: Redis, leases: Leases) -> None:
        lease = await acquired(leases)
        await pass_time(redis, keys.OFFER_TTL_S + 0.1)
        with pytest.raises(LeaseLost, match="expired"):
            await leases.claim(lease)

    async def test_another_worker_cannot_claim_it(self, redis: Redis, leases: Leases) -> None:
        lease = await acquired(leases)
        with pytest.raises(LeaseLost, match="elsewhere"):
            await leases.claim(replace(lease, worker_id=TWO))
        assert (await snapshot(redis)).leases[lease.lease_id].state == "offered"

    async def test_provisional_lease_is_entered_as_claimed(self, redis: Redis, leases: Leases) -> None:
        lease = provisional("a")
        await leases.claim(lease)
        seen = await snapshot(redis)
        check(seen, capacity=2)
        assert seen.leases[lease.lease_id].state == "claimed"
        with pytest.raises(LeaseLost, match="claimed before"):
            await leases.claim(lease)

    async def test_provisional_lease_finds_no_room_on_a_full_worker(self, leases: Leases) -> None:
        await acquired(leases, "a")
        await acquired(leases, "b")
        with pytest.raises(LeaseLost, match="full"):
            await leases.claim(provisional("c"))

    async def test_provisional_lease_of_a_call_that_is_leased_elsewhere_is_lost(self, leases: Leases) -> None:
        await acquired(leases, "a", "two")
        with pytest.raises(LeaseLost, match="elsewhere"):
            await leases.claim(provisional("a", "one"))

    async def test_provisional_lease_is_entered_before_its_worker_has_registered_again(
        self, redis: Redis, leases: Leases
    ) -> None:
        await ask(redis, "FLUSHALL")
        lease = provisional("a")
        await leases.claim(lease)
        assert list((await snapshot(redis)).leases) == [lease.lease_id]


class TestRenew:
    async def test_renewed_leases_live_on(self, redis: Redis, leases: Leases) -> None:
        running = [await acquired(leases, name) for name in "ab"]
        for lease in running:
            await leases.claim(lease)
        await pass_time(redis, keys.LEASE_TTL_S - 1)
        assert await leases.renew(ONE, running) == []
        now_ms = int((await ask(redis, "TIME"))[0]) * 1000
        for lease in running:
            lapses_at = float(await ask(redis, "ZSCORE", keys.lapses(), lease.call_id))
            assert lapses_at > now_ms + keys.ms(keys.LEASE_TTL_S) - 60_000 / 4

    async def test_nothing_to_renew_is_no_error(self, leases: Leases) -> None:
        assert await leases.renew(ONE, []) == []

    async def test_released_lease_is_lost(self, leases: Leases) -> None:
        lease = await acquired(leases)
        await leases.claim(lease)
        await leases.release(lease, call_record(lease))
        assert await leases.renew(ONE, [lease]) == [lease.lease_id]

    async def test_forgotten_lease_is_entered_again(self, redis: Redis, workers: Workers, leases: Leases) -> None:
        lease = await acquired(leases)
        await leases.claim(lease)
        before = await snapshot(redis)
        await ask(redis, "DEL", keys.call(CALL), keys.slots(ONE), keys.lapses(), keys.loads(), keys.sessions())
        assert await leases.renew(ONE, [lease]) == []
        assert await snapshot(redis) == before

    async def test_forgotten_lease_of_a_call_that_is_leased_elsewhere_is_lost(
        self, redis: Redis, leases: Leases
    ) -> None:
        theirs = await acquired(leases, "a", "two")
        mine = provisional("a", "one")
        assert await leases.renew(ONE, [mine]) == [mine.lease_id]
        assert list((await snapshot(redis)).leases) == [theirs.lease_id]

    async def test_call_whose_claim_got_no_answer_is_claimed(self, redis: Redis, leases: Leases) -> None:
        lease = await acquired(leases)
        assert await leases.renew(ONE, [lease]) == []
        assert (await snapshot(redis)).leases[lease.lease_id].state == "claimed"

    async def test_forgotten_lease_without_room_is_not_lost_and_is_entered_later(
        self, redis: Redis, leases: Leases
    ) -> None:
        running = [provisional("a"), provisional("b")]
        offer = await acquired(leases, "c")
        assert await leases.renew(ONE, running) == []
        seen = await snapshot(redis)
        check(seen, capacity=2)
        assert set(seen.leases) == {running[0].lease_id, offer.lease_id}
        await leases.release(offer, None)
        assert await leases.renew(ONE, running) == []
        assert set((await snapshot(redis)).leases) == {lease.lease_id for lease in running}


class TestRelease:
    async def test_slot_is_free_and_the_record_written_once(self, redis: Redis, leases: Leases) -> None:
        lease = await acquired(leases)
        await leases.claim(lease)
        assert await leases.release(lease, call_record(lease))
        assert not await leases.release(lease, call_record(lease))
        assert (await snapshot(redis)).leases == {}
        assert await reasons(redis) == {lease.lease_id: ["caller_hangup"]}

    async def test_offer_is_given_back_without_a_record(self, redis: Redis, leases: Leases) -> None:
        lease = await acquired(leases)
        assert await leases.release(lease, None)
        assert not await leases.release(lease, None)
        with pytest.raises(LeaseLost, match="released"):
            await leases.claim(lease)
        assert (await snapshot(redis)).leases == {}
        assert await reasons(redis) == {}

    async def test_unclaimed_lease_may_have_a_record(self, redis: Redis, leases: Leases) -> None:
        lease = await acquired(leases)
        assert await leases.release(lease, call_record(lease))
        assert list(await reasons(redis)) == [lease.lease_id]

    async def test_claimed_lease_is_not_ended_without_a_record(self, redis: Redis, leases: Leases) -> None:
        lease = await acquired(leases)
        await leases.claim(lease)
        assert not await leases.release(lease, None)
        assert list((await snapshot(redis)).leases) == [lease.lease_id]
        assert await leases.release(lease, call_record(lease))

    async def test_forgotten_lease_gets_its_record_once(self, redis: Redis, leases: Leases) -> None:
        lease = await acquired(leases)
        await leases.claim(lease)
        await ask(redis, "FLUSHALL")
        assert not await leases.release(lease, None)
        assert await leases.release(lease, call_record(lease))
        assert not await leases.release(lease, call_record(lease))
        assert await reasons(redis) == {lease.lease_id: ["caller_hangup"]}

    async def test_forgotten_lease_does_not_free_the_one_its_call_has_now(self, redis: Redis, leases: Leases) -> None:
        mine = provisional("a", "one")
        theirs = await acquired(leases, "a", "two")
        assert await leases.release(mine, call_record(mine))
        assert list((await snapshot(redis)).leases) == [theirs.lease_id]

    async def test_call_may_be_leased_again_after_release(self, leases: Leases) -> None:
        first = await acquired(leases)
        await leases.release(first, None)
        assert (await acquired(leases)).lease_id != first.lease_id
