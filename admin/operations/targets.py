"""What a command of an operator is for: processes and calls, by their ids or how these begin, by pod, or all of them.

It sends nothing (`act.py`). Every function raises ControlUnavailable, and NotFound or Ambiguous for an id that is
nobody's or not one's alone.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from redis.asyncio import Redis

from admin.operations import look
from admin.operations.finding import only
from admin.operations.shapes import Dispatcher, RunningCall, Worker
from shared.control.commands import ProcessId
from shared.ids import CallId, DispatcherId, WorkerId


@dataclass(frozen=True, slots=True)
class Target:
    """One process that gets a command, and the call it is about."""

    process_id: ProcessId
    silent_ms: int | None = None
    """Time since the process was last heard of, when that is too long for it to be alive."""
    call_id: CallId | None = None

    @property
    def name(self) -> str:
        """What the command is for, as operators name it."""
        return self.call_id or self.process_id


@dataclass(frozen=True, slots=True)
class Selection:
    """What an operator chose."""

    targets: Sequence[Target]
    bulk: bool
    """More was chosen than one thing by its name: to be confirmed."""


async def processes(redis: Redis, wanted: Sequence[str], *, everything: bool = False) -> Selection:
    """Returns workers and dispatchers: those of ids or pods that are wanted, or everything that is alive."""
    seen = await look.pool(redis)
    known: dict[str, Target] = {row.worker_id: _worker(row) for row in seen.workers}
    known |= {row.dispatcher_id: _dispatcher(row) for row in seen.dispatchers}
    if everything:
        return Selection([target for target in known.values() if target.silent_ms is None], bulk=True)
    chosen: dict[str, Target] = {}
    bulk = len(wanted) > 1
    for name in wanted:
        pod = [known[row.worker_id] for row in seen.workers if row.pod == name]
        bulk = bulk or bool(pod)
        chosen |= {target.name: target for target in pod or [only("worker, dispatcher or pod", name, known)]}
    return Selection(list(chosen.values()), bulk)


async def calls(
    redis: Redis, wanted: Sequence[str], *, worker: str | None = None, everything: bool = False
) -> Selection:
    """Returns running calls: those that are wanted, those of a worker, or every one."""
    running = await look.calls(redis)
    workers = {row.worker_id: row for row in await look.workers(redis)}
    if worker is not None:
        worker_id = only("worker", worker, workers).worker_id
        return Selection(list(_calls((each for each in running if each.worker_id == worker_id), workers)), bulk=True)
    if everything:
        return Selection(list(_calls(running, workers)), bulk=True)
    known = {target.name: target for target in _calls(running, workers)}
    chosen: dict[str, Target] = {}
    for name in wanted:
        target = only("running call", name, known)
        chosen[target.name] = target
    return Selection(list(chosen.values()), len(wanted) > 1)


def _calls(running: Iterable[RunningCall], workers: Mapping[str, Worker]) -> Iterable[Target]:
    for call in running:
        row = workers.get(call.worker_id)
        silent_ms = row.heartbeat_age_ms if row and not row.alive else None
        yield Target(WorkerId(call.worker_id), silent_ms, CallId(call.call_id))


def _worker(row: Worker) -> Target:
    return Target(WorkerId(row.worker_id), None if row.alive else row.heartbeat_age_ms)


def _dispatcher(row: Dispatcher) -> Target:
    return Target(DispatcherId(row.dispatcher_id), None if row.alive else row.heartbeat_age_ms)
