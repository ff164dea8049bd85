"""Offers: a worker chosen and its slot leased, in 100 ms at most, with or without Redis.

It does not know SIP and waits for nothing but Redis; who has patience is `placing.py`.
"""

import asyncio
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from dispatcher.placement import choose
from dispatcher.sip.actions import Offer, Place
from dispatcher.table import REFUSAL_AGE_S, Table, address_of
from shared import token
from shared.agents.demands import Demands
from shared.choices import PlacementPolicy
from shared.clock import now_ms
from shared.control.leases import Wish
from shared.control.quotas import ResourceQuota
from shared.control.rows import WorkerRow
from shared.errors import ControlUnavailable, LeaseLost, NoCapacity, WorkerGone
from shared.ids import CallId, LeaseId, WorkerId, new_lease_id
from shared.messages import CallRecord, Lease

CONTROL_LIMIT_S = 0.1
"""Longest an INVITE waits for Redis, all questions together."""

STALE_S = 5.0
"""Beyond this age the table's counts say little: it does not see calls end. Workers then refuse for themselves."""


class OfferedElsewhere(Exception):
    """Another replica is offering this call at the moment; `lease` is its offer."""

    def __init__(self, lease: Lease) -> None:
        super().__init__("offered elsewhere")
        self.lease = lease


class LeaseStore(Protocol):
    """Where leases are taken: `shared.control.leases.Leases`."""

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
        """Returns a lease; raises NoCapacity, NoQuota, CallTaken, LeaseLost, ControlUnavailable."""

    async def release(self, lease: Lease, record: CallRecord | None) -> bool:
        """Gives back an offer; raises ControlUnavailable."""

    async def leave_line(self, call_id: CallId, resources: tuple[ResourceQuota, ...]) -> None:
        """Takes a call out of the line for these resources; raises ControlUnavailable."""


@dataclass(frozen=True, slots=True)
class _Desk:
    """What every attempt works with."""

    table: Table
    leases: LeaseStore
    policy: PlacementPolicy
    may_wait: bool


class Offers:
    """Turns a Place, and what its call demands, into an Offer."""

    def __init__(
        self, table: Table, leases: LeaseStore, *, policy: PlacementPolicy, secret: str, may_wait: bool
    ) -> None:
        """`may_wait`: calls get in line when no Voice Live resource has anything left."""
        self._desk = _Desk(table, leases, policy, may_wait)
        self._table = table
        self._leases = leases
        self._secret = secret

    async def make(self, place: Place, demands: Demands, invite_at_ms: int) -> Offer:
        """Returns an offer.

        Raises NoCapacity when no worker has room, NoQuota when no resource has anything left, CallTaken when a worker
        has the call already, OfferedElsewhere while another replica offers it, and LeaseLost while the worker of the
        offer to be replaced still holds it.

        When Redis does not answer in time, the lease is provisional: made here from the last known table, signed all
        the same, and entered in Redis by the worker later.
        """
        lease = await _Attempt(self._desk, place, demands, invite_at_ms).lease_in_time()
        return self.use(place, lease)

    def use(self, place: Place, lease: Lease) -> Offer:
        """Returns the offer that a lease makes; raises NoCapacity when nobody knows its worker (any more)."""
        row = self._table.find(lease.worker_id)
        if row is None:
            raise NoCapacity(f"{lease.worker_id}: unknown")
        self._table.taken[lease.worker_id] += 1
        lease = replace(lease, peer=place.source)
        return Offer(lease, address_of(row), token.sign(lease, self._secret))

    async def withdraw(self, lease: Lease) -> None:
        """Gives a lease back unless its worker has claimed it. Without Redis the offer lapses by itself."""
        try:
            given_back = lease.provisional or await self._leases.release(lease, None)
        except ControlUnavailable:
            return
        if given_back:
            self._table.taken[lease.worker_id] -= 1

    async def leave_line(self, place: Place, demands: Demands) -> None:
        """Takes a call out of the line for a resource; without Redis it is taken out when it is not asked for."""
        try:
            await self._leases.leave_line(place.call_id, demands.resources)
        except ControlUnavailable:
            return


