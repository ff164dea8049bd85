"""What remains of a call that was with several workers: one record. And one that is over is not placed again."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from shared.control import keys
from shared.control.connection import ask
from shared.control.events import START, Events
from shared.control.leases import Leases, Wish
from shared.control.workers import Workers
from shared.ending import CallEnd
from shared.errors import CallTaken, LeaseLost, NoCapacity, NoQuota
from shared.ids import CallId, LeaseId, WorkerId
from shared.messages import Lease, ResourceQuota
from tests.integration.control.pool import (
    DIALOG,
    INVITE_AT_MS,
    call_record,
    overs,
    pass_time,
    reasons,
    snapshot,
    worker_record,
)

CALL = CallId("a")
ONE, TWO, THREE = WorkerId("one"), WorkerId("two"), WorkerId("three")
SILENT_S = keys.HEARTBEAT_TTL_S + 0.1
FOR_GOOD = {CALL: "final"}


@pytest.fixture(autouse=True)
async def three_workers(workers: Workers) -> None:
    """Three ready workers."""
    for worker_id in (ONE, TWO, THREE):
        await workers.register(worker_record(worker_id), [])


async def offered(leases: Leases, worker_id: WorkerId, replacing: Lease | None = None) -> Lease:
    """Returns an offer of the call."""
    lease_id = replacing.lease_id if replacing else None
    return await leases.acquire(CALL, worker_id, invite_at_ms=INVITE_AT_MS, replacing=lease_id)


async def claimed(leases: Leases, worker_id: WorkerId) -> Lease:
    """Returns the lease of the call, which rings at this worker."""
    lease = await offered(leases, worker_id)
    await leases.claim(lease)
    return lease


async def ended(leases: Leases, lease: Lease, reason: CallEnd = CallEnd.SESSION_UNAVAILABLE) -> Lease:
    """Ends the call at its worker; unless told otherwise it answers 503. Returns the lease."""
    assert await leases.release(lease, call_record(lease, reason))
    return lease


def answered(lease: Lease) -> Lease:
    """Returns the lease of the call once it is answered."""
    return replace(lease, answered_at_ms=INVITE_AT_MS + 5, dialog=DIALOG)


def made_up(worker_id: WorkerId) -> Lease:
    """Returns what a dispatcher offers when it cannot ask Redis."""
    return Lease(
        lease_id=LeaseId("made up"),
        call_id=CALL,
        worker_id=worker_id,
        offered_at_ms=INVITE_AT_MS,
        invite_at_ms=INVITE_AT_MS,
        provisional=True,
    )


class TestForGood:
    @pytest.mark.parametrize("reason", [CallEnd.CALLER_HANGUP, CallEnd.CALLER_CANCELLED, CallEnd.OPERATOR_HANGUP])
    async def test_call_that_nobody_waits_for_is_not_leased_again(
        self, redis: Redis, leases: Leases, reason: CallEnd
    ) -> None:
        await ended(leases, await claimed(leases, ONE), reason)
        assert await overs(redis, [CALL]) == FOR_GOOD
        before = await snapshot(redis)
        with pytest.raises(CallTaken, match="over"):
            await offered(leases, TWO)
        assert await snapshot(redis) == before

    async def test_call_that_was_answered_is_not_leased_again_whatever_ended_it(
        self, redis: Redis, leases: Leases
    ) -> None:
        lease = await claimed(leases, ONE)
        record = replace(call_record(lease, CallEnd.SESSION_LOST), answered_at_ms=INVITE_AT_MS + 5)
        assert await leases.release(lease, record)
        assert await overs(redis, [CALL]) == FOR_GOOD

    async def test_call_that_was_answered_by_a_worker_that_died_is_not_leased_again(
        self, redis: Redis, leases: Leases
    ) -> None:
        lease = await claimed(leases, ONE)
        await leases.renew(ONE, [answered(lease)])
        await pass_time(redis, SILENT_S)
        assert len(await leases.reap()) == 1
        with pytest.raises(CallTaken, match="over"):
            await offered(leases, TWO)

    async def test_call_that_was_answered_and_whose_lease_lapsed_is_not_leased_again(
        self, redis: Redis, workers: Workers, leases: Leases
    ) -> None:
        lease = await claimed(leases, ONE)
        await leases.renew(ONE, [answered(lease)])
        await workers.unregister(ONE)
        await pass_time(redis, keys.LEASE_TTL_S + 0.1)
        assert [freed.call_id for freed in await leases.reap()] == [CALL]
        with pytest.raises(CallTaken, match="over"):
            await offered(leases, TWO)

    async def test_offer_is_not_replaced_and_not_claimed_once_the_call_has_ended_elsewhere(
        self, leases: Leases, redis: Redis
    ) -> None:
        offer = await offered(leases, TWO)
        await ended(leases, made_up(ONE), CallEnd.CALLER_HANGUP)
        with pytest.raises(CallTaken, match="over"):
            await offered(leases, THREE, replacing=offer)
        with pytest.raises(LeaseLost, match="over"):
            await leases.claim(offer)
        assert await reasons(redis) == {LeaseId("made up"): ["caller_hangup"]}

    async def test_lease_made_without_redis_is_not_entered_for_a_call_that_is_over(self, leases: Leases) -> None:
        await ended(leases, await claimed(leases, ONE), CallEnd.CALLER_HANGUP)
        with pytest.raises(LeaseLost, match="over"):
            await leases.claim(made_up(TWO))

    async def test_running_call_is_worth_more_than_the_end_of_a_copy(self, redis: Redis, leases: Leases) -> None:
        first = await ended(leases, await claimed(leases, ONE), CallEnd.CALLER_HANGUP)
        assert await leases.renew(TWO, [made_up(TWO)]) == []
        assert list((await snapshot(redis)).leases) == ["made up"]
        assert await reasons(redis) == {first.lease_id: ["caller_hangup"]}

    async def test_it_is_remembered_for_as_long_as_a_copy_of_the_invite_may_be_around(
        self, redis: Redis, workers: Workers, leases: Leases
    ) -> None:
        await ended(leases, await claimed(leases, ONE), CallEnd.CALLER_HANGUP)
        assert 32_000 < int(await ask(redis, "PTTL", keys.over(CALL))) <= keys.ms(keys.OVER_TTL_S)
        await pass_time(redis, keys.OVER_TTL_S)
        await workers.register(worker_record(TWO), [])
        assert (await offered(leases, TWO)).worker_id == TWO

    async def test_empty_redis_knows_nothing_of_it(self, redis: Redis, workers: Workers, leases: Leases) -> None:
        await ended(leases, await claimed(leases, ONE), CallEnd.CALLER_HANGUP)
        await ask(redis, "FLUSHALL")
        await workers.register(worker_record(TWO), [])
        second = await claimed(leases, TWO)
        await ended(leases, second, CallEnd.CALLER_HANGUP)
        assert await reasons(redis) == {second.lease_id: ["caller_hangup"]}


class TestOneRecord:
    async def test_next_worker_takes_back_the_record_of_one_that_answered_503(
        self, redis: Redis, leases: Leases
    ) -> None:
        first = await ended(leases, await claimed(leases, ONE))
        second = await offered(leases, TWO, replacing=first)
        assert await reasons(redis) == {first.lease_id: ["session_unavailable"]}
        await leases.claim(second)
        assert await reasons(redis) == {} and await overs(redis, [CALL]) == {}
        await ended(leases, second, CallEnd.CALLER_HANGUP)
        assert await reasons(redis) == {second.lease_id: ["caller_hangup"]}
        assert await overs(redis, [CALL]) == FOR_GOOD

    async def test_next_worker_takes_back_the_record_of_one_that_died_while_it_rang(
        self, redis: Redis, workers: Workers, leases: Leases
    ) -> None:
        first = await claimed(leases, ONE)
        await pass_time(redis, SILENT_S)
        assert await leases.reap() == [first]
        await workers.register(worker_record(TWO), [])
        assert await reasons(redis) == {first.lease_id: ["worker_lost"]}
        await claimed(leases, TWO)
        assert await reasons(redis) == {}

    async def test_each_worker_that_gives_up_takes_back_the_record_of_the_one_before(
        self, redis: Redis, leases: Leases
    ) -> None:
        for worker_id in (ONE, TWO, THREE):
            last = await ended(leases, await claimed(leases, worker_id))
        assert await reasons(redis) == {last.lease_id: ["session_unavailable"]}

    async def test_record_stays_when_the_next_offer_is_never_claimed(self, redis: Redis, leases: Leases) -> None:
        first = await ended(leases, await claimed(leases, ONE))
        assert await leases.release(await offered(leases, TWO), None)
        assert await reasons(redis) == {first.lease_id: ["session_unavailable"]}

    async def test_worker_whose_claim_got_no_answer_takes_the_record_back_with_its_renewal(
        self, redis: Redis, leases: Leases
    ) -> None:
        await ended(leases, await claimed(leases, ONE))
        second = await offered(leases, TWO)
        assert await leases.renew(TWO, [second]) == []
        assert await reasons(redis) == {} and await overs(redis, [CALL]) == {}

    async def test_or_with_its_end(self, redis: Redis, leases: Leases) -> None:
        await ended(leases, await claimed(leases, ONE))
        second = await ended(leases, await offered(leases, TWO), CallEnd.CALLER_CANCELLED)
        assert await reasons(redis) == {second.lease_id: ["caller_cancelled"]}

    @pytest.mark.parametrize("claims", [Leases.claim, lambda leases, lease: leases.renew(TWO, [lease])])
    async def test_lease_made_without_redis_takes_the_record_back_too(
        self, redis: Redis, leases: Leases, claims: Callable[[Leases, Lease], Awaitable[object]]
    ) -> None:
        await ended(leases, await claimed(leases, ONE))
        await claims(leases, made_up(TWO))
        assert await reasons(redis) == {}

    async def test_offer_takes_it_back_however_long_it_stood_while_redis_was_away(
        self, redis: Redis, leases: Leases
    ) -> None:
        await ended(leases, await claimed(leases, ONE))
        second = await offered(leases, TWO)
        await ask(redis, "DEL", keys.over(CALL))
        assert await leases.renew(TWO, [second]) == []
        assert await reasons(redis) == {}

    async def test_offer_that_replaces_another_takes_back_what_that_one_would_have(
        self, redis: Redis, leases: Leases
    ) -> None:
        await ended(leases, await claimed(leases, ONE))
        second = await offered(leases, TWO)
        await ask(redis, "DEL", keys.over(CALL))
        await leases.claim(await offered(leases, THREE, replacing=second))
        assert await reasons(redis) == {}

    async def test_record_can_be_taken_back_for_as_long_as_somebody_asks_for_the_call(
        self, redis: Redis, leases: Leases
    ) -> None:
        await ended(leases, await claimed(leases, ONE))
        full = Wish(resources=[ResourceQuota(name="narrow", sessions=1)], may_wait=True)
        await leases.acquire(CallId("b"), TWO, invite_at_ms=INVITE_AT_MS, wish=full)
        await ask(redis, "PEXPIRE", keys.over(CALL), 20_000)
        with pytest.raises(NoQuota):
            await leases.acquire(CALL, TWO, invite_at_ms=INVITE_AT_MS, wish=full)
        assert int(await ask(redis, "PTTL", keys.over(CALL))) > 32_000

    async def test_refused_call_keeps_its_record(self, redis: Redis, leases: Leases) -> None:
        first = await ended(leases, await claimed(leases, ONE))
        with pytest.raises(NoCapacity):
            await offered(leases, WorkerId("unknown"))
        assert await reasons(redis) == {first.lease_id: ["session_unavailable"]}

    async def test_record_that_was_lost_with_redis_is_no_hindrance(
        self, redis: Redis, workers: Workers, leases: Leases
    ) -> None:
        await ended(leases, await claimed(leases, ONE))
        second = await offered(leases, TWO)
        await ask(redis, "FLUSHALL")
        assert await workers.register(worker_record(TWO), [second]) == []
        await ended(leases, second, CallEnd.CALLER_HANGUP)
        assert await reasons(redis) == {second.lease_id: ["caller_hangup"]}

    async def test_events_are_told_of_each_worker(self, leases: Leases, events: Events) -> None:
        await ended(leases, await claimed(leases, ONE))
        await ended(leases, await claimed(leases, TWO), CallEnd.CALLER_CANCELLED)
        told = [event for event in await events.read(keys.EVENTS_MAX, since=START) if event.name.startswith("call.")]
        assert [(event.name, event.about["worker_id"]) for event in told] == [
            ("call.started", "one"), ("call.ended", "one"), ("call.started", "two"), ("call.ended", "two"),
        ]  # fmt: skip
