"""A pool as Redis sees it: workers and dispatchers that register, calls that hold leases, and processes that obey."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from zlib import crc32

from redis.asyncio import Redis

from shared.clock import now_ms
from shared.control.commands import Commands, ProcessId
from shared.control.dispatchers import Dispatchers
from shared.control.events import EventName, Events
from shared.control.leases import Leases, Wish
from shared.control.quotas import Quotas, ResourceQuota
from shared.control.workers import Workers
from shared.ids import CallId, DispatcherId, WorkerId
from shared.messages import (
    CallRecord,
    Command,
    CommandReply,
    CommandState,
    Dialog,
    DispatcherRecord,
    KeptUtterance,
    Lease,
    WorkerHealth,
    WorkerRecord,
)
from shared.states import WorkerState

ONE, TWO, OTHER = WorkerId("pod-a-0-1111"), WorkerId("pod-a-1-2222"), WorkerId("pod-b-0-3333")
FRONT = DispatcherId("front-d-4444")

WEST = ResourceQuota(name="west", connections_per_minute=600, sessions=50, tokens_per_minute=200_000)
NUMBER = "+4930123456"
DIALOG = Dialog(
    call_id=b"c", local=b"<sip:bot@192.0.2.1>;tag=1", remote=f"<sip:{NUMBER}@192.0.2.9>;tag=2".encode(), target=b"sip:x"
)


async def add_worker(
    redis: Redis, worker_id: WorkerId, *, state: WorkerState = WorkerState.READY, health: WorkerHealth | None = None
) -> None:
    """Registers a worker of ten slots, in the pod that its id names."""
    pod = worker_id.rsplit("-", 2)[0]
    port = 1024 + crc32(worker_id.encode()) % 60_000  # of its own
    record = WorkerRecord(
        worker_id=worker_id, pod=pod, pid=7, sip_host="192.0.2.1", sip_port=port, capacity=10, state=state,
        started_at_ms=now_ms(), labels={"region": "west"},
    )  # fmt: skip
    await Workers(redis).register(record)
    await Workers(redis).heartbeat(worker_id, state, health)


async def add_dispatcher(redis: Redis, dispatcher_id: DispatcherId = FRONT, *, draining: bool = False) -> None:
    """Enters a dispatcher, which knows of one resource with limits and of that of the settings, without."""
    record = DispatcherRecord(
        dispatcher_id=dispatcher_id, pid=8, sip_host="192.0.2.2", sip_port=5060, draining=draining,
        started_at_ms=now_ms(),
    )  # fmt: skip
    await Dispatchers(redis).heartbeat(record, [WEST, ResourceQuota(name="")])


async def add_call(
    redis: Redis, call_id: str, worker_id: WorkerId = ONE, *, claimed: bool = True, answered: bool = True
) -> Lease:
    """Gives a call a lease; it came 90 s ago and was answered 2 s later."""
    leases = Leases(redis)
    wish = Wish(resources=[WEST], agent="reception", peer="192.0.2.9")
    came = now_ms() - 90_000
    lease = await leases.acquire(CallId(call_id), worker_id, invite_at_ms=came, wish=wish)
    if claimed:
        await leases.claim(lease)
    if claimed and answered:
        lease = replace(lease, answered_at_ms=came + 2000, dialog=DIALOG)
        await leases.renew(worker_id, [lease])
    return lease


async def end_call(redis: Redis, lease: Lease) -> CallRecord:
    """Releases a lease, with a record that has a number and a word in it."""
    record = CallRecord(
        call_id=lease.call_id, lease_id=lease.lease_id, worker_id=lease.worker_id, result="completed",
        reason="caller_hangup", invite_at_ms=lease.invite_at_ms, answered_at_ms=lease.invite_at_ms + 2000,
        ended_at_ms=now_ms(), agent=lease.agent, caller=NUMBER, cost=0.02, currency="EUR",
        transcript=[KeptUtterance(role="caller", at_ms=500, text="A secret word.")],
    )  # fmt: skip
    await Leases(redis).release(lease, record)
    return record


async def fill(redis: Redis) -> None:
    """Makes a pool with something of everything: workers, a dispatcher, calls, one that has ended, events."""
    await add_worker(redis, ONE, health=WorkerHealth(loop_lag_p99_ms=1.2, cpu_percent=31.4))
    await add_worker(redis, TWO, health=WorkerHealth(loop_lag_p99_ms=48.0, cpu_percent=97, late_ticks=31, late=True))
    await add_worker(redis, OTHER, state=WorkerState.READY, health=WorkerHealth(cpu_percent=3, cut_off=["west", ""]))
    await add_dispatcher(redis)
    for number, worker_id in enumerate((ONE, ONE, OTHER)):
        await add_call(redis, f"{number}aaaaaaaaaaaaaaaaaaa", worker_id)
    await add_call(redis, "9bbbbbbbbbbbbbbbbbbb", OTHER, claimed=False)
    await end_call(redis, await add_call(redis, "5ddddddddddddddddddd"))
    await Quotas(redis).throttled("west", 5.0)
    await Events(redis).tell(EventName.CALL_REFUSED, {"call_id": "cccc", "status": 503, "reason": "no_capacity"})


@dataclass
class Obedient:
    """Processes that carry out commands as they are told to."""

    redis: Redis
    replies: Mapping[str, Sequence[tuple[CommandState, str]]] = field(default_factory=dict)
    """What is answered to a command, by its name; done at once to others."""
    seen: list[tuple[ProcessId, Command]] = field(default_factory=list)

    @property
    def done(self) -> list[tuple[str, ProcessId, CallId | None, str]]:
        """What they were told: name, process, call, argument."""
        return [(each.name, process_id, each.call_id, each.argument) for process_id, each in self.seen]

    async def obey(self, process_id: ProcessId) -> None:
        """Carries out the commands of a process; never ends."""
        commands = Commands(self.redis)
        async for command in commands.listen(process_id):
            self.seen.append((process_id, command))
            for state, detail in self.replies.get(command.name, [(CommandState.DONE, "")]):
                await commands.answer(CommandReply(command_id=command.command_id, state=state, detail=detail))


@asynccontextmanager
async def obeying(
    redis: Redis, *process_ids: ProcessId, **replies: Sequence[tuple[CommandState, str]]
) -> AsyncIterator[Obedient]:
    """Has processes obey for the block; `replies` are by the names of commands."""
    obedient = Obedient(redis, replies)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(obedient.obey(process_id)) for process_id in process_ids]
        yield obedient
        for task in tasks:
            task.cancel()
