"""The reaper: frees what dead workers and lost offers left behind, and writes the records their calls did not get.

It also removes call records that are too old, so that this happens in a pool without calls too.

It does not decide who is dead from what it read: each candidate is checked again by the script that frees it, so that a
heartbeat or a claim in between wins, and any number of dispatchers may reap at once.
"""

from collections.abc import Iterable

from redis.asyncio import Redis

from shared.control import keys
from shared.control.connection import answering, ask
from shared.control.scripts import Argument, Script, held_lease
from shared.ending import CallEnd
from shared.ids import CallId, WorkerId
from shared.messages import CallRecord, Lease, MessageError


class Reaper:
    """Reaps the pool behind `redis`; every method raises ControlUnavailable when Redis does not answer."""

    def __init__(self, redis: Redis, record_retention_s: float = keys.RECORD_RETENTION_S) -> None:
        self._redis = redis
        self._record_retention_ms = keys.ms(record_retention_s)
        self._candidates = Script(redis, "reap_list")
        self._free_lease = Script(redis, "reap_lease")
        self._free_worker = Script(redis, "reap_worker")

    async def reap(self) -> list[Lease]:
        """Returns the leases that this call freed; to be called every REAP_INTERVAL_S.

        Frees workers silent for HEARTBEAT_TTL_S with all their leases, offers not claimed within OFFER_TTL_S and claims
        not renewed for LEASE_TTL_S. A claimed lease leaves a record `worker_lost`, and an orphan when its caller is
        owed a BYE; a mere offer leaves neither. Only silence that somebody watched counts: after a gap of WATCH_TTL_S
        between reaps (Redis was away) all time limits start anew.
        A lease whose format is newer than this process can read is left to those that can.
        """
        now_ms, silent, lapsed = await self.candidates()
        freed: list[Lease] = []
        for worker_id in silent:
            freed += await self.free_worker(worker_id, now_ms)
        for lease in await self._leases_of(lapsed):
            if await self.free_lease(lease, now_ms):
                freed.append(lease)
        return freed

    async def candidates(self) -> tuple[int, list[WorkerId], list[CallId]]:
        """Returns the time in ms, the silent workers and the calls with a lapsed lease; keeps the watch alive.

        Removes the records that are older than the retention time in the same step.
        """
        answer: tuple[int, list[bytes], list[bytes]] = await self._candidates(
            [keys.watched(), keys.workers(), keys.lapses(), keys.records()],
            [self._record_retention_ms],
        )
        now_ms, silent, lapsed = answer
        return now_ms, [WorkerId(i.decode()) for i in silent], [CallId(i.decode()) for i in lapsed]

    async def free_lease(self, lease: Lease, now_ms: int) -> bool:
        """Frees a lease that still has lapsed; False when it has not, or is gone."""
        freed: int = await self._free_lease(
            [*keys.of_worker(lease.worker_id), *keys.of_lease(lease.call_id, lease.lease_id),
             *keys.of_orphans(), keys.watched()],
            [lease.lease_id, lease.call_id, lease.worker_id, _lost(lease, now_ms)],
        )  # fmt: skip
        return freed == 1

    async def free_worker(self, worker_id: WorkerId, now_ms: int) -> list[Lease]:
        """Frees all leases of a worker that still is silent, and its registration; returns them."""
        found = await self._leases_of(await self._calls_of(worker_id))
        # Between the two questions a call may have moved to another worker, whose lease is not to be freed.
        leases = [lease for lease in found if lease.worker_id == worker_id]
        script_keys = [
            *keys.of_worker(worker_id), keys.workers(), keys.states(), keys.healths(),
            *keys.of_orphans(), keys.watched(),
        ]  # fmt: skip
        args: list[Argument] = [worker_id]
        for lease in leases:
            script_keys += keys.of_lease(lease.call_id, lease.lease_id)
            args += [lease.lease_id, lease.call_id, _lost(lease, now_ms)]
        answer: list[bytes] = await self._free_worker(script_keys, args)
        freed = {lease_id.decode() for lease_id in answer}
        return [lease for lease in leases if lease.lease_id in freed]

    async def _calls_of(self, worker_id: WorkerId) -> list[CallId]:
        call_ids: set[bytes] = await ask(self._redis, "SMEMBERS", keys.slots(worker_id))
        return [CallId(call_id.decode()) for call_id in call_ids]

    async def _leases_of(self, call_ids: Iterable[CallId]) -> list[Lease]:
        async with answering(self._redis, "reap_read"), self._redis.pipeline(transaction=False) as pipe:
            for call_id in call_ids:
                pipe.hmget(keys.call(call_id), ["lease", "offered_at_ms", "resource"])
            found: list[tuple[bytes, bytes, bytes | None]] = await pipe.execute()
        leases = (_lease(*fields) for fields in found if fields[0])
        return [lease for lease in leases if lease]


def _lease(packed: bytes, offered_at_ms: bytes, resource: bytes | None) -> Lease | None:
    try:
        return held_lease(packed, offered_at_ms, resource)
    except MessageError:
        return None


def _lost(lease: Lease, now_ms: int) -> bytes:
    return CallRecord(
        call_id=lease.call_id,
        lease_id=lease.lease_id,
        worker_id=lease.worker_id,
        result=CallEnd.WORKER_LOST.result,
        reason=CallEnd.WORKER_LOST,
        invite_at_ms=lease.invite_at_ms,
        answered_at_ms=lease.answered_at_ms,
        ended_at_ms=now_ms,
        agent=lease.agent,
    ).pack()
