"""Admission with a real Redis: which calls a worker takes, and what it says of the leases it holds."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from shared.clock import now_ms
from shared.control.connection import connect
from shared.control.leases import Leases
from shared.control.workers import Workers
from shared.errors import LeaseLost, NoCapacity, TokenInvalid
from shared.ids import CallId, LeaseId, WorkerId
from shared.messages import Lease, WorkerRecord
from shared.states import WorkerState
from shared.token import sign
from worker.admission import Admission

SECRET = "admission-tests-only"
WORKER = WorkerId("w1")


@dataclass
class Side:
    """A registered worker with two slots, and a dispatcher's view of the leases."""

    admission: Admission
    leases: Leases

    async def offer(self, call: str) -> tuple[CallId, str]:
        lease = await self.leases.acquire(CallId(call), WORKER, invite_at_ms=now_ms())
        return lease.call_id, sign(lease, SECRET)


@pytest.fixture
async def side(redis_url: str) -> AsyncIterator[Side]:
    async with connect(redis_url) as redis:
        record = WorkerRecord(
            worker_id=WORKER,
            pod="pod",
            pid=1,
            sip_host="127.0.0.1",
            sip_port=1,
            capacity=2,
            state=WorkerState.READY,
            started_at_ms=now_ms(),
        )
        await Workers(redis).register(record)
        leases = Leases(redis)
        yield Side(Admission(WORKER, 2, SECRET, leases), leases)


async def test_an_offered_call_is_admitted_once(side: Side) -> None:
    call_id, token = await side.offer("c1")
    lease = await side.admission.admit(call_id, token)
    assert side.admission.held == [lease]
    with pytest.raises(NoCapacity):
        await side.admission.admit(call_id, token)


async def test_a_token_of_another_call_is_refused(side: Side) -> None:
    _, token = await side.offer("c1")
    with pytest.raises(TokenInvalid):
        await side.admission.admit(CallId("c2"), token)
    assert side.admission.held == []


async def test_a_lease_that_redis_does_not_know_is_refused_and_takes_no_slot(side: Side) -> None:
    stale = Lease(
        lease_id=LeaseId("l9"), call_id=CallId("c9"), worker_id=WORKER, offered_at_ms=now_ms(), invite_at_ms=now_ms()
    )
    with pytest.raises(LeaseLost):
        await side.admission.admit(stale.call_id, sign(stale, SECRET))
    assert side.admission.held == []


async def test_a_call_beyond_the_capacity_is_refused_even_with_a_valid_token(side: Side) -> None:
    for call in ("c1", "c2"):
        await side.admission.admit(*await side.offer(call))
    provisional = Lease(
        lease_id=LeaseId("l3"),
        call_id=CallId("c3"),
        worker_id=WORKER,
        offered_at_ms=now_ms(),
        invite_at_ms=now_ms(),
        provisional=True,
    )
    with pytest.raises(NoCapacity):
        await side.admission.admit(provisional.call_id, sign(provisional, SECRET))


async def test_a_drained_worker_admits_nothing(side: Side) -> None:
    offered = await side.offer("c1")
    side.admission.draining = True
    with pytest.raises(NoCapacity):
        await side.admission.admit(*offered)


async def test_a_claim_under_way_takes_a_slot_but_is_not_renewed(side: Side) -> None:
    offered = await side.offer("c1")
    admitting = asyncio.create_task(side.admission.admit(*offered))
    await asyncio.sleep(0)  # lets the task reach its claim
    assert side.admission.held == []
    with pytest.raises(NoCapacity):
        await side.admission.admit(*offered)
    lease = await admitting
    assert side.admission.held == [lease]


async def test_an_ended_call_gives_its_slot_back(side: Side) -> None:
    lease = await side.admission.admit(*await side.offer("c1"))
    side.admission.forget(lease)
    assert side.admission.held == []


async def test_without_redis_a_valid_token_is_enough(redis_url: str) -> None:
    async with connect("redis://127.0.0.1:9", timeout_s=0.5) as nowhere:
        admission = Admission(WORKER, 1, SECRET, Leases(nowhere))
        lease = Lease(
            lease_id=LeaseId("l1"),
            call_id=CallId("c1"),
            worker_id=WORKER,
            offered_at_ms=now_ms(),
            invite_at_ms=now_ms(),
            provisional=True,
        )
        assert await admission.admit(lease.call_id, sign(lease, SECRET)) == lease
        assert admission.held == [lease]


async def test_what_is_new_in_a_lease_is_renewed_with_it(side: Side) -> None:
    lease = await side.admission.admit(*await side.offer("c1"))
    answered = replace(lease, answered_at_ms=now_ms())
    side.admission.update(answered)
    assert side.admission.held == [answered]
    side.admission.forget(answered)
    side.admission.update(answered)
    assert side.admission.held == []
