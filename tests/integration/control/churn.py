"""A worker and a dispatcher in one process, that place, claim, renew and end calls until they are killed.

Run with: Redis URL, worker id, capacity, ids of all workers. Says on stdout what it has done, one line each.
"""

import asyncio
import random
import sys

from shared.control.connection import connect
from shared.control.leases import Leases
from shared.control.workers import Workers
from shared.ending import CallEnd
from shared.errors import CallTaken, LeaseLost, NoCapacity
from shared.ids import CallId, LeaseId, WorkerId
from shared.messages import Lease
from shared.states import WorkerState
from tests.integration.control.pool import INVITE_AT_MS, call_record, worker_record

CALLS = 100
"""Calls there are: so many that not all are over for good before the test is."""

REASONS = [CallEnd.NO_CAPACITY, CallEnd.SESSION_UNAVAILABLE, CallEnd.WORKER_STOPPED, CallEnd.CALLER_CANCELLED]
"""After all but the last the caller may be offered to another worker."""


class Churn:
    """Steps of one process, in random order."""

    def __init__(self, url: str, worker_id: WorkerId, capacity: int, everybody: list[WorkerId]) -> None:
        redis = connect(url, timeout_s=60.0)
        self.workers, self.leases = Workers(redis), Leases(redis)
        self.worker_id, self.capacity, self.everybody = worker_id, capacity, everybody
        self.running: dict[LeaseId, Lease] = {}

    async def run(self) -> None:
        """Goes on until killed."""
        await self.workers.register(worker_record(self.worker_id, self.capacity), [])
        while True:
            await random.choice([self.place, self.place, self.place, self.place, self.renew, self.end, self.reap])()
            if not await self.workers.heartbeat(self.worker_id, WorkerState.READY):
                await self.workers.register(worker_record(self.worker_id, self.capacity), list(self.running.values()))

    async def place(self) -> None:
        """Offers a call to some worker, and claims it in its stead if that is this process."""
        call_id = CallId(f"call{random.randrange(CALLS)}")
        try:
            lease = await self.leases.acquire(call_id, random.choice(self.everybody), invite_at_ms=INVITE_AT_MS)
            if lease.worker_id == self.worker_id:
                await self.leases.claim(lease)
                self.running[lease.lease_id] = lease
                say("claimed", lease)
        except (NoCapacity, CallTaken, LeaseLost):
            return

    async def renew(self) -> None:
        """Renews what runs; what is lost ends."""
        for lease_id in await self.leases.renew(self.worker_id, list(self.running.values())):
            del self.running[lease_id]

    async def end(self) -> None:
        """Ends one call."""
        if self.running:
            _, lease = self.running.popitem()
            if await self.leases.release(lease, call_record(lease, random.choice(REASONS))):
                say("ended", lease)

    async def reap(self) -> None:
        """Frees what others left."""
        for lease in await self.leases.reap():
            say("freed", lease)


def say(done: str, lease: Lease) -> None:
    """Tells the test, in one write: a killed process leaves no half line."""
    sys.stdout.write(f"{done} {lease.lease_id} {lease.call_id}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    url, worker_id, capacity, *everybody = sys.argv[1:]
    asyncio.run(Churn(url, WorkerId(worker_id), int(capacity), list(map(WorkerId, everybody))).run())