class _Attempt:
    """One try to get a lease for a Place."""

    def __init__(self, desk: _Desk, place: Place, demands: Demands, invite_at_ms: int) -> None:
        self._table = desk.table
        self._leases = desk.leases
        self._policy = desk.policy
        self._place = place
        self._demands = demands
        self._invite_at_ms = invite_at_ms
        self._traceparent = str(place.trace.context)
        self._wish = Wish(
            agent=demands.agent,
            priority=demands.priority,
            may_wait=desk.may_wait,
            peer=place.source,
            traceparent=self._traceparent,
        )
        # Where one that was tried has answered: its replacement perhaps, which takes another INVITE for a copy (482).
        answered = () if place.silent else place.exclude
        self._tried_at = {address_of(row) for row in map(desk.table.find, answered) if row}
        self._lease_id = new_lease_id()
        self._asked: WorkerId | None = None
        """The worker for whose slot Redis was last asked, and has not answered."""

    async def lease_in_time(self) -> Lease:
        """Returns a lease within CONTROL_LIMIT_S; raises what `Offers.make` says."""
        if self._table.in_touch:
            try:
                async with asyncio.timeout(CONTROL_LIMIT_S):
                    return await self._lease()
            except ControlUnavailable:
                self._table.in_touch = False
            except TimeoutError:
                pass  # this loop or Redis was slow once; whether Redis is away, the next reading of the table tells
        return self._provisional((*self._table.rows, *self._table.forgotten))

    async def _lease(self) -> Lease:
        seen = self._table.rows
        try:
            return await self._from_table()
        except WorkerGone:  # however young, the table is of a time before Redis came back empty, or the worker died
            await self._table.refresh()
        except NoCapacity:
            await self._table.refresh(REFUSAL_AGE_S)
        if self._table.rows is not seen:  # it has been read since, for this call or for another one
            with suppress(NoCapacity):
                return await self._from_table()
        if not self._table.forgotten:
            raise NoCapacity("no worker has room")
        return self._provisional(self._table.forgotten)

    async def _from_table(self) -> Lease:
        exclude = set(self._place.exclude)
        refusal: type[NoCapacity] = NoCapacity
        while row := self._choose(self._table.rows, exclude):
            try:
                return await self._acquire(row)
            except NoCapacity as error:
                exclude.add(row.record.worker_id)
                refusal = WorkerGone if isinstance(error, WorkerGone) else refusal
        raise refusal("no worker has room")

    async def _acquire(self, row: WorkerRow) -> Lease:
        replacing = self._place.replacing
        self._asked = row.record.worker_id
        # Shielded: out of time, the command goes on alone, since to cancel it would cost its connection. The lease it
        # may still get is the one that is then offered all the same: it has the same id.
        asking = asyncio.ensure_future(
            self._leases.acquire(
                self._place.call_id,
                row.record.worker_id,
                invite_at_ms=self._invite_at_ms,
                wish=replace(self._wish, resources=self._reachable(row)),
                lease_id=self._lease_id,
                replacing=replacing.lease_id if replacing and not replacing.provisional else None,
            )
        )
        asking.add_done_callback(_heard)
        lease = await asyncio.shield(asking)
        self._asked = None
        if lease.worker_id in self._place.exclude:
            raise LeaseLost("the call is still with a worker that failed it")
        if lease.lease_id != self._lease_id:
            raise OfferedElsewhere(lease)
        return lease

    def _provisional(self, rows: Collection[WorkerRow]) -> Lease:
        row = self._table.find(self._asked) if self._asked else None
        row = row or self._choose(rows, self._place.exclude)
        if row is None and self._table.age_s > STALE_S:
            row = self._choose(rows, self._place.exclude, ignore_load=True)
        if row is None:
            raise NoCapacity("no worker had room when the table was last read")
        return Lease(
            lease_id=self._lease_id,
            call_id=self._place.call_id,
            worker_id=row.record.worker_id,
            offered_at_ms=now_ms(),
            invite_at_ms=self._invite_at_ms,
            provisional=True,
            agent=self._demands.agent,
            resource=self._reachable(row)[0].name,
            traceparent=self._traceparent,
        )

    def _choose(
        self, rows: Collection[WorkerRow], exclude: Collection[WorkerId], *, ignore_load: bool = False
    ) -> WorkerRow | None:
        rows = [row for row in rows if address_of(row) not in self._tried_at]
        return choose(
            [replace(row, leased=0) for row in rows] if ignore_load else rows,
            policy=self._policy,
            exclude=exclude,
            taken={} if ignore_load else self._table.taken,
            labels=self._demands.labels,
            resources=[resource.name for resource in self._demands.resources],
            salt=self._place.call_id,
        )

    def _reachable(self, row: WorkerRow) -> tuple[ResourceQuota, ...]:
        """The resources that this worker reaches, as far as it says; one at least, since `choose` has seen to that."""
        resources = self._demands.resources
        return tuple(each for each in resources if each.name not in row.health.cut_off) or resources[:1]


def _heard(asking: asyncio.Future[Lease]) -> None:
    """Takes notice of an error that comes when nobody waits any more; until then it is raised to who does."""
    if not asking.cancelled():
        asking.exception()
