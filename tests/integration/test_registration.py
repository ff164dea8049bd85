"""A worker's registration with a real Redis: what the pool is told, when, and what the worker hears back."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import pytest
from redis.asyncio import Redis

from shared.clock import now_ms
from shared.control import keys
from shared.control.connection import connect
from shared.control.leases import Leases
from shared.control.workers import WorkerRow, Workers
from shared.ids import CallId, LeaseId, WorkerId
from shared.messages import CallRecord, Lease, WorkerHealth, WorkerRecord
from shared.states import WorkerState
from shared.token import sign
from worker.admission import Admission
from worker.registration import Registration

SECRET = "registration-tests-only"
WORKER = WorkerId("w1")
PATIENCE_S = 20.0


@dataclass
class Told:
    """A worker as its registration sees it."""

    state: WorkerState = WorkerState.READY
    cut_off: list[str] = field(default_factory=list)
    taken: int = 0
    pulses: asyncio.Queue[None] = field(default_factory=asyncio.Queue)
    losses: asyncio.Queue[Sequence[LeaseId]] = field(default_factory=asyncio.Queue)
    stuck: bool = False

    def health(self) -> WorkerHealth:
        self.taken += 1
        return WorkerHealth(late=True, late_ticks=self.taken)

    async def pulse(self) -> None:
        self.pulses.put_nowait(None)
        if self.stuck:
            raise TimeoutError

    def lost(self, lease_ids: Sequence[LeaseId]) -> None:
        self.losses.put_nowait(lease_ids)


class Stage:
    """A registration, and the pool's view of it."""

    def __init__(self, redis: Redis) -> None:
        self.redis, self.told = redis, Told()
        self.workers, self.leases = Workers(redis), Leases(redis)
        self.admission = Admission(WORKER, 2, SECRET, self.leases)
        record = WorkerRecord(
            worker_id=WORKER, pod="pod", pid=1, sip_host="127.0.0.1", sip_port=1, capacity=2,
            state=WorkerState.STARTING, started_at_ms=now_ms(), labels={"region": "west"},
        )  # fmt: skip
        self.registration = Registration(self.told, record, self.workers, self.leases, self.admission)

    async def row(self) -> WorkerRow:
        (row,) = await self.workers.table()
        return row

    async def beats(self, count: int = 1) -> None:
        """Returns once so many further pulses have been followed by the next, so that they have reached Redis."""
        for _ in range(count + 1):
            await self.told.pulses.get()

    async def admit(self) -> Lease:
        lease = await self.leases.acquire(CallId("c1"), WORKER, invite_at_ms=now_ms())
        return await self.admission.admit(lease.call_id, sign(lease, SECRET))


@pytest.fixture
async def stage(redis_url: str) -> AsyncIterator[Stage]:
    async with connect(redis_url) as redis:
        stage = Stage(redis)
        async with asyncio.timeout(PATIENCE_S):
            await stage.registration.enter()
            beating = asyncio.create_task(stage.registration.beat())
            yield stage
        beating.cancel()
        with pytest.raises(asyncio.CancelledError):
            await beating


async def test_the_table_has_state_labels_and_health(stage: Stage) -> None:
    stage.told.cut_off = ["east"]
    await stage.beats()
    row = await stage.row()
    assert (row.record.state, row.record.labels) == (WorkerState.READY, {"region": "west"})
    assert (row.health.late, row.health.cut_off) == (True, ["east"])


async def test_news_is_told_at_once_and_is_no_period_of_its_own(stage: Stage) -> None:
    await stage.told.pulses.get()
    began = asyncio.get_running_loop().time()
    stage.told.state, stage.told.cut_off = WorkerState.DRAINING, ["east"]
    stage.registration.announce()
    await stage.told.pulses.get()
    assert asyncio.get_running_loop().time() - began < keys.HEARTBEAT_INTERVAL_S / 2
    assert stage.told.taken == 1
    await stage.told.pulses.get()
    row = await stage.row()
    assert (row.record.state, row.health.cut_off) == (WorkerState.DRAINING, ["east"])


async def test_a_worker_whose_sip_stack_is_stuck_is_not_alive(stage: Stage) -> None:
    await stage.beats()
    before = await stage.redis.zscore(keys.workers(), WORKER)
    stage.told.stuck = True
    await stage.beats(2)
    assert await stage.redis.zscore(keys.workers(), WORKER) == before


async def test_a_worker_that_redis_has_forgotten_registers_with_its_calls(stage: Stage) -> None:
    await stage.admit()
    await stage.redis.flushdb()
    await stage.beats(2)
    assert (await stage.row()).leased == 1


async def test_a_call_whose_lease_is_over_is_heard_of_when_the_worker_comes_back(stage: Stage) -> None:
    lease = await stage.admit()
    record = CallRecord(
        call_id=lease.call_id, lease_id=lease.lease_id, worker_id=WORKER, result="lost", reason="worker_lost",
        invite_at_ms=1, ended_at_ms=2,
    )  # fmt: skip
    assert await stage.leases.release(lease, record)
    await stage.workers.unregister(WORKER)
    assert list(await stage.told.losses.get()) == [lease.lease_id]


async def test_a_lost_lease_is_heard_of_with_the_next_renewal(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "LEASE_RENEW_INTERVAL_S", 0.05)
    lease = await stage.admit()
    renewing = asyncio.create_task(stage.registration.renew())
    record = CallRecord(
        call_id=lease.call_id, lease_id=lease.lease_id, worker_id=WORKER, result="lost", reason="worker_lost",
        invite_at_ms=1, ended_at_ms=2,
    )  # fmt: skip
    assert await stage.leases.release(lease, record)
    assert list(await stage.told.losses.get()) == [lease.lease_id]
    renewing.cancel()
    await asyncio.gather(renewing, return_exceptions=True)


async def test_a_worker_that_leaves_is_not_in_the_table(stage: Stage) -> None:
    await stage.registration.leave()
    assert await stage.workers.table() == []
