"""Commits the faults of a schedule on a running pool, replaces what has died, and notes which workers were harmed.

It decides nothing: `schedule.py` says what strikes when. What it cannot commit, because too few would be left, it says.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any

from bench.chaos.schedule import Fault, FaultKind
from bench.chaos.verdict import Harm
from bench.chaos.watch import Watch
from bench.faults.processes import ProcessFault
from bench.fleet import Fleet, FleetWorker
from bench.progress import Progress
from shared.control.commands import Commands
from shared.errors import CommandFailed, ControlUnavailable
from shared.ids import WorkerId, new_command_id
from shared.messages import Command, CommandName

SLOW_MS = 250.0
"""Each way: an answer takes twice as long."""

THAWED_S = 12.0
"""How long after a thaw a worker may still find calls of its own reaped: until its next renewal, and some more."""

OBEY_S = 40.0
AGAIN_S = 0.5
"""How long, and how often, an operator tries again whose command was not answered."""

REFUSALS = 1_000_000


@dataclass(slots=True)
class Committed:
    """What was done."""

    faults: list[tuple[float, Fault, str]] = field(default_factory=list)
    """Unix time in ms, the fault, and whom it struck."""
    skipped: list[Fault] = field(default_factory=list)
    harms: list[Harm] = field(default_factory=list)


class Injector:
    """Commits faults. `run` once."""

    def __init__(self, fleet: Fleet, watch: Watch, commands: Commands, progress: Progress) -> None:
        self.committed = Committed()
        self._fleet = fleet
        self._watch = watch
        self._commands = commands
        self._progress = progress
        self._busy: set[WorkerId] = set()
        """Frozen or drained at the moment."""
        self._down: set[int] = set()
        """Dispatchers that are not there at the moment."""
        self._commit: dict[FaultKind, Callable[[Fault], Coroutine[Any, Any, None]]] = {
            FaultKind.KILL_WORKER: self._kill_worker,
            FaultKind.FREEZE_WORKER: self._freeze_worker,
            FaultKind.HANG_WORKER: self._freeze_worker,
            FaultKind.KILL_SUPERVISOR: self._replace_pod,
            FaultKind.STOP_POD: self._replace_pod,
            FaultKind.DRAIN_WORKER: self._drain_worker,
            FaultKind.KILL_DISPATCHER: self._kill_dispatcher,
            FaultKind.EMPTY_REDIS: self._empty_redis,
            FaultKind.CUT_REDIS: self._cut_redis,
            FaultKind.SLOW_REDIS: self._slow_redis,
            FaultKind.DROP_MODEL: self._drop_model,
            FaultKind.REFUSE_MODEL: self._refuse_model,
        }

    async def run(self, faults: Sequence[Fault]) -> None:
        """Commits each at its time, and returns once all are over."""
        begin = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for fault in faults:
                await asyncio.sleep(begin + fault.at_s - time.monotonic())
                tasks.create_task(self._commit[fault.kind](fault), name=fault.kind)

    def _note(self, fault: Fault, whom: str) -> None:
        self.committed.faults.append((time.time() * 1000, fault, whom))
        lasts = f" for {fault.lasts_s:.1f} s" if fault.lasts_s else ""
        self._progress.say(f"{fault.kind}{lasts}{f': {whom}' if whom else ''}")

    def _skip(self, fault: Fault) -> None:
        self.committed.skipped.append(fault)
        self._progress.say(f"{fault.kind}: not now, too few are left")

    # -------------------------------------------------------------------------------------------------------- workers

    async def _kill_worker(self, fault: Fault) -> None:
        worker = self._worker(fault)
        if worker is None:
            return
        self._note(fault, worker.worker_id)
        self.committed.harms.append(Harm(worker.worker_id, time.time() * 1000, killed=True))
        worker.target.inject(ProcessFault.KILL)

    async def _freeze_worker(self, fault: Fault) -> None:
        worker = self._worker(fault)
        if worker is None:
            return
        self._note(fault, worker.worker_id)
        begin_ms = time.time() * 1000
        self._busy.add(worker.worker_id)
        worker.target.inject(ProcessFault.FREEZE)
        await asyncio.sleep(fault.lasts_s)
        worker.target.inject(ProcessFault.THAW)
        self._busy.discard(worker.worker_id)
        until_ms = time.time() * 1000 + THAWED_S * 1000 if worker.target.alive else inf
        self.committed.harms.append(Harm(worker.worker_id, begin_ms, until_ms))

    async def _drain_worker(self, fault: Fault) -> None:
        worker = self._worker(fault)
        if worker is None:
            return
        self._note(fault, worker.worker_id)
        self._busy.add(worker.worker_id)
        await self._order(worker, CommandName.DRAIN)
        await asyncio.sleep(fault.lasts_s)
        await self._order(worker, CommandName.UNDRAIN)
        self._busy.discard(worker.worker_id)

    async def _order(self, worker: FleetWorker, name: CommandName) -> None:
        """Has a worker do something, again and again while Redis is away or empty, as an operator would."""
        deadline = time.monotonic() + OBEY_S
        while worker.target.alive and worker.pod in self._fleet.pods and time.monotonic() < deadline:
            try:
                await self._commands.run(worker.worker_id, Command(command_id=new_command_id(), name=name))
                return
            except (CommandFailed, ControlUnavailable):
                await asyncio.sleep(AGAIN_S)

    def _worker(self, fault: Fault) -> FleetWorker | None:
        """Returns whom it strikes: one that is there and carries on, if another one does."""
        able = [worker for worker in self._fleet.workers() if worker.worker_id not in self._busy]
        if len(able) < 2:
            self._skip(fault)
            return None
        return able[fault.target % len(able)]

    # ----------------------------------------------------------------------------------------------------------- pods

    async def _replace_pod(self, fault: Fault) -> None:
        fleet = self._fleet
        able = {worker.pod for worker in fleet.workers() if worker.worker_id not in self._busy}
        if len(able) < 2:
            self._skip(fault)
            return
        pod = fleet.pods[fault.target % len(fleet.pods)]
        self._note(fault, pod.name)
        killed = fault.kind is FaultKind.KILL_SUPERVISOR
        await fleet.stop_pod(pod, ProcessFault.KILL if killed else ProcessFault.TERMINATE)
        await asyncio.sleep(fault.lasts_s)
        await fleet.start_pods()

    # ---------------------------------------------------------------------------------------------------- dispatchers

    async def _kill_dispatcher(self, fault: Fault) -> None:
        able = [index for index in range(len(self._fleet.dispatchers)) if index not in self._down]
        if len(able) < 2:
            self._skip(fault)
            return
        index = able[fault.target % len(able)]
        self._note(fault, self._fleet.dispatchers[index].name)
        self._down.add(index)
        await self._fleet.kill_dispatcher(index)
        await asyncio.sleep(fault.lasts_s)
        await self._fleet.restart_dispatcher(index)
        self._down.discard(index)

    # ---------------------------------------------------------------------------------------------------------- Redis

    async def _empty_redis(self, fault: Fault) -> None:
        self._note(fault, "")
        await self._watch.before_forgetting()
        await asyncio.to_thread(self._fleet.redis.restart)

    async def _cut_redis(self, fault: Fault) -> None:
        self._note(fault, "")
        await self._fleet.relay.cut()
        await asyncio.sleep(fault.lasts_s)
        await self._fleet.relay.heal()

    async def _slow_redis(self, fault: Fault) -> None:
        self._note(fault, "")
        await self._fleet.relay.slow(SLOW_MS)
        await asyncio.sleep(fault.lasts_s)
        await self._fleet.relay.heal()

    # ------------------------------------------------------------------------------------------------------ the model

    async def _drop_model(self, fault: Fault) -> None:
        self._note(fault, "")
        await self._fleet.order_faults(sessions=[{"kind": "abort", "session": "all"}])

    async def _refuse_model(self, fault: Fault) -> None:
        self._note(fault, "")
        await self._fleet.order_faults(next_handshake={"status": 503, "count": REFUSALS})
        await asyncio.sleep(fault.lasts_s)
        await self._fleet.order_faults(next_handshake=None)
