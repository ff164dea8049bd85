"""What remains in Redis when everybody has gone."""

from redis.asyncio import Redis

from shared.control import keys
from shared.control.connection import ask
from shared.control.leases import Leases
from shared.control.workers import Workers
from shared.ids import CallId, WorkerId
from tests.integration.control.pool import INVITE_AT_MS, call_record, pass_time, worker_record

ONE, TWO = WorkerId("one"), WorkerId("two")


async def keys_without_lifetime(redis: Redis) -> set[str]:
    """Returns the keys that Redis would keep for ever."""
    names = [name async for name in redis.scan_iter()]
    return {str(name, "ascii") for name in names if await ask(redis, "PTTL", name) == -1}


async def test_only_the_trimmed_records_have_no_lifetime_after_everything_ended(
    redis: Redis, workers: Workers, leases: Leases
) -> None:
    await workers.register(worker_record("one"), [])
    await workers.register(worker_record("two"), [])
    ended = await leases.acquire(CallId("a"), ONE, invite_at_ms=INVITE_AT_MS)
    await leases.claim(ended)
    moved = await leases.acquire(CallId("b"), ONE, invite_at_ms=INVITE_AT_MS)
    moved = await leases.acquire(CallId("b"), TWO, invite_at_ms=INVITE_AT_MS, replacing=moved.lease_id)
    killed = await leases.acquire(CallId("c"), TWO, invite_at_ms=INVITE_AT_MS)
    await leases.claim(killed)

    await leases.release(ended, call_record(ended))
    await leases.release(moved, None)
    await workers.unregister(ONE)
    await pass_time(redis, keys.LEASE_TTL_S + 1)
    assert await leases.reap() == [killed]
    assert await keys_without_lifetime(redis) == {keys.records()}


async def test_worker_and_its_leases_are_all_that_stays_while_it_lives(
    redis: Redis, workers: Workers, leases: Leases
) -> None:
    await workers.register(worker_record("one"), [])
    await leases.acquire(CallId("a"), ONE, invite_at_ms=INVITE_AT_MS)
    assert await keys_without_lifetime(redis) == {
        keys.workers(), keys.registrations(), keys.states(), keys.loads(), keys.lapses(), keys.slots(ONE),
        keys.call(CallId("a")),
    }  # fmt: skip
