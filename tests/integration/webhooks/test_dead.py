"""Dead letters in a real Redis."""

from redis.asyncio import Redis

from admin.webhooks.dead import PAGE, DeadEvents
from shared.control import keys
from shared.control.events import Event


def event(number: int) -> Event:
    """Returns an event."""
    return Event(f"{number}-0", "call.ended", number, {"call_id": f"call-{number}", "result": "completed"})


async def test_they_come_back_as_they_were_in_the_order_they_were_given_up(redis: Redis) -> None:
    dead = DeadEvents(redis)
    numbers = list(range(PAGE + 10, 0, -1))
    for number in numbers:
        await dead.add(event(number), "HTTP 503", 8)
    found = await dead.all()
    assert [each.event for each in found] == [event(number) for number in numbers]
    assert {(each.error, each.attempts) for each in found} == {("HTTP 503", 8)}


async def test_one_that_two_senders_gave_up_is_one_and_is_removed_as_one(redis: Redis) -> None:
    dead = DeadEvents(redis)
    await dead.add(event(1), "timeout", 8)
    await dead.add(event(2), "timeout", 8)
    await dead.add(event(1), "HTTP 503", 9)
    first, second = await dead.all()
    assert (first.event, first.error, first.attempts) == (event(1), "HTTP 503", 9)
    await dead.remove([first])
    assert await dead.all() == [second]
    await dead.remove([])
    assert await redis.xlen(keys.dead_events()) == 1


async def test_they_have_a_length_limit(redis: Redis) -> None:
    async with redis.pipeline(transaction=False) as pipe:
        for _ in range(keys.EVENTS_MAX + 500):
            pipe.xadd(keys.dead_events(), {"id": "1-0", "event": "call.ended", "at_ms": 1})
        await pipe.execute()
    await DeadEvents(redis).add(event(1), "timeout", 8)
    assert await redis.xlen(keys.dead_events()) < keys.EVENTS_MAX + 200
