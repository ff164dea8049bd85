"""Many callers at the same moment."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from shared.control.connection import connect
from shared.control.leases import Leases, Wish
from shared.control.workers import Workers
from shared.errors import LeaseLost, NoCapacity, NoQuota
from shared.ids import CallId, WorkerId
from shared.messages import Lease, ResourceQuota
from tests.integration.control.pool import (
    INVITE_AT_MS,
    call_record,
    check,
    pass_time,
    reasons,
    snapshot,
    worker_record,
)

REPLICAS = 4
WORKERS = [WorkerId(name) for name in ("one", "two", "three")]
CAPACITY = 10


@pytest.fixture
async def replicas(redis_url: str) -> AsyncIterator[list[Leases]]:
    """The leases as several dispatchers see them, each through connections of its own."""
    clients = [connect(redis_url, timeout_s=20.0) for _ in range(REPLICAS)]
    yield [Leases(client) for client in clients]
    for client in clients:
        await client.aclose()


@pytest.fixture(autouse=True)
async def three_workers(workers: Workers) -> None:
    """Three ready workers with ten slots each."""
    for worker_id in WORKERS:
        await workers.register(worker_record(worker_id, CAPACITY), [])


async def test_capacity_is_never_exceeded_and_never_wasted(redis: Redis, replicas: list[Leases]) -> None:
    async def attempt(number: int) -> Lease | None:
        try:
            return await replicas[number % REPLICAS].acquire(
                CallId(f"call{number}"), WORKERS[number % len(WORKERS)], invite_at_ms=INVITE_AT_MS
            )
        except NoCapacity:
            return None

    async def watch() -> None:
        while True:
            check(await snapshot(redis), CAPACITY)

    watching = asyncio.create_task(watch())
    taken = [lease for lease in await asyncio.gather(*map(attempt, range(300))) if lease]
    assert not watching.done()
    watching.cancel()
    assert Counter(lease.worker_id for lease in taken) == dict.fromkeys(WORKERS, CAPACITY)
    assert set((await snapshot(redis)).leases) == {lease.lease_id for lease in taken}


async def test_sessions_of_a_resource_are_never_exceeded_and_never_wasted(redis: Redis, replicas: list[Leases]) -> None:
    narrow, wide = ResourceQuota(name="narrow", sessions=3), ResourceQuota(name="wide", sessions=9)

    async def attempt(number: int) -> Lease | None:
        wish = Wish(resources=[narrow, wide])
        try:
            return await replicas[number % REPLICAS].acquire(
                CallId(f"call{number}"), WORKERS[number % len(WORKERS)], invite_at_ms=INVITE_AT_MS, wish=wish
            )
        except NoQuota:
            return None

    taken = [lease for lease in await asyncio.gather(*map(attempt, range(100))) if lease]
    assert Counter(lease.resource for lease in taken) == {"narrow": 3, "wide": 9}
    check(await snapshot(redis), CAPACITY)


async def test_one_call_on_all_replicas_gets_one_lease(replicas: list[Leases]) -> None:
    attempts = (
        replicas[number % REPLICAS].acquire(CallId("a"), WORKERS[number % len(WORKERS)], invite_at_ms=INVITE_AT_MS)
        for number in range(60)
    )
    assert len(set(lease.lease_id for lease in await asyncio.gather(*attempts))) == 1


async def test_one_lease_is_claimed_by_one(replicas: list[Leases]) -> None:
    lease = await replicas[0].acquire(CallId("a"), WORKERS[0], invite_at_ms=INVITE_AT_MS)
    attempts = (replicas[number % REPLICAS].claim(lease) for number in range(20))
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    assert Counter(map(type, outcomes)) == {type(None): 1, LeaseLost: 19}


async def test_either_the_claim_or_the_next_worker_wins(redis: Redis, replicas: list[Leases]) -> None:
    for number in range(50):
        call_id = CallId(f"call{number}")
        first = await replicas[0].acquire(call_id, WORKERS[0], invite_at_ms=INVITE_AT_MS)
        claimed, second = await asyncio.gather(
            replicas[1].claim(first),
            replicas[2].acquire(call_id, WORKERS[1], invite_at_ms=INVITE_AT_MS, replacing=first.lease_id),
            return_exceptions=True,
        )
        assert isinstance(claimed, LeaseLost) != isinstance(second, LeaseLost)
        held = (await snapshot(redis)).leases
        [winner] = held.values()
        assert winner.worker_id == (WORKERS[0] if claimed is None else WORKERS[1])
        await replicas[3].release(first, call_record(first))
        if isinstance(second, Lease):
            await replicas[3].release(second, None)


async def test_worker_and_reapers_write_one_record(redis: Redis, replicas: list[Leases]) -> None:
    running = [await replicas[0].acquire(CallId(f"call{i}"), WORKERS[0], invite_at_ms=INVITE_AT_MS) for i in range(10)]
    for lease in running:
        await replicas[0].claim(lease)
    await pass_time(redis, 60)
    reaping = [leases.reap() for leases in replicas]
    ending = [replicas[0].release(lease, call_record(lease)) for lease in running]
    ended, freed = await asyncio.gather(asyncio.gather(*ending), asyncio.gather(*reaping))
    assert sum(ended) + sum(map(len, freed)) == len(running)
    assert [len(written) for written in (await reasons(redis)).values()] == [1] * len(running)
