"""The worker table as the dispatcher last saw it, with what it has leased since.

It chooses nobody (`placement.py`) and does not decide when to look again, but for calls that would be refused.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from ipaddress import ip_address
from typing import Protocol

from dispatcher.placement import reaches, takes_calls
from dispatcher.sip.actions import Address
from shared.control.keys import HEARTBEAT_TTL_S
from shared.control.workers import WorkerRow
from shared.errors import ControlUnavailable
from shared.ids import WorkerId

REFUSAL_AGE_S = 0.1
"""A call is not refused for want of room on the word of a table older than this."""


class TableSource(Protocol):
    """Where the table comes from: `shared.control.workers.Workers`."""

    async def watched_table(self) -> tuple[float, list[WorkerRow]]:
        """Returns for how long somebody has reaped without a gap, in s, and the rows; raises ControlUnavailable."""


class Table:
    """The last known worker table."""

    def __init__(self, source: TableSource, clock: Callable[[], float]) -> None:
        """`clock` is any steady one, in seconds."""
        self.rows: Sequence[WorkerRow] = ()
        self.forgotten: Sequence[WorkerRow] = ()
        """Workers that Redis has forgotten, or not heard of, and that have had no time to change that: it was away."""
        self.taken: Counter[WorkerId] = Counter()
        """Slots leased, less those given back, since `rows` were read; before they were read, only those given back."""
        self.in_touch = False
        """Whether Redis answered when last asked for anything."""
        self._gone: dict[WorkerId, WorkerRow] = {}
        self._source = source
        self._clock = clock
        self._reading = asyncio.Lock()
        self._asked_at = self._read_at = float("-inf")

    async def refresh(self, max_age_s: float = 0.0) -> None:
        """Reads the table unless it is younger than `max_age_s`, once for all who ask while it is being read.

        Raises ControlUnavailable, and then the last known table stands.
        """
        called_at = self._clock()
        async with self._reading:
            if self.age_s < max_age_s or self._asked_at > called_at:
                return
            asked_at, taken = self._clock(), self.taken.copy()
            try:
                watched_for_s, rows = await self._source.watched_table()
            except ControlUnavailable:
                self.in_touch = False
                raise
            unwatched = watched_for_s < HEARTBEAT_TTL_S
            if unwatched:  # who is silent may not have had the time to say anything
                rows = [row for row in rows if row.alive]
            known = {row.record.worker_id for row in rows}
            served = {address_of(row) for row in rows}
            missing = [row for row in (*self.rows, *self.forgotten) if row.record.worker_id not in known]
            self.forgotten = [row for row in missing if unwatched and address_of(row) not in served]
            # Dead and reaped, perhaps before they were seen to be silent, or replaced; or they left, without a call.
            self._gone.update((row.record.worker_id, row) for row in missing if row not in self.forgotten)
            self.rows = [row for row in rows if _has_address(row)]
            # Given back since the question: it may be taken in the answer. Taken since: Redis will not lease it twice.
            changed = {worker_id: count - taken[worker_id] for worker_id, count in self.taken.items()}
            self.taken = Counter({worker_id: count for worker_id, count in changed.items() if count < 0})
            self.in_touch = True
            self._asked_at, self._read_at = asked_at, self._clock()

    @property
    def age_s(self) -> float:
        """Seconds since the table was read."""
        return self._clock() - self._read_at

    def addresses(self) -> Iterator[Address]:
        """Yields where the workers listen."""
        return map(address_of, (*self.rows, *self.forgotten))

    def take_silent(self) -> list[WorkerRow]:
        """Returns the workers that are dead or hang; those that are out of the table only once."""
        gone, self._gone = self._gone, {}
        return [*gone.values(), *(row for row in self.rows if not row.alive)]

    def is_served(self, address: Address) -> bool:
        """Whether a living worker listens there."""
        return any(row.alive and address_of(row) == address for row in (*self.rows, *self.forgotten))

    def find(self, worker_id: WorkerId) -> WorkerRow | None:
        """Returns a worker, None when the table does not have it."""
        rows = (*self.rows, *self.forgotten)
        return next((row for row in rows if row.record.worker_id == worker_id), None)

    def living(self) -> int:
        """Returns how many workers are alive, whether they take calls or not."""
        return sum(row.alive for row in (*self.rows, *self.forgotten))

    def ready(self) -> int:
        """Returns how many workers take calls."""
        return sum(map(takes_calls, (*self.rows, *self.forgotten)))

    def room(self, resources: Collection[str] = ()) -> int:
        """Returns how many slots are free on workers that reach one of these resources, if any are named."""
        return sum(
            max(0, row.record.capacity - row.leased - self.taken[row.record.worker_id])
            for row in (*self.rows, *self.forgotten)
            if takes_calls(row) and reaches(row, resources)
        )


def address_of(row: WorkerRow) -> Address:
    """Returns where a worker listens."""
    return Address("udp", row.record.sip_host, row.record.sip_port)


def _has_address(row: WorkerRow) -> bool:
    """Whether the worker gave an address; sending to a name would block everything while it is resolved."""
    try:
        ip_address(row.record.sip_host)
    except ValueError:
        return False
    return True
