"""What remains in Redis when everybody has gone: everything has a lifetime, or a limit to its length."""

from dataclasses import replace

import pytest
from redis.asyncio import Redis

from shared.control import keys
from shared.control.commands import Commands
from shared.control.connection import ask
from shared.control.dispatchers import Dispatchers
from shared.control.events import EventName, Events
from shared.control.leases import Leases, Wish
from shared.control.quotas import Quotas
from shared.control.workers import Workers
from shared.errors import CommandFailed, NoQuota
from shared.ids import CallId, WorkerId
from shared.messages import Command, CommandName, CommandReply, CommandState, ResourceQuota
from shared.states import WorkerState
from tests.integration.control.pool import (
    DIALOG,
    INVITE_AT_MS,
    call_record,
    dispatcher_record,
    pass_time,
    worker_record,
)

ONE, TWO = WorkerId("one"), WorkerId("two")
WISH = Wish(resources=[ResourceQuota(name="narrow", sessions=1, connections_per_minute=6)], may_wait=True)
LIMITED_IN_LENGTH = {keys.records(), keys.events()}


async def keys_without_lifetime(redis: Redis) -> set[str]:
    """Returns the keys that Redis would keep for ever."""
    names = [name async for name in redis.scan_iter()]
    return {str(name, "ascii") for name in names if await ask(redis, "PTTL", name) == -1}


async def test_only_what_is_trimmed_has_no_lifetime_after_everything_ended(
    redis: Redis, workers: Workers, leases: Leases
) -> None:
    await workers.register(worker_record("one"), [])
    await workers.register(worker_record("two"), [])
    await workers.heartbeat(ONE, WorkerState.READY)
    ended = await leases.acquire(CallId("a"), ONE, invite_at_ms=INVITE_AT_MS, wish=WISH)
    await leases.claim(ended)
    moved = await leases.acquire(CallId("b"), ONE, invite_at_ms=INVITE_AT_MS)
    moved = await leases.acquire(CallId("b"), TWO, invite_at_ms=INVITE_AT_MS, replacing=moved.lease_id)
    killed = await leases.acquire(CallId("c"), TWO, invite_at_ms=INVITE_AT_MS)
    await leases.claim(killed)
    killed = replace(killed, answered_at_ms=INVITE_AT_MS, dialog=DIALOG)
    await leases.renew(TWO, [killed])

    await leases.release(ended, call_record(ended), orphan=True)
    await leases.release(moved, None)
    await workers.unregister(ONE)
    await pass_time(redis, keys.LEASE_TTL_S + 1)
    assert await leases.reap() == [killed]
    assert await ask(redis, "EXISTS", keys.orphans(), keys.orphan_leases(), keys.budgets()) == 3
    assert await keys_without_lifetime(redis) == LIMITED_IN_LENGTH


async def test_whoever_waits_gives_commands_or_says_something_leaves_nothing_for_ever(
    redis: Redis, workers: Workers, dispatchers: Dispatchers, leases: Leases, quotas: Quotas, events: Events
) -> None:
    await workers.register(worker_record("one"), [])
    await dispatchers.heartbeat(dispatcher_record(), WISH.resources)
    lease = await leases.acquire(CallId("a"), ONE, invite_at_ms=INVITE_AT_MS, wish=WISH)
    with pytest.raises(NoQuota):
        await leases.acquire(CallId("b"), ONE, invite_at_ms=INVITE_AT_MS, wish=WISH)
    await quotas.spend("narrow", connections=1, tokens=5)
    await quotas.throttled("narrow", 1.0)
    await quotas.throttled("unheard of", None)
    await events.tell(EventName.CALL_REFUSED, {"call_id": "b", "status": 503, "reason": "no_quota"})
    with pytest.raises(CommandFailed):
        await Commands(redis).run(ONE, Command(command_id="1", name=CommandName.DRAIN))
    await Commands(redis).answer(CommandReply(command_id="1", state=CommandState.DONE))
    await leases.release(lease, None)
    await workers.unregister(ONE)
    left = {keys.waiting("narrow"), keys.polls("narrow"), keys.commands(ONE), keys.answers("1"), keys.quota_beats()}
    assert await ask(redis, "EXISTS", *left) == len(left)
    assert await keys_without_lifetime(redis) == {keys.events()}


async def test_worker_and_its_leases_are_all_that_stays_while_it_lives(
    redis: Redis, workers: Workers, leases: Leases
) -> None:
    await workers.register(worker_record("one"), [])
    await leases.acquire(CallId("a"), ONE, invite_at_ms=INVITE_AT_MS)
    assert await keys_without_lifetime(redis) == {
        keys.workers(), keys.registrations(), keys.states(), keys.loads(), keys.lapses(), keys.slots(ONE),
        keys.call(CallId("a")), keys.sessions(), keys.events(),
    }  # fmt: skip
