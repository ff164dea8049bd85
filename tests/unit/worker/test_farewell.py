"""Whether our BYE can arrive, as the table of dispatchers tells it."""

import asyncio

import pytest

from shared.clock import steady_s
from shared.control import keys
from shared.errors import ControlUnavailable
from tests.unit.worker.dispatchers import Table
from worker import farewell

OURS = ("10.0.0.1", 5060)
SECOND = ("10.0.0.2", 5060)
PATIENCE_S = 10.0


async def test_a_bye_arrives_at_a_dispatcher_that_is_heard_of_afterwards() -> None:
    table = Table(OURS)
    assert await farewell.arrives(table, OURS, steady_s() - 1.0)
    assert table.reads == 1


async def test_a_bye_does_not_arrive_at_one_that_has_left_or_is_silent() -> None:
    table = Table(SECOND)
    assert not await farewell.arrives(table, OURS, steady_s())
    table.heard[OURS] = steady_s() - 2 * keys.HEARTBEAT_TTL_S
    assert not await farewell.arrives(table, OURS, steady_s())


async def test_the_next_heartbeat_is_waited_for() -> None:
    table, sent_at = Table(OURS), steady_s() + 0.01
    asking = asyncio.create_task(farewell.arrives(table, OURS, sent_at))
    async with asyncio.timeout(PATIENCE_S):
        await table.read.wait()
    assert not asking.done()
    table.heard[OURS] = sent_at + 1.0
    assert await asking


async def test_one_that_died_just_before_is_noticed_when_its_time_is_up() -> None:
    table = Table(OURS)
    table.heard[OURS] -= keys.HEARTBEAT_TTL_S - 0.3
    assert not await farewell.arrives(table, OURS, steady_s())
    assert table.reads > 1


async def test_without_redis_nothing_is_known() -> None:
    table = Table(OURS)
    table.away = True
    with pytest.raises(ControlUnavailable):
        await farewell.arrives(table, OURS, steady_s())
