"""Call records, read back."""

from dataclasses import replace

from redis.asyncio import Redis

from shared.control import keys
from shared.control.connection import ask
from shared.control.leases import Leases
from shared.control.reaper import Reaper
from shared.control.records import PAGE, START, Records
from shared.ids import CallId, LeaseId, WorkerId
from shared.messages import CallRecord, Lease
from tests.integration.control.pool import call_record


def record(number: int) -> CallRecord:
    """Returns one of many records."""
    lease = Lease(
        lease_id=LeaseId(f"lease{number}"),
        call_id=CallId(f"call{number}"),
        worker_id=WorkerId("one"),
        offered_at_ms=number,
        invite_at_ms=number,
    )
    return replace(
        call_record(lease), marks=[("invite", number), ("ended", number + 5)], counters={"barge_ins": number}
    )


async def write(leases: Leases, *numbers: int) -> None:
    """Writes records the only way there is: with the end of a lease."""
    for number in numbers:
        one = record(number)
        lease = Lease(
            lease_id=one.lease_id, call_id=one.call_id, worker_id=one.worker_id, offered_at_ms=0, invite_at_ms=0
        )
        assert await leases.release(lease, one)


async def test_newest_records_come_in_order(redis: Redis, leases: Leases) -> None:
    await write(leases, 1, 2, 3)
    rows = await Records(redis).read(2)
    assert [row.record for row in rows] == [record(2), record(3)]


async def test_there_are_none_at_first(redis: Redis) -> None:
    assert await Records(redis).read(10) == []
    assert await Records(redis).read(10, since=START) == []


async def test_reading_on_from_a_position(redis: Redis, leases: Leases) -> None:
    await write(leases, 1, 2, 3)
    first = await Records(redis).read(2, since=START)
    assert [row.record for row in first] == [record(1), record(2)]
    assert [row.record for row in await Records(redis).read(2, since=first[-1].position)] == [record(3)]


async def test_record_in_a_newer_format_is_left_out(redis: Redis, leases: Leases) -> None:
    await ask(redis, "XADD", keys.records(), "*", "record", b"\x81\xa1v\x7f")  # {"v": 127}
    await write(leases, 1)
    assert [row.record for row in await Records(redis).read(10)] == [record(1)]


async def newest_first(redis: Redis, since_ms: int = 0) -> list[CallRecord]:
    """Returns all records, as far as they can be read."""
    return [row.record async for row in Records(redis).newest_first(since_ms=since_ms)]


async def test_all_records_can_be_gone_through_from_the_newest_on(redis: Redis, leases: Leases) -> None:
    numbers = range(2 * PAGE + 1)
    await write(leases, *numbers)
    assert await newest_first(redis) == [record(number) for number in reversed(numbers)]


async def test_none_and_just_a_page_of_records_can_be_gone_through(redis: Redis, leases: Leases) -> None:
    assert await newest_first(redis) == []
    await write(leases, *range(PAGE))
    assert len(await newest_first(redis)) == PAGE


async def test_records_from_before_a_moment_are_not_gone_through(redis: Redis, leases: Leases) -> None:
    for at_ms, number in ((1000, 1), (2000, 2), (3000, 3)):
        await ask(redis, "XADD", keys.records(), f"{at_ms}-0", "record", record(number).pack())
    assert await newest_first(redis, since_ms=2000) == [record(3), record(2)]


async def test_records_that_are_too_old_go_with_the_next_reap_also_without_calls(redis: Redis) -> None:
    now_ms = int((await ask(redis, "TIME"))[0]) * 1000
    for age_s, number in ((7200, 1), (3660, 2), (3540, 3)):
        await ask(redis, "XADD", keys.records(), f"{now_ms - age_s * 1000}-0", "record", record(number).pack())
    await Reaper(redis, 3600.0).reap()
    assert await newest_first(redis) == [record(3)]


async def test_records_stay_a_week_unless_told_otherwise(redis: Redis, leases: Leases) -> None:
    now_ms = int((await ask(redis, "TIME"))[0]) * 1000
    for days, number in ((8, 1), (6, 2)):
        await ask(redis, "XADD", keys.records(), f"{now_ms - days * 86_400_000}-0", "record", record(number).pack())
    await leases.reap()
    assert await newest_first(redis) == [record(2)]


async def test_old_records_are_trimmed(redis: Redis, leases: Leases) -> None:
    fill = "for i = 1, tonumber(ARGV[1]) do redis.call('XADD', KEYS[1], '*', 'record', 'x') end"
    await ask(redis, "EVAL", fill, 1, keys.records(), keys.RECORDS_MAX + 500)
    await write(leases, 1)
    assert int(await ask(redis, "XLEN", keys.records())) <= keys.RECORDS_MAX + 100
