"""Leases: the slots of workers, taken for a call, claimed, renewed and released once.

It does not choose the worker (`dispatcher/placement.py`), does not sign leases (`shared/token.py`), and frees nothing
that its owner left behind (`reaper.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from redis.asyncio import Redis

from shared.control import keys
from shared.control.connection import ask
from shared.control.quotas import ResourceQuota
from shared.control.reaper import Reaper
from shared.control.scripts import Argument, Script, held_lease, leases_to_keep
from shared.errors import CallTaken, LeaseLost, NoCapacity, NoQuota, WorkerGone
from shared.ids import CallId, LeaseId, WorkerId, new_lease_id
from shared.messages import CallRecord, Lease


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a call wants to have a lease of, beside a worker."""

    resources: Sequence[ResourceQuota] = (ResourceQuota(name=""),)
    """Voice Live resources one of which it needs, the preferred one first."""
    agent: str = ""
    priority: int = 5
    """0 to 9; 9 is served first when calls have to wait for a resource."""
    may_wait: bool = False
    """Whether it gets in line when no resource has anything left."""
    peer: str = ""
    """IP address that its INVITE came from."""
    traceparent: str = ""
    """The trace it belongs to."""


class Leases:
    """The leases of the pool behind `redis`. Every method raises ControlUnavailable when Redis does not answer.

    What was asked may have been done all the same, so each method but `claim` is safe to repeat: `acquire` answers with
    the lease the call has got, `release` and `reap` do everything once. A worker whose `claim` got no answer goes on
    with the call and renews: that claims an offer and enters a lease that Redis does not know. `record_retention_s` is
    for those who reap: call records older than that are removed.
    """

    def __init__(self, redis: Redis, *, record_retention_s: float = keys.RECORD_RETENTION_S) -> None:
        self._redis = redis
        self._reaper = Reaper(redis, record_retention_s)
        self._acquire = Script(redis, "lease_acquire")
        self._claim = Script(redis, "lease_claim")
        self._renew = Script(redis, "lease_renew")
        self._release = Script(redis, "lease_release")
        self._leave_line = Script(redis, "wait_leave")

    async def acquire(
        self,
        call_id: CallId,
        worker_id: WorkerId,
        *,
        invite_at_ms: int,
        wish: Wish = Wish(),
        lease_id: LeaseId | None = None,
        replacing: LeaseId | None = None,
    ) -> Lease:
        """Returns a new lease of one of the worker's slots and one of the resources' sessions.

        Or the offer that the call has already: another replica got the same INVITE. `replacing` names an offer that
        went nowhere (the worker answered 503 or nothing): it is released in the same step. `lease_id` is for who wants
        to use the lease without waiting for the answer.

        Raises NoCapacity when the worker is not ready or full (the offer to be replaced then stands), and WorkerGone
        when it is not registered, or silent;
        NoQuota when no resource has anything left, with the time after which to ask again if the call waits in line,
        where it stays for as long as it is asked for more often than every WAITING_TTL_S; CallTaken when a worker has
        claimed a lease for the call, or the call has ended for good (`keys.over`), and LeaseLost when a worker has
        claimed the lease to be replaced.
        """
        lease = Lease(
            lease_id=lease_id or new_lease_id(),
            call_id=call_id,
            worker_id=worker_id,
            offered_at_ms=0,
            invite_at_ms=invite_at_ms,
            agent=wish.agent,
            peer=wish.peer,
            traceparent=wish.traceparent,
        )
        previous_worker = (await self._worker_of(call_id) if replacing else None) or worker_id
        script_keys = [
            *keys.of_worker(worker_id), *keys.of_lease(call_id, replacing or lease.lease_id),
            keys.slots(previous_worker), keys.workers(), keys.states(), keys.budgets(),
            *keys.of_resources(resource.name for resource in wish.resources),
        ]  # fmt: skip
        args: list[Argument] = [
            lease.lease_id, call_id, worker_id, lease.pack(), replacing or "", previous_worker,
            wish.priority, int(wish.may_wait),
        ]  # fmt: skip
        for quota in wish.resources:
            args += [quota.name, quota.connections_per_minute, quota.sessions, quota.tokens_per_minute]
        match await self._acquire(script_keys, args):
            case [b"taken", offered_at_ms, resource]:
                return replace(lease, offered_at_ms=offered_at_ms, resource=resource.decode())
            case [b"held", packed, offered_at_ms, resource, state]:
                if state == b"claimed":
                    raise CallTaken(f"{call_id}: claimed")
                return held_lease(packed, offered_at_ms, resource)
            case [b"over"]:
                raise CallTaken(f"{call_id}: over")
            case [b"claimed"]:
                raise LeaseLost(f"{replacing}: claimed")
            case [b"wait", wait_ms]:
                raise NoQuota("in line", wait_s=wait_ms / 1000)
            case [b"no quota"]:
                raise NoQuota("no quota")
            case [(b"unknown" | b"silent") as why]:
                raise WorkerGone(f"{worker_id}: {why.decode()}")
            case refusal:
                raise NoCapacity(f"{worker_id}: {refusal[0].decode()}")

    async def find(self, call_id: CallId) -> Lease | None:
        """Returns the lease that a call has, offered or claimed."""
        packed, offered_at_ms, resource = await ask(
            self._redis, "HMGET", keys.call(call_id), "lease", "offered_at_ms", "resource"
        )
        if packed is None:
            return None
        return held_lease(packed, offered_at_ms, resource)

    async def leave_line(self, call_id: CallId, resources: Sequence[ResourceQuota]) -> None:
        """Takes a call that does not wait any longer out of the line for these resources."""
        await self._leave_line(keys.of_resources(resource.name for resource in resources), [call_id])

    async def claim(self, lease: Lease) -> None:
        """Makes an offer the worker's own; a provisional lease, made while Redis was away, is entered as claimed.

        From now on the call's record is the one still to come: that of a worker which had the call before, and did not
        answer it, is taken back.

        Raises LeaseLost when the offer is unknown, expired, released, claimed before or another worker's, when its call
        has ended for good, and when a provisional lease finds no room or its call leased elsewhere.
        """
        args: list[Argument] = [
            lease.lease_id, lease.call_id, lease.worker_id, lease.pack(), lease.offered_at_ms, int(lease.provisional),
        ]  # fmt: skip
        answer: bytes = await self._claim(_keys_of(lease), args)
        if answer != b"claimed":
            raise LeaseLost(f"{lease.lease_id}: {answer.decode()}")

    async def renew(self, worker_id: WorkerId, leases: Sequence[Lease]) -> list[LeaseId]:
        """Keeps the `leases` of calls the worker runs and enters again what Redis forgot; one round trip for all.

        Also writes down what is new in them: when a call has been answered, and its dialog.

        `leases` names no call whose claim is still under way: renewing claims it, and the claim would come too late.
        Returns the leases that are lost: released already (the worker was taken for dead, or its offer expired before
        Redis heard of the claim), or the call is leased elsewhere. A forgotten lease that finds no room, because an
        offer has taken its place, is not lost; the call goes on and a later renewal enters it.
        """
        script_keys, args = leases_to_keep(leases)
        lost: list[bytes] = await self._renew([*keys.of_worker(worker_id), *script_keys], [worker_id, *args])
        return [LeaseId(lease_id.decode()) for lease_id in lost]

    async def release(self, lease: Lease, record: CallRecord | None, *, orphan: bool = False) -> bool:
        """Ends the lease and writes the call's record in one step; True once per lease, whoever else tries.

        A lease that Redis forgot gets its record too. Without a record only an unclaimed offer is given back: a claimed
        lease is its worker's to end. With `orphan` a dispatcher says BYE to the caller, because the worker could not.
        False means that nothing was changed or written.
        """
        told: tuple[Argument, ...] = ("", "", "")
        if record:
            lease = replace(lease, answered_at_ms=record.answered_at_ms or lease.answered_at_ms)
            told = (record.agent, record.result, record.reason)
        args: list[Argument] = [
            lease.lease_id, lease.call_id, lease.worker_id, record.pack() if record else "",
            lease.pack(), int(orphan), *told,
        ]  # fmt: skip
        ended: int = await self._release([*_keys_of(lease), *keys.of_orphans()], args)
        return ended == 1

    async def reap(self) -> list[Lease]:
        """Frees what dead workers and lost offers left behind; see `Reaper.reap`."""
        return await self._reaper.reap()

    async def _worker_of(self, call_id: CallId) -> WorkerId | None:
        worker_id: bytes | None = await ask(self._redis, "HGET", keys.call(call_id), "worker_id")
        return WorkerId(worker_id.decode()) if worker_id else None


def _keys_of(lease: Lease) -> list[str]:
    return [*keys.of_worker(lease.worker_id), *keys.of_lease(lease.call_id, lease.lease_id)]
