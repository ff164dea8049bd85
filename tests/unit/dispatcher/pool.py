"""A worker table and leases that live in memory, for tests of the dispatcher without Redis.

They keep the promises of `shared.control` that the dispatcher relies on, and nothing more.
"""

import asyncio
from dataclasses import replace

from shared.control.workers import WorkerRow
from shared.errors import ControlUnavailable, LeaseLost, NoCapacity
from shared.ids import CallId, LeaseId, WorkerId, new_lease_id
from shared.messages import CallRecord, Lease, WorkerRecord
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

    async def table(self) -> list[WorkerRow]:
        """Returns all workers as alive."""
        await self._answer()
        self.reads += 1
        return [WorkerRow(record, self.load(worker_id), 0) for worker_id, record in self.workers.items()]

    async def acquire(
        self, call_id: CallId, worker_id: WorkerId, *, invite_at_ms: int, replacing: LeaseId | None = None
    ) -> Lease:
        """Takes a slot."""
        await self._answer()
        held = self.leases.get(call_id)
        if held and held.lease_id == replacing and held.lease_id in self.claimed:
            raise LeaseLost("claimed")
        if held and held.lease_id != replacing:
            return held
        if self.load(worker_id) + self.hidden.get(worker_id, 0) >= self.workers[worker_id].capacity:
            raise NoCapacity("full")
        lease = Lease(
            lease_id=new_lease_id(), call_id=call_id, worker_id=worker_id, offered_at_ms=1, invite_at_ms=invite_at_ms
        )
        self.leases[call_id] = lease
        return lease

    async def release(self, lease: Lease, record: CallRecord | None) -> bool:
        """Gives an unclaimed offer back."""
        await self._answer()
        held = self.leases.get(lease.call_id)
        if held is None or held.lease_id != lease.lease_id or lease.lease_id in self.claimed:
            return False
        del self.leases[lease.call_id]
        self.given_back.set()
        return True

    async def reap(self) -> list[Lease]:
        """Finds nothing."""
        await self._answer()
        return []

    def load(self, worker_id: WorkerId) -> int:
        """Returns the slots taken on a worker."""
        return sum(lease.worker_id == worker_id for lease in self.leases.values())

    def occupy(self, worker_id: str) -> None:
        """Takes a slot for a call of somebody else."""
        call_id = CallId(f"other call on {worker_id}")
        self.leases[call_id] = Lease(
            lease_id=new_lease_id(), call_id=call_id, worker_id=WorkerId(worker_id), offered_at_ms=1, invite_at_ms=1
        )

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
