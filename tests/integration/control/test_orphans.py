"""Calls whose callers are owed a BYE."""

import asyncio
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from shared.control import keys
from shared.control.connection import ask
from shared.control.leases import Leases
from shared.control.orphans import BATCH, Orphans
from shared.control.workers import Workers
from shared.ids import CallId, WorkerId
from shared.messages import Lease
from tests.integration.control.pool import DIALOG, INVITE_AT_MS, call_record, pass_time, worker_record

ONE = WorkerId("one")


@pytest.fixture(autouse=True)
async def one_worker(workers: Workers) -> None:
    """A ready worker with many slots."""
    await workers.register(worker_record("one", capacity=1000), [])


async def claimed(leases: Leases, call_id: str) -> Lease:
    """Returns the lease of a call that rings."""
    lease = await leases.acquire(CallId(call_id), ONE, invite_at_ms=INVITE_AT_MS)
    await leases.claim(lease)
    return lease


async def answered(leases: Leases, call_id: str) -> Lease:
    """Returns the lease of a call that was answered, as Redis knows."""
    lease = replace(await claimed(leases, call_id), answered_at_ms=INVITE_AT_MS + 5, dialog=DIALOG)
    assert await leases.renew(ONE, [lease]) == []
    return lease


async def orphaned(redis: Redis, leases: Leases, *call_ids: str) -> list[Lease]:
    """Returns the leases of answered calls whose worker has died."""
    lost = [await answered(leases, call_id) for call_id in call_ids]
    await pass_time(redis, keys.HEARTBEAT_TTL_S + 0.1)
    assert {lease.call_id for lease in await leases.reap()} == {lease.call_id for lease in lost}
    return lost


async def test_answered_call_of_a_dead_worker_is_handed_out_once_with_its_dialog(
    redis: Redis, leases: Leases, orphans: Orphans
) -> None:
    [lost] = await orphaned(redis, leases, "a")
    taken = await asyncio.gather(*(orphans.take() for _ in range(5)))
    assert [lease for leases_taken in taken for lease in leases_taken] == [lost]
    assert lost.dialog == DIALOG


async def test_call_that_was_never_answered_is_no_orphan(redis: Redis, leases: Leases, orphans: Orphans) -> None:
    await claimed(leases, "ringing")
    await leases.acquire(CallId("offered"), ONE, invite_at_ms=INVITE_AT_MS)
    await pass_time(redis, keys.HEARTBEAT_TTL_S + 0.1)
    assert len(await leases.reap()) == 2
    assert await orphans.take() == []


async def test_call_that_ended_is_no_orphan(leases: Leases, orphans: Orphans) -> None:
    lease = await answered(leases, "a")
    assert await leases.release(lease, call_record(lease))
    assert await orphans.take() == []


@pytest.mark.parametrize("forgotten", [False, True])
async def test_worker_may_leave_the_goodbye_to_a_dispatcher(
    redis: Redis, leases: Leases, orphans: Orphans, forgotten: bool
) -> None:
    lease = await answered(leases, "a")
    if forgotten:
        await ask(redis, "FLUSHALL")
    assert await leases.release(lease, call_record(lease), orphan=True)
    assert not await leases.release(lease, call_record(lease), orphan=True)
    assert [one.dialog for one in await orphans.take()] == [DIALOG]
    assert await orphans.take() == []


async def test_released_call_without_a_dialog_leaves_no_orphan(leases: Leases, orphans: Orphans) -> None:
    lease = await claimed(leases, "a")
    assert await leases.release(lease, call_record(lease), orphan=True)
    assert await orphans.take() == []


async def test_orphan_that_is_not_settled_is_handed_out_once_more(
    redis: Redis, leases: Leases, orphans: Orphans
) -> None:
    await orphaned(redis, leases, "a")
    counts = []
    for _ in range(4):
        counts.append(len(await orphans.take()))
        await pass_time(redis, keys.ORPHAN_RETRY_S + 0.1)
    assert counts == [1, 1, 0, 0]
    assert await ask(redis, "EXISTS", keys.orphans(), keys.orphan_leases()) == 0


async def test_settled_orphan_is_not_handed_out_again(redis: Redis, leases: Leases, orphans: Orphans) -> None:
    await orphaned(redis, leases, "a", "b")
    assert len(await orphans.take()) == 2
    await orphans.settle(CallId("a"))
    await pass_time(redis, keys.ORPHAN_RETRY_S + 0.1)
    assert [lease.call_id for lease in await orphans.take()] == ["b"]


async def test_many_orphans_are_handed_out_in_batches(redis: Redis, leases: Leases, orphans: Orphans) -> None:
    names = [f"call{number}" for number in range(BATCH + 5)]
    await orphaned(redis, leases, *names)
    first, second = await orphans.take(), await orphans.take()
    assert (len(first), len(second)) == (BATCH, 5)
    assert {lease.call_id for lease in first + second} == set(names)


async def test_orphan_in_a_newer_format_is_left_to_another_dispatcher(
    redis: Redis, leases: Leases, orphans: Orphans
) -> None:
    await orphaned(redis, leases, "a", "b")
    await ask(redis, "HSET", keys.orphan_leases(), "b", b"\x81\xa1v\x7f")  # {"v": 127}
    assert [lease.call_id for lease in await orphans.take()] == ["a"]
    assert await ask(redis, "HEXISTS", keys.orphan_leases(), "b") == 1


async def test_nobody_is_told_long_after(redis: Redis, leases: Leases) -> None:
    await orphaned(redis, leases, "a")
    for key in (keys.orphans(), keys.orphan_leases()):
        assert 0 < int(await ask(redis, "PTTL", key)) <= keys.ms(keys.ORPHAN_TTL_S)
