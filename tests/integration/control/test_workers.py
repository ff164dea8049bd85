"""The worker table."""

from dataclasses import replace

import pytest
from redis.asyncio import Redis

from shared.control import keys
from shared.control.connection import ask
from shared.control.leases import Leases
from shared.control.reaper import Reaper
from shared.control.workers import Workers
from shared.errors import NoCapacity
from shared.ids import CallId, WorkerId
from shared.states import WorkerState
from tests.integration.control.pool import INVITE_AT_MS, pass_time, snapshot, worker_record

ONE = WorkerId("one")


async def test_registered_worker_stands_in_the_table_alive_and_empty(workers: Workers) -> None:
    record = worker_record("one")
    assert await workers.register(record, []) == []
    [row] = await workers.table()
    assert (row.record, row.leased, row.alive) == (record, 0, True)
    assert 0 <= row.heartbeat_age_ms <= keys.ms(keys.HEARTBEAT_TTL_S)


async def test_table_is_empty_before_anybody_registers(workers: Workers) -> None:
    assert await workers.table() == []


async def test_table_lists_workers_by_id_with_their_loads(workers: Workers, leases: Leases) -> None:
    for worker_id in ("two", "one"):
        await workers.register(worker_record(worker_id), [])
    await leases.acquire(CallId("a"), WorkerId("two"), invite_at_ms=INVITE_AT_MS)
    table = await workers.table()
    assert [(row.record.worker_id, row.leased) for row in table] == [("one", 0), ("two", 1)]


async def test_heartbeat_changes_state_and_makes_young_again(redis: Redis, workers: Workers) -> None:
    await workers.register(worker_record("one"), [])
    await pass_time(redis, 60)
    [row] = await workers.table()
    assert not row.alive and row.heartbeat_age_ms >= 60_000
    assert await workers.heartbeat(ONE, WorkerState.DRAINING)
    [row] = await workers.table()
    assert row.alive and row.record.state is WorkerState.DRAINING


async def test_heartbeat_of_an_unknown_worker_changes_nothing_and_says_so(workers: Workers) -> None:
    assert not await workers.heartbeat(ONE, WorkerState.READY)
    assert await workers.table() == []


async def test_unregistered_worker_is_gone_and_has_to_register_again(workers: Workers) -> None:
    await workers.register(worker_record("one"), [])
    await workers.unregister(ONE)
    assert await workers.table() == []
    assert not await workers.heartbeat(ONE, WorkerState.READY)
    await workers.unregister(ONE)


async def test_leases_of_an_unregistered_worker_stay(redis: Redis, workers: Workers, leases: Leases) -> None:
    await workers.register(worker_record("one"), [])
    lease = await leases.acquire(CallId("a"), ONE, invite_at_ms=INVITE_AT_MS)
    await workers.unregister(ONE)
    assert list((await snapshot(redis)).leases) == [lease.lease_id]


async def test_worker_that_a_newer_process_registered_is_left_out(redis: Redis, workers: Workers) -> None:
    await workers.register(worker_record("one"), [])
    await workers.register(worker_record("two"), [])
    newer = b"\x82\xa1v\x7f\xa8capacity\x02"  # {"v": 127, "capacity": 2}
    await redis.hset(keys.registrations(), "two", newer)
    assert [row.record.worker_id for row in await workers.table()] == ["one"]


async def test_registering_again_keeps_the_leases_the_worker_has(workers: Workers, leases: Leases) -> None:
    record = worker_record("one")
    await workers.register(record, [])
    lease = await leases.acquire(CallId("a"), ONE, invite_at_ms=INVITE_AT_MS)
    await leases.claim(lease)
    assert await workers.register(record, [lease]) == []
    [row] = await workers.table()
    assert row.leased == 1


async def test_registering_after_redis_came_back_empty_enters_the_running_calls(
    redis: Redis, workers: Workers, leases: Leases
) -> None:
    record = worker_record("one", capacity=2)
    await workers.register(record, [])
    running = [await leases.acquire(CallId(name), ONE, invite_at_ms=INVITE_AT_MS) for name in "ab"]
    for lease in running:
        await leases.claim(lease)
    before = await snapshot(redis)
    await ask(redis, "FLUSHALL")
    assert not await workers.heartbeat(ONE, WorkerState.READY)
    assert await workers.register(record, running) == []
    assert await snapshot(redis) == before


async def test_registering_says_which_calls_are_leased_elsewhere(
    redis: Redis, workers: Workers, leases: Leases
) -> None:
    await workers.register(worker_record("one"), [])
    mine = await leases.acquire(CallId("a"), ONE, invite_at_ms=INVITE_AT_MS)
    await ask(redis, "FLUSHALL")
    await workers.register(worker_record("two"), [])
    await leases.acquire(CallId("a"), WorkerId("two"), invite_at_ms=INVITE_AT_MS)
    assert await workers.register(worker_record("one"), [mine]) == [mine.lease_id]


async def test_whoever_registers_at_the_address_of_another_shows_that_one_to_be_dead(
    redis: Redis, workers: Workers, leases: Leases
) -> None:
    """Its socket is bound, so the other's is closed: no call is to be leased to it while nobody has missed it."""
    for worker_id in ("one", "two"):
        await workers.register(worker_record(worker_id))
    await leases.acquire(CallId("a"), ONE, invite_at_ms=INVITE_AT_MS)
    await workers.register(replace(worker_record("next"), sip_port=worker_record("one").sip_port))
    assert {row.record.worker_id: row.alive for row in await workers.table()} == {
        "next": True, "one": False, "two": True
    }  # fmt: skip
    with pytest.raises(NoCapacity, match="silent"):
        await leases.acquire(CallId("b"), ONE, invite_at_ms=INVITE_AT_MS)
    await Reaper(redis).reap()
    await pass_time(redis, keys.HEARTBEAT_TTL_S + 0.1)
    for worker_id in ("next", "two"):
        await workers.heartbeat(WorkerId(worker_id), WorkerState.READY)
    assert [lease.call_id for lease in await Reaper(redis).reap()] == ["a"]


async def test_registering_again_or_beside_others_takes_nobody_for_dead(workers: Workers) -> None:
    for worker_id in ("one", "two", "one"):
        await workers.register(worker_record(worker_id))
    assert [row.alive for row in await workers.table()] == [True, True]
