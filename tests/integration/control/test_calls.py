"""The calls that hold a lease now."""

from dataclasses import replace

import pytest
from redis.asyncio import Redis

from shared.control import calls as module
from shared.control import keys
from shared.control.calls import CallRow, RunningCalls
from shared.control.connection import ask
from shared.control.leases import Leases, Wish
from shared.control.workers import Workers
from shared.ids import CallId, WorkerId
from shared.messages import Lease, ResourceQuota
from tests.integration.control.pool import DIALOG, INVITE_AT_MS, call_record, worker_record

ONE = WorkerId("one")


@pytest.fixture
def running(redis: Redis) -> RunningCalls:
    """The running calls."""
    return RunningCalls(redis)


@pytest.fixture(autouse=True)
async def one_worker(workers: Workers) -> None:
    """A ready worker with many slots."""
    await workers.register(worker_record("one", capacity=50), [])


async def offered(leases: Leases, call_id: str, after_ms: int = 0) -> Lease:
    """Returns the lease of a call that began some time after the others."""
    wish = Wish(agent="reception", resources=[ResourceQuota(name="west")], peer="192.0.2.9")
    return await leases.acquire(CallId(call_id), ONE, invite_at_ms=INVITE_AT_MS + after_ms, wish=wish)


async def test_there_are_none_at_first(running: RunningCalls) -> None:
    assert await running.table() == []
    assert await running.find(CallId("a")) is None


async def test_call_is_there_from_offer_to_release(leases: Leases, running: RunningCalls) -> None:
    lease = await offered(leases, "a")
    assert await running.table() == [CallRow(lease, claimed=False)]
    await leases.claim(lease)
    assert await running.find(lease.call_id) == CallRow(lease, claimed=True)
    known = replace(lease, answered_at_ms=INVITE_AT_MS + 5, dialog=DIALOG)
    await leases.renew(ONE, [known])
    assert await running.table() == [CallRow(known, claimed=True)]
    assert await leases.release(known, call_record(known))
    assert await running.table() == []


async def test_calls_come_in_the_order_in_which_they_began_however_many_pages_they_are(
    leases: Leases, running: RunningCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 3)
    began = {f"call{number}": (number * 7) % 10 for number in range(10)}
    for call_id, after_ms in began.items():
        await offered(leases, call_id, after_ms)
    assert [row.lease.call_id for row in await running.table()] == sorted(began, key=lambda name: began[name])


async def test_what_cannot_be_read_is_left_out_and_an_older_release_had_no_resource(
    redis: Redis, leases: Leases, running: RunningCalls
) -> None:
    for call_id in "abc":
        await offered(leases, call_id)
    await ask(redis, "HSET", keys.call(CallId("a")), "lease", b"\x81\xa1v\x7f")  # {"v": 127}
    await ask(redis, "HDEL", keys.call(CallId("b")), "resource")
    await ask(redis, "DEL", keys.call(CallId("c")))
    assert [(row.lease.call_id, row.lease.resource) for row in await running.table()] == [("b", "")]
