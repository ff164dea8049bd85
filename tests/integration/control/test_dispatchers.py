"""The dispatcher table."""

from redis.asyncio import Redis

from shared.control import keys
from shared.control.connection import ask
from shared.control.dispatchers import Dispatchers
from shared.control.events import Events
from shared.control.leases import Leases
from shared.ids import DispatcherId
from tests.integration.control.pool import dispatcher_record, pass_time, pass_time_unwatched

FRONT, BACK = dispatcher_record("front"), dispatcher_record("back")


async def told(events: Events) -> list[tuple[str, str]]:
    """Returns what has been said about dispatchers."""
    return [(event.name, event.about["dispatcher_id"]) for event in await events.read(100)]


async def test_dispatcher_is_in_the_table_from_its_first_heartbeat_to_its_leave(
    dispatchers: Dispatchers, events: Events
) -> None:
    assert await dispatchers.table() == []
    for record in (FRONT, BACK, FRONT):
        await dispatchers.heartbeat(record)
    rows = await dispatchers.table()
    assert [row.record for row in rows] == [BACK, FRONT] and all(row.alive for row in rows)
    for _ in range(2):
        await dispatchers.leave(DispatcherId("front"))
    assert [row.record for row in await dispatchers.table()] == [BACK]
    assert await told(events) == [
        ("dispatcher.joined", "front"), ("dispatcher.joined", "back"), ("dispatcher.left", "front"),
    ]  # fmt: skip


async def test_heartbeat_changes_what_is_known(dispatchers: Dispatchers) -> None:
    await dispatchers.heartbeat(FRONT)
    draining = dispatcher_record("front", draining=True)
    await dispatchers.heartbeat(draining)
    assert [row.record for row in await dispatchers.table()] == [draining]


async def test_silent_dispatcher_is_not_alive_and_goes_with_the_next_heartbeat_of_another(
    redis: Redis, dispatchers: Dispatchers, leases: Leases, events: Events
) -> None:
    await dispatchers.heartbeat(FRONT)
    await leases.reap()
    await pass_time(redis, keys.HEARTBEAT_TTL_S + 0.1)
    assert [row.alive for row in await dispatchers.table()] == [False]
    await dispatchers.heartbeat(BACK)
    assert [row.record for row in await dispatchers.table()] == [BACK]
    assert (await told(events))[-1] == ("dispatcher.lost", "front")


async def test_outage_kills_no_dispatcher(redis: Redis, dispatchers: Dispatchers, events: Events) -> None:
    await dispatchers.heartbeat(FRONT)
    await pass_time_unwatched(redis, 60)
    await dispatchers.heartbeat(BACK)
    await dispatchers.heartbeat(FRONT)
    assert [name for name, _ in await told(events)] == ["dispatcher.joined"] * 2


async def test_dispatcher_in_a_newer_format_is_left_out(redis: Redis, dispatchers: Dispatchers) -> None:
    for record in (FRONT, BACK):
        await dispatchers.heartbeat(record)
    await ask(redis, "HSET", keys.dispatchers(), "back", b"\x81\xa1v\x7f")  # {"v": 127}
    assert [row.record for row in await dispatchers.table()] == [FRONT]
