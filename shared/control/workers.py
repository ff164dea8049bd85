"""The worker table: who is there, alive, in which state and with how many slots taken.

It decides nothing: placement reads the table, `leases.py` takes the slots.
"""

from collections.abc import Sequence
from dataclasses import replace

from redis.asyncio import Redis

from shared.control import keys
from shared.control.rows import WorkerRow
from shared.control.scripts import Script, leases_to_keep
from shared.ids import LeaseId, WorkerId
from shared.messages import Lease, MessageError, WorkerHealth, WorkerRecord
from shared.states import WorkerState

__all__ = ["WorkerRow", "Workers"]


class Workers:
    """The worker table of the pool behind `redis`. Every method raises ControlUnavailable without an answer in time."""

    def __init__(self, redis: Redis) -> None:
        self._register = Script(redis, "worker_register")
        self._heartbeat = Script(redis, "worker_heartbeat")
        self._unregister = Script(redis, "worker_unregister")
        self._table = Script(redis, "worker_table")

    async def register(self, record: WorkerRecord, leases: Sequence[Lease] = ()) -> list[LeaseId]:
        """Enters the worker, alive as of now, together with the `leases` of the calls it runs.

        Called at start, and again whenever `heartbeat` answers False: Redis came back empty, or took the worker for
        dead. Returns the leases that are lost, as `Leases.renew` does.
        """
        worker_id = record.worker_id
        script_keys, args = leases_to_keep(leases)
        lost: list[bytes] = await self._register(
            [*keys.of_worker(worker_id), keys.workers(), keys.states(), *script_keys],
            [worker_id, record.pack(), record.state, *args],
        )
        return [LeaseId(lease_id.decode()) for lease_id in lost]

    async def heartbeat(self, worker_id: WorkerId, state: WorkerState, health: WorkerHealth | None = None) -> bool:
        """Says that the worker is alive, in which `state` and how it is doing.

        False when it is not registered and has to register again.
        """
        script_keys = [keys.registrations(), keys.workers(), keys.states(), keys.healths(), keys.events()]
        known: int = await self._heartbeat(script_keys, [worker_id, state, (health or WorkerHealth()).pack()])
        return known == 1

    async def unregister(self, worker_id: WorkerId) -> None:
        """Takes the worker out of the table; leases it still holds stay until they are released or lapse."""
        await self._unregister(
            [keys.registrations(), keys.workers(), keys.states(), keys.healths(), keys.events()], [worker_id]
        )

    async def table(self) -> list[WorkerRow]:
        """Returns all registered workers in the order of their ids, the silent ones too, as of one moment.

        A worker whose registration has a newer format than this process can read is left out.
        """
        return (await self.watched_table())[1]

    async def watched_table(self) -> tuple[float, list[WorkerRow]]:
        """Returns what `table` does, and how long, in s, somebody has reaped without a gap.

        When that is less than HEARTBEAT_TTL_S, Redis may have come back empty, and a worker that is missing may be
        about to register again.
        """
        watched_for_ms: int
        answer: list[tuple[bytes, bytes, int, int, bytes | None]]
        watched_for_ms, answer = await self._table(
            [
                keys.registrations(),
                keys.loads(),
                keys.workers(),
                keys.states(),
                keys.healths(),
                keys.watched(),
            ],
            [],
        )
        rows = (_row(*entry) for entry in answer)
        return watched_for_ms / 1000, [row for row in rows if row]


def _row(packed: bytes, state: bytes, leased: int, heartbeat_age_ms: int, health: bytes | None) -> WorkerRow | None:
    try:
        record = replace(WorkerRecord.unpack(packed), state=WorkerState(state.decode()))
        return WorkerRow(record, leased, heartbeat_age_ms, WorkerHealth.unpack(health) if health else WorkerHealth())
    except MessageError:
        return None
