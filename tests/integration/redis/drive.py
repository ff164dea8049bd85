"""Every method of the control plane and of dead letters, once: for a Redis that is not the tests' usual one.

It asserts that each gets an answer of the right kind; what the answers should be, `tests/integration/control/` says.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from importlib.resources import files

import pytest
from redis.asyncio import Redis

from admin.webhooks.dead import DeadEvents
from shared.control import keys, scripts
from shared.control.address import RedisAddress
from shared.control.calls import RunningCalls
from shared.control.commands import Commands
from shared.control.connection import ask
from shared.control.dispatchers import Dispatchers
from shared.control.events import EventGroup, EventName, Events
from shared.control.leases import Leases, Wish
from shared.control.orphans import Orphans
from shared.control.ports import PortBlocks
from shared.control.quotas import Quotas, ResourceQuota
from shared.control.records import Records
from shared.control.workers import Workers
from shared.ending import CallEnd
from shared.errors import CallTaken, NoQuota
from shared.ids import CallId, DispatcherId, WorkerId
from shared.messages import Command, CommandName, CommandReply, CommandState, Dialog, DispatcherRecord
from shared.states import WorkerState
from tests.integration.control.pool import INVITE_AT_MS, call_record, pass_time, worker_record

ONE, TWO, DISPATCHER = WorkerId("one"), WorkerId("two"), DispatcherId("front")
NARROW = ResourceQuota(name="narrow", sessions=1, connections_per_minute=60, tokens_per_minute=1000)
DIALOG = Dialog(call_id=b"c", local=b"<sip:a@b>;tag=1", remote=b"<sip:c@d>;tag=2", target=b"sip:c@192.0.2.7")

Connecting = Callable[[RedisAddress | str], Redis]
"""The fixture `client`."""


async def drive(redis: Redis, clock: Redis) -> None:
    """Does what dispatchers, workers, operators and webhook senders do.

    `clock` may do anything: it makes what is stored older.
    """
    await carry(redis, clock)
    await watch(redis)
    await deliver(redis, clock)
    await command(redis, redis)
    await leave(redis)
    assert await scripts_not_run(clock) == set()


async def carry(redis: Redis, clock: Redis) -> None:
    """Takes calls through all they may meet."""
    await _drive_ports(redis)
    await _drive_processes(redis)
    await _drive_calls(redis, clock)
    await _drive_quotas(redis)


async def leave(redis: Redis) -> None:
    """Takes out who is still there."""
    await Workers(redis).unregister(TWO)
    await Dispatchers(redis).leave(DISPATCHER)


async def watch(redis: Redis) -> None:
    """Reads everything that is there to be read, after calls have been driven."""
    await Workers(redis).table()
    assert await Dispatchers(redis).table()
    assert await Quotas(redis).table()
    assert await RunningCalls(redis).table() == []
    assert await RunningCalls(redis).find(CallId("nobody")) is None
    assert len(await Records(redis).read(10)) == 3
    assert len(await Records(redis).read(10, since="0-0")) == 3
    async with aclosing(Records(redis).newest_first()) as rows:
        assert len([row async for row in rows]) == 3
    assert await Events(redis).read(1)
    assert await Events(redis).read(1, since="0-0")


async def deliver(sender: Redis, clock: Redis) -> None:
    """Goes through the events as a webhook sender does, after calls have been driven: all but one, which gets lost."""
    group, other = EventGroup(sender, "webhooks", "one"), EventGroup(sender, "webhooks", "two")
    assert (await group.read(1)).events == []
    await group.open()
    [newest] = await Events(clock).read(1)
    assert await ask(clock, "XDEL", keys.events(), newest.position) == 1
    batch = await group.read(1000)
    assert batch.events and batch.gone == 1
    positions = [event.position for event in batch.events]
    await group.keep(positions)
    assert await group.hand_back(positions) == 0
    assert (await other.take_over(1000, 1.0)).events == batch.events
    await other.done(positions)
    await group.forget_readers(-1.0)  # however lately they have asked for something
    dead = DeadEvents(sender)
    await dead.add(batch.events[0], "HTTP 500", attempts=8)
    assert [each.event for each in await dead.all()] == [batch.events[0]]
    await dead.remove(await dead.all())
    assert await dead.all() == []


async def command(operator: Redis, process: Redis) -> None:
    """Has `process` carry out a command that `operator` gives."""
    wanted = Command(command_id="1", name=CommandName.DRAIN)
    async with obeying(process, ONE) as seen:
        assert (await Commands(operator).run(ONE, wanted)).state == CommandState.DONE
    assert seen == [wanted]


@asynccontextmanager
async def obeying(redis: Redis, process_id: WorkerId) -> AsyncIterator[list[Command]]:
    """A process that does what it is told, for the block, in two steps; gives what it has been told."""
    told: list[Command] = []

    async def obey() -> None:
        commands = Commands(redis)
        async for command in commands.listen(process_id):
            told.append(command)
            for state in (CommandState.BEGUN, CommandState.DONE):
                await commands.answer(CommandReply(command_id=command.command_id, state=state))

    process = asyncio.create_task(obey())
    try:
        yield told
    finally:
        process.cancel()
        with suppress(asyncio.CancelledError):
            await process


async def _drive_ports(redis: Redis) -> None:
    ports = PortBlocks(redis, "machine", "pod")
    assert await ports.take(2) == 0
    assert await ports.keep(0)
    assert await ports.release(0)


async def _drive_processes(redis: Redis) -> None:
    workers = Workers(redis)
    for worker_id in (ONE, TWO):
        await workers.register(worker_record(worker_id, capacity=8))
        assert await workers.heartbeat(worker_id, WorkerState.READY)
    await Dispatchers(redis).heartbeat(
        DispatcherRecord(
            dispatcher_id=DISPATCHER, pid=1, sip_host="192.0.2.1", sip_port=5060, draining=False, started_at_ms=1
        ),
        [NARROW],
    )


async def _drive_calls(redis: Redis, clock: Redis) -> None:
    workers, leases = Workers(redis), Leases(redis)
    moved = await leases.acquire(CallId("moved"), ONE, invite_at_ms=INVITE_AT_MS)
    moved = await leases.acquire(CallId("moved"), TWO, invite_at_ms=INVITE_AT_MS, replacing=moved.lease_id)
    assert await leases.release(moved, None)
    failed = await leases.acquire(CallId("failed"), ONE, invite_at_ms=INVITE_AT_MS)
    await leases.claim(failed)
    assert await leases.release(failed, call_record(failed, CallEnd.SESSION_UNAVAILABLE))
    saved = await leases.acquire(failed.call_id, TWO, invite_at_ms=INVITE_AT_MS, replacing=failed.lease_id)
    await leases.claim(saved)
    assert await leases.release(saved, call_record(saved))
    ended, lapsed, orphaned = [
        await leases.acquire(CallId(name), ONE, invite_at_ms=INVITE_AT_MS) for name in ("ended", "lapsed", "orphaned")
    ]
    for lease in (ended, orphaned):
        await leases.claim(lease)
    with pytest.raises(CallTaken):
        await leases.acquire(ended.call_id, TWO, invite_at_ms=INVITE_AT_MS)
    assert await leases.find(ended.call_id) is not None
    assert await leases.renew(ONE, [ended, replace(orphaned, answered_at_ms=INVITE_AT_MS, dialog=DIALOG)]) == []
    assert await leases.release(ended, call_record(ended))

    await leases.reap()
    await pass_time(clock, keys.OFFER_TTL_S + 1)
    for worker_id in (ONE, TWO):
        assert await workers.heartbeat(worker_id, WorkerState.READY)
    assert [lease.call_id for lease in await leases.reap()] == [lapsed.call_id]
    await workers.heartbeat(TWO, WorkerState.READY)
    await clock.zadd(keys.workers(), {ONE: 1})
    assert [lease.call_id for lease in await leases.reap()] == [orphaned.call_id]
    assert [lease.call_id for lease in await Orphans(redis).take()] == [orphaned.call_id]
    await Orphans(redis).settle(orphaned.call_id)


async def _drive_quotas(redis: Redis) -> None:
    leases, quotas = Leases(redis), Quotas(redis)
    first = await leases.acquire(CallId("first"), TWO, invite_at_ms=INVITE_AT_MS, wish=Wish(resources=[NARROW]))
    with pytest.raises(NoQuota):
        await leases.acquire(
            CallId("second"), TWO, invite_at_ms=INVITE_AT_MS, wish=Wish(resources=[NARROW], may_wait=True)
        )
    await leases.leave_line(CallId("second"), [NARROW])
    await quotas.spend(NARROW.name, connections=1, tokens=10)
    await quotas.throttled(NARROW.name, 1.0)
    assert await leases.release(first, None)
    await Events(redis).tell(EventName.CALL_REFUSED, {"call_id": "second", "status": 503, "reason": "no quota"})


async def scripts_not_run(clock: Redis) -> set[str]:
    """Returns the names of the Lua scripts that this Redis has never been given."""
    names = {file.name.removesuffix(".lua") for file in files("shared.control").iterdir() if file.name.endswith(".lua")}
    names -= set(scripts.SHARED)
    known = [(await clock.script_exists(clock.register_script(scripts.source(name)).sha))[0] for name in names]
    return {name for name, run in zip(names, known, strict=True) if not run}
