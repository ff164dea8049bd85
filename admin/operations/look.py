"""What operators look at: workers, dispatchers, calls, quotas, events. It changes nothing and needs only Redis.

Call records are `records.py`'s. Every function raises ControlUnavailable when Redis does not answer in time.
"""

import asyncio
from collections.abc import AsyncGenerator

from redis.asyncio import Redis

from admin.operations import records
from admin.operations.finding import only
from admin.operations.shapes import Dispatcher, Event, Pool, Quota, RunningCall, Totals, Worker
from shared.control.calls import RunningCalls
from shared.control.connection import ask
from shared.control.dispatchers import Dispatchers
from shared.control.events import START, Events
from shared.control.quotas import Quotas
from shared.control.workers import Workers
from shared.ids import CallId
from shared.messages import CallRecord

EVENTS_PAGE = 500
"""Events read at once when many are gone through."""

POLL_S = 0.5
"""How often new events are asked for."""


async def pool(redis: Redis) -> Pool:
    """Returns who there is."""
    return Pool(workers=await workers(redis), dispatchers=await dispatchers(redis))


async def workers(redis: Redis) -> list[Worker]:
    """Returns all workers in the order of their ids, the silent ones too."""
    return [Worker.of(row) for row in await Workers(redis).table()]


async def dispatchers(redis: Redis) -> list[Dispatcher]:
    """Returns all dispatchers in the order of their ids."""
    return [Dispatcher.of(row) for row in await Dispatchers(redis).table()]


async def calls(redis: Redis) -> list[RunningCall]:
    """Returns the running calls, those that began first at the beginning."""
    return [RunningCall.of(row) for row in await RunningCalls(redis).table()]


async def quotas(redis: Redis) -> list[Quota]:
    """Returns the Voice Live resources in the order of their names."""
    return [Quota.of(row) for row in await Quotas(redis).table()]


async def totals(redis: Redis) -> Totals:
    """Returns the pool in figures."""
    return Totals.of(await workers(redis), await dispatchers(redis), await quotas(redis))


async def call(redis: Redis, prefix: str) -> RunningCall | CallRecord:
    """Returns the call whose id this is, or begins so: running, or its record once it has ended.

    Raises NotFound and Ambiguous.
    """
    if row := await RunningCalls(redis).find(CallId(prefix)):
        return RunningCall.of(row)
    running = {each.call_id: each for each in await calls(redis) if each.call_id.startswith(prefix)}
    known: dict[str, RunningCall | CallRecord] = {**await records.find(redis, prefix), **running}
    return only("call", prefix, known)


async def events(redis: Redis, count: int | None, *, since_ms: int | None = None) -> list[Event]:
    """Returns events, oldest first: the newest `count`, of those since `since_ms` (Unix ms) if that is given."""
    if since_ms is None:
        return [Event.of(event) for event in await Events(redis).read(count or EVENTS_PAGE)]
    found = [event async for event in _since(redis, _just_before(since_ms))]
    return found if count is None else found[-count:]


async def now(redis: Redis) -> str:
    """Returns the position from which `follow` yields only what is to come."""
    newest = await Events(redis).read(1)
    return newest[0].position if newest else START


async def redis_answers(redis: Redis) -> None:
    """Returns when Redis does."""
    await ask(redis, "PING")


async def after(redis: Redis, position: str) -> list[Event]:
    """Returns the first EVENTS_PAGE events after `position`."""
    return [Event.of(event) for event in await Events(redis).read(EVENTS_PAGE, since=position)]


async def follow(redis: Redis, position: str) -> AsyncGenerator[Event]:
    """Yields the events after `position` as they come; never ends."""
    while True:
        page = await after(redis, position)
        for event in page:
            position = event.id
            yield event
        if len(page) < EVENTS_PAGE:
            await asyncio.sleep(POLL_S)


async def _since(redis: Redis, position: str) -> AsyncGenerator[Event]:
    while True:
        page = await after(redis, position)
        for event in page:
            yield event
        if len(page) < EVENTS_PAGE:
            return
        position = page[-1].id


def _just_before(at_ms: int) -> str:
    """Returns the last position that an event before `at_ms` can have."""
    return f"{at_ms - 1}-{2**64 - 1}" if at_ms > 0 else START
