"""Offers: a worker chosen and its slot leased, in 100 ms at most, with or without Redis.

It does not know SIP; a call asks through `sip.actions.Place` and gets an Offer or nothing.
"""

import asyncio
from collections.abc import Collection
from dataclasses import replace
from typing import Protocol

from dispatcher.placement import choose
from dispatcher.sip.actions import Offer, Place
from dispatcher.table import REFUSAL_AGE_S, Table
from shared import token
from shared.choices import PlacementPolicy
from shared.clock import now_ms
from shared.errors import ControlUnavailable, LeaseLost, NoCapacity
from shared.ids import CallId, LeaseId, WorkerId, new_lease_id
from shared.messages import CallRecord, Lease

CONTROL_LIMIT_S = 0.1
"""Longest an INVITE waits for Redis, all questions together."""

STALE_S = 5.0
"""Beyond this age the table's counts say little: it does not see calls end. Workers then refuse for themselves."""

_CLAIMED_TRIES = 3
_CLAIMED_WAIT_S = 0.02
"""A worker that claimed a lease and then answered 503 gives it back at about the same time: worth a moment."""


class LeaseStore(Protocol):
    """Where leases are taken: `shared.control.leases.Leases`."""

    async def acquire(
        self, call_id: CallId, worker_id: WorkerId, *, invite_at_ms: int, replacing: LeaseId | None = None
    ) -> Lease:
        """Returns a lease; raises NoCapacity, LeaseLost, ControlUnavailable."""

    async def release(self, lease: Lease, record: CallRecord | None) -> bool:
        """Gives back an offer; raises ControlUnavailable."""


class Offers:
    """Turns a Place into an Offer."""

    def __init__(self, table: Table, leases: LeaseStore, *, policy: PlacementPolicy, secret: str) -> None:
        self._table = table
        self._leases = leases
        self._policy = policy
        self._secret = secret

    async def make(self, place: Place, invite_at_ms: int) -> Offer | None:
        """Returns an offer, None when no worker has room.

        When Redis does not answer in time, the lease is provisional: made here from the last known table, signed all
        the same, and entered in Redis by the worker later.
        """
        lease = await self._lease_in_time(place, invite_at_ms)
        address = self._table.address_of(lease.worker_id) if lease else None
        if lease is None or address is None:
            return None
        self._table.taken[lease.worker_id] += 1
        lease = replace(lease, peer=place.source)  # here, because the lease may be another replica's
        return Offer(lease, address, token.sign(lease, self._secret))

    async def withdraw(self, lease: Lease) -> None:
        """Gives a lease back unless its worker has claimed it. Without Redis the offer lapses by itself."""
        try:
            given_back = lease.provisional or await self._leases.release(lease, None)
        except ControlUnavailable:
            return
        if given_back:
            self._table.taken[lease.worker_id] -= 1

    async def _lease_in_time(self, place: Place, invite_at_ms: int) -> Lease | None:
        if self._table.in_touch:
            try:
                async with asyncio.timeout(CONTROL_LIMIT_S):
                    return await self._lease(place, invite_at_ms)
            except ControlUnavailable:
                self._table.in_touch = False
            except TimeoutError:
                pass  # this loop or Redis was slow once; whether Redis is away, the next reading of the table tells
        return self._provisional(place, invite_at_ms)

    async def _lease(self, place: Place, invite_at_ms: int) -> Lease | None:
        lease = await self._lease_from_table(place, invite_at_ms)
        if lease is None and await self._table.refresh(REFUSAL_AGE_S):
            lease = await self._lease_from_table(place, invite_at_ms)
        return lease

    async def _lease_from_table(self, place: Place, invite_at_ms: int) -> Lease | None:
        exclude = set(place.exclude)
        while worker_id := self._choose(place, exclude):
            try:
                return await self._acquire(place, worker_id, invite_at_ms)
            except NoCapacity:
                exclude.add(worker_id)
        return None

    async def _acquire(self, place: Place, worker_id: WorkerId, invite_at_ms: int) -> Lease:
        replacing = place.replacing.lease_id if place.replacing and not place.replacing.provisional else None
        for _ in range(_CLAIMED_TRIES):
            try:
                # Shielded: out of time, the command goes on alone, since to cancel it would cost its connection.
                # The lease it may still get lapses, or is found by the next try of the call.
                lease = await asyncio.shield(
                    self._leases.acquire(place.call_id, worker_id, invite_at_ms=invite_at_ms, replacing=replacing)
                )
            except LeaseLost:
                await asyncio.sleep(_CLAIMED_WAIT_S)
                continue
            if lease.worker_id not in place.exclude:
                return lease
            break
        raise NoCapacity("the call is still with a worker that failed it")

    def _provisional(self, place: Place, invite_at_ms: int) -> Lease | None:
        worker_id = self._choose(place, place.exclude)
        if worker_id is None and self._table.age_s > STALE_S:
            worker_id = self._choose(place, place.exclude, ignore_load=True)
        if worker_id is None:
            return None
        return Lease(
            lease_id=new_lease_id(),
            call_id=place.call_id,
            worker_id=worker_id,
            offered_at_ms=now_ms(),
            invite_at_ms=invite_at_ms,
            provisional=True,
        )

    def _choose(self, place: Place, exclude: Collection[WorkerId], *, ignore_load: bool = False) -> WorkerId | None:
        rows = [replace(row, leased=0) for row in self._table.rows] if ignore_load else self._table.rows
        taken = {} if ignore_load else self._table.taken
        return choose(rows, policy=self._policy, exclude=exclude, taken=taken, salt=place.call_id)
