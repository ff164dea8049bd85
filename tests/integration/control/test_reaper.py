"""What the reaper frees, and what it leaves alone."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import pytest
from redis.asyncio import Redis

from shared.control import keys
from shared.control.connection import ask
from shared.control.leases import Leases
from shared.control.reaper import Reaper
from shared.control.workers import Workers
from shared.errors import LeaseLost
from shared.ids import CallId, WorkerId
from shared.messages import Lease
from shared.states import WorkerState
from tests.integration.control.pool import (
    INVITE_AT_MS,
    call_record,
    check,
    pass_time,
    pass_time_unwatched,
    reasons,
    snapshot,
    worker_record,
)

ONE = WorkerId("one")
SILENT_S = keys.HEARTBEAT_TTL_S + 0.1
OFFER_LAPSED_S = keys.OFFER_TTL_S + 0.1
CLAIM_LAPSED_S = keys.LEASE_TTL_S + 0.1


@pytest.fixture(autouse=True)
async def one_worker(workers: Workers) -> None:
    """A ready worker with two slots."""
    await workers.register(worker_record("one"), [])


async def offered(leases: Leases, call_id: str) -> Lease:
    """Returns a lease that waits to be claimed."""
    return await leases.acquire(CallId(call_id), ONE, invite_at_ms=INVITE_AT_MS)


async def claimed(leases: Leases, call_id: str) -> Lease:
    """Returns a lease in use."""
    lease = await offered(leases, call_id)
    await leases.claim(lease)
    return lease


class Interrupted(Reaper):
    """A reaper that loses the processor once, just after it has read the leases it is going to free."""

    def __init__(self, redis: Redis, meanwhile: Callable[[], Awaitable[object]]) -> None:
        super().__init__(redis)
        self._meanwhile = meanwhile

    async def _leases_of(self, call_ids: Iterable[CallId]) -> list[Lease]:
        found = await super()._leases_of(call_ids)
        await self._meanwhile()
        return found


class Overtaken(Reaper):
    """A reaper that loses the processor once, between reading which calls a worker has and reading their leases."""

    def __init__(self, redis: Redis, meanwhile: Callable[[], Awaitable[object]]) -> None:
        super().__init__(redis)
        self._meanwhile = meanwhile

    async def _calls_of(self, worker_id: WorkerId) -> list[CallId]:
        found = await super()._calls_of(worker_id)
        await self._meanwhile()
        return found


async def test_silent_worker_is_freed_with_its_leases_and_its_calls_get_records(
    redis: Redis, workers: Workers, leases: Leases
) -> None:
    running, offer = await claimed(leases, "a"), await offered(leases, "b")
    await pass_time(redis, SILENT_S)
    freed = await leases.reap()
    assert sorted(freed, key=lambda lease: lease.call_id) == [running, offer]
    assert await workers.table() == []
    assert await reasons(redis) == {running.lease_id: ["worker_lost"]}
    assert (await snapshot(redis)).leases == {}
    assert await leases.reap() == []


async def test_lost_record_says_what_is_known(redis: Redis, leases: Leases) -> None:
    running = await claimed(leases, "a")
    await pass_time(redis, SILENT_S)
    await leases.reap()
    [(_, fields)] = await ask(redis, "XRANGE", keys.records(), "-", "+")
    record = call_record(running).unpack(fields[b"record"])
    assert (record.result, record.worker_id, record.call_id) == ("lost", ONE, running.call_id)
    assert record.invite_at_ms == INVITE_AT_MS and record.answered_at_ms is None
    assert record.ended_at_ms >= running.offered_at_ms


async def test_worker_that_beats_between_listing_and_freeing_is_saved(
    redis: Redis, workers: Workers, leases: Leases, reaper: Reaper
) -> None:
    running = await claimed(leases, "a")
    await pass_time(redis, SILENT_S)
    now_ms, silent, _ = await reaper.candidates()
    assert silent == [ONE]
    await workers.heartbeat(ONE, WorkerState.READY)
    assert await reaper.free_worker(ONE, now_ms) == []
    assert list((await snapshot(redis)).leases) == [running.lease_id]
    assert [row.alive for row in await workers.table()] == [True]


async def test_lease_that_comes_between_listing_and_freeing_keeps_its_worker_for_the_next_time(
    redis: Redis, workers: Workers, leases: Leases
) -> None:
    lease = await claimed(leases, "a")
    await ask(redis, "DEL", keys.call(lease.call_id), keys.slots(ONE), keys.lapses(), keys.loads(), keys.sessions())
    await pass_time(redis, SILENT_S)

    reaper = Interrupted(redis, lambda: leases.renew(ONE, [lease]))
    assert await reaper.free_worker(ONE, now_ms=0) == []
    assert len(await workers.table()) == 1
    assert await leases.reap() == [lease]
    assert await workers.table() == []


@pytest.mark.parametrize("interrupted", [Overtaken, Interrupted])
async def test_call_that_goes_to_another_worker_between_listing_and_freeing_stays_there(
    redis: Redis, workers: Workers, leases: Leases, interrupted: type[Overtaken | Interrupted]
) -> None:
    first = await offered(leases, "a")
    await pass_time(redis, SILENT_S)
    await workers.register(worker_record("two"), [])

    async def next_worker() -> Lease:
        return await leases.acquire(first.call_id, WorkerId("two"), invite_at_ms=INVITE_AT_MS, replacing=first.lease_id)

    assert await interrupted(redis, next_worker).free_worker(ONE, now_ms=0) == []
    seen = await snapshot(redis)
    check(seen, capacity=2)
    assert [lease.worker_id for lease in seen.leases.values()] == ["two"]
    assert [row.record.worker_id for row in await workers.table()] == ["two"]


async def test_offer_that_nobody_claims_is_freed_without_a_record(
    redis: Redis, workers: Workers, leases: Leases
) -> None:
    lease = await offered(leases, "a")
    await pass_time(redis, OFFER_LAPSED_S)
    await workers.heartbeat(ONE, WorkerState.READY)
    assert await leases.reap() == [lease]
    assert await reasons(redis) == {}
    with pytest.raises(LeaseLost):
        await leases.claim(lease)


async def test_claim_that_nobody_renews_is_freed_with_a_record(redis: Redis, workers: Workers, leases: Leases) -> None:
    lease = await claimed(leases, "a")
    await pass_time(redis, OFFER_LAPSED_S)
    await workers.heartbeat(ONE, WorkerState.READY)
    assert await leases.reap() == []
    await pass_time(redis, CLAIM_LAPSED_S)
    await workers.heartbeat(ONE, WorkerState.READY)
    assert await leases.reap() == [lease]
    assert await reasons(redis) == {lease.lease_id: ["worker_lost"]}


async def test_lease_renewed_between_listing_and_freeing_is_kept(
    redis: Redis, workers: Workers, leases: Leases, reaper: Reaper
) -> None:
    lease = await claimed(leases, "a")
    await pass_time(redis, CLAIM_LAPSED_S)
    await workers.heartbeat(ONE, WorkerState.READY)
    now_ms, _, lapsed = await reaper.candidates()
    assert lapsed == [lease.call_id]
    await leases.renew(ONE, [lease])
    assert not await reaper.free_lease(lease, now_ms)
    assert list((await snapshot(redis)).leases) == [lease.lease_id]


async def test_lease_replaced_between_listing_and_freeing_is_not_mixed_up(
    redis: Redis, workers: Workers, leases: Leases, reaper: Reaper
) -> None:
    first = await offered(leases, "a")
    await pass_time(redis, OFFER_LAPSED_S)
    await workers.heartbeat(ONE, WorkerState.READY)
    second = await leases.acquire(first.call_id, ONE, invite_at_ms=INVITE_AT_MS, replacing=first.lease_id)
    await pass_time(redis, CLAIM_LAPSED_S)
    assert not await reaper.free_lease(first, now_ms=0)
    assert list((await snapshot(redis)).leases) == [second.lease_id]


async def test_leases_left_by_an_unregistered_worker_lapse(redis: Redis, workers: Workers, leases: Leases) -> None:
    lease = await claimed(leases, "a")
    await workers.unregister(ONE)
    await pass_time(redis, CLAIM_LAPSED_S)
    assert await leases.reap() == [lease]
    assert await reasons(redis) == {lease.lease_id: ["worker_lost"]}


async def test_worker_that_comes_back_after_its_leases_were_freed_is_told_and_writes_no_second_record(
    redis: Redis, workers: Workers, leases: Leases
) -> None:
    lease = await claimed(leases, "a")
    await pass_time(redis, SILENT_S)
    await leases.reap()
    assert not await workers.heartbeat(ONE, WorkerState.READY)
    assert await workers.register(worker_record("one"), [lease]) == [lease.lease_id]
    assert await leases.renew(ONE, [lease]) == [lease.lease_id]
    assert not await leases.release(lease, call_record(lease))
    assert await reasons(redis) == {lease.lease_id: ["worker_lost"]}
    assert (await snapshot(redis)).leases == {}


async def test_many_reapers_at_once_free_everything_once(redis: Redis, workers: Workers, leases: Leases) -> None:
    await workers.register(worker_record("one", capacity=40), [])
    running = [await claimed(leases, f"call{i}") for i in range(40)]
    await pass_time(redis, CLAIM_LAPSED_S)
    freed = [lease for result in await asyncio.gather(*(leases.reap() for _ in range(10))) for lease in result]
    assert sorted(lease.lease_id for lease in freed) == sorted(lease.lease_id for lease in running)
    assert set(map(len, (await reasons(redis)).values())) == {1}


async def test_nobody_is_taken_for_dead_after_an_outage(redis: Redis, workers: Workers, leases: Leases) -> None:
    running, offer = await claimed(leases, "a"), await offered(leases, "b")
    await pass_time_unwatched(redis, 60)
    assert await leases.reap() == []
    await workers.heartbeat(ONE, WorkerState.READY)
    await leases.renew(ONE, [running])
    await pass_time(redis, OFFER_LAPSED_S)
    await workers.heartbeat(ONE, WorkerState.READY)
    assert await leases.reap() == [offer]


async def test_worker_that_stays_silent_after_an_outage_is_freed(redis: Redis, leases: Leases) -> None:
    lease = await claimed(leases, "a")
    await pass_time_unwatched(redis, 60)
    await leases.reap()
    await pass_time(redis, SILENT_S)
    assert await leases.reap() == [lease]


async def test_reaper_that_slept_through_an_outage_frees_nothing(
    redis: Redis, workers: Workers, leases: Leases, reaper: Reaper
) -> None:
    lease = await claimed(leases, "a")
    await pass_time(redis, CLAIM_LAPSED_S)
    now_ms, silent, lapsed = await reaper.candidates()
    assert (silent, lapsed) == ([ONE], [lease.call_id])
    await pass_time_unwatched(redis, 60)
    assert await reaper.free_worker(ONE, now_ms) == []
    assert not await reaper.free_lease(lease, now_ms)
    _, silent, lapsed = await Reaper(redis).candidates()
    assert (silent, lapsed) == ([], [])
    assert await reaper.free_worker(ONE, now_ms) == []
    assert not await reaper.free_lease(lease, now_ms)


async def test_watch_ends_soon_after_the_last_reap(redis: Redis, leases: Leases) -> None:
    await leases.reap()
    await pass_time(redis, 1)
    await leases.reap()
    assert 0 < int(await ask(redis, "PTTL", keys.watched())) <= keys.ms(keys.WATCH_TTL_S)


async def test_lease_in_a_newer_format_is_left_to_newer_processes(
    redis: Redis, workers: Workers, leases: Leases
) -> None:
    newer, known = await claimed(leases, "a"), await claimed(leases, "b")
    await ask(redis, "HSET", keys.call(newer.call_id), "lease", b"\x81\xa1v\x7f")  # {"v": 127}
    await pass_time(redis, CLAIM_LAPSED_S)
    assert await leases.reap() == [known]
    assert list((await snapshot(redis)).leases) == [newer.lease_id]
