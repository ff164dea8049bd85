"""A worker table and leases that live in memory, for tests of the dispatcher without Redis.

They keep the promises of `shared.control` that the dispatcher relies on, and nothing more.
"""

import asyncio
from dataclasses import replace

from shared.control.keys import HEARTBEAT_TTL_S
from shared.control.leases import Wish
from shared.control.workers import WorkerRow
from shared.errors import CallTaken, ControlUnavailable, LeaseLost, NoCapacity, WorkerGone
from shared.ids import CallId, LeaseId, WorkerId, new_lease_id
from shared.messages import CallRecord, Lease, ResourceQuota, WorkerHealth, WorkerRecord
from shared.states import WorkerState

STUCK_S = 1.0
"""How long a Redis that does not answer is waited for."""


class Pool:
    """Workers and leases of a pool in memory; `away` is a Redis that refuses, `stuck` one that does not answer."""

    def __init__(self) -> None:
        self.workers: dict[WorkerId, WorkerRecord] = {}
        self.leases: dict[CallId, Lease] = {}
        self.claimed: set[LeaseId] = set()
        self.away = False
        self.stuck = False
        self.given_back = asyncio.Event()
        """Set when an offer has been given back."""
        self.reads = 0
        self.unanswered = 0
        """Questions that a stuck Redis has not answered yet."""
        self.hidden: dict[WorkerId, int] = {}
        """Slots that are taken but that the table does not show yet."""
        self.healths: dict[WorkerId, WorkerHealth] = {}
        self.delay_s = 0.0
        """How long every lease takes."""
        self._watched_for_s = 2 * HEARTBEAT_TTL_S
        self._slow: set[asyncio.Future[None]] = set()

    def add(self, worker_id: str, host: str = "10.0.1.1", port: int = 5070, capacity: int = 1) -> None:
        """Registers a worker."""
        self.workers[WorkerId(worker_id)] = WorkerRecord(
            worker_id=WorkerId(worker_id),
            pod="pod",
            pid=1,
            sip_host=host,
            sip_port=port,
            capacity=capacity,
            state=WorkerState.READY,
            started_at_ms=0,
        )

    async def watched_table(self) -> tuple[float, list[WorkerRow]]:
        """Returns all workers as alive, and that somebody has reaped for long, unless `forget` says otherwise."""
        await self._answer()
        self.reads += 1
        rows = [
            WorkerRow(record, self.load(worker_id), 0, self.healths.get(worker_id, WorkerHealth()))
            for worker_id, record in self.workers.items()
        ]
        return self._watched_for_s, rows

    async def acquire(
        self,
        call_id: CallId,
        worker_id: WorkerId,
        *,
        invite_at_ms: int,
        wish: Wish,
        lease_id: LeaseId | None,
        replacing: LeaseId | None,
    ) -> Lease:
        """Takes a slot; resources have no end here."""
        await self._answer()
        if self.delay_s:
            await self._wait()
        held = self.leases.get(call_id)
        if held and held.lease_id in self.claimed:
            raise LeaseLost("claimed") if held.lease_id == replacing else CallTaken("claimed")
        if held and held.lease_id != replacing:
            return held
        worker = self.workers.get(worker_id)
        if worker is None:
            raise WorkerGone("unknown")
        if self.load(worker_id) + self.hidden.get(worker_id, 0) >= worker.capacity:
            raise NoCapacity("full")
        lease = Lease(
            lease_id=lease_id or new_lease_id(),
            call_id=call_id,
            worker_id=worker_id,
            offered_at_ms=1,
            invite_at_ms=invite_at_ms,
            agent=wish.agent,
            resource=wish.resources[0].name,
            traceparent=wish.traceparent,
        )
        self.leases[call_id] = lease
        return lease

    async def find(self, call_id: CallId) -> Lease | None:
        """Returns the lease that a call has."""
        await self._answer()
        return self.leases.get(call_id)

    async def leave_line(self, call_id: CallId, resources: tuple[ResourceQuota, ...]) -> None:
        """Nobody is in line."""
        await self._answer()

    async def release(self, lease: Lease, record: CallRecord | None) -> bool:
        """Gives an unclaimed offer back."""
        await self._answer()
        held = self.leases.get(lease.call_id)
        if held is None or held.lease_id != lease.lease_id or lease.lease_id in self.claimed:
            return False
        del self.leases[lease.call_id]
        self.given_back.set()
        return True

    def offer(self, call: str, worker_id: str) -> Lease:
        """Has another replica offer a call to a worker."""
        lease_id, call_id, worker = new_lease_id(), CallId(call), WorkerId(worker_id)
        lease = Lease(lease_id=lease_id, call_id=call_id, worker_id=worker, offered_at_ms=1, invite_at_ms=1)
        self.leases[call_id] = lease
        return lease

    def forget(self, worker_id: str, *, watched_for_s: float) -> None:
        """Has Redis come back empty, so long ago."""
        self.workers.pop(WorkerId(worker_id), None)
        self._watched_for_s = watched_for_s

    async def settled(self) -> None:
        """Returns once everything that takes time has been done."""
        await asyncio.gather(*self._slow)
        await asyncio.sleep(0)

    async def _wait(self) -> None:
        waiting = asyncio.ensure_future(asyncio.sleep(self.delay_s))
        self._slow.add(waiting)
        await waiting

    def load(self, worker_id: WorkerId) -> int:
        """Returns the slots taken on a worker."""
        return sum(lease.worker_id == worker_id for lease in self.leases.values())

    def occupy(self, worker_id: str) -> None:
        """Takes a slot for a call of somebody else."""
        self.offer(f"other call on {worker_id}", worker_id)

    def set_state(self, worker_id: str, state: WorkerState) -> None:
        """Changes what a worker says of itself."""
        record = self.workers[WorkerId(worker_id)]
        self.workers[record.worker_id] = replace(record, state=state)

    async def _answer(self) -> None:
        if self.stuck:
            self.unanswered += 1
            await asyncio.sleep(STUCK_S)
            self.unanswered -= 1
            raise ControlUnavailable("stuck")
        if self.away:
            raise ControlUnavailable("away")
