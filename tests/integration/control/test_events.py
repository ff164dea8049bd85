"""The stream of events: what is told, in which order, and how much is kept."""

from dataclasses import replace

import pytest
from redis.asyncio import Redis

from shared.control import keys
from shared.control.connection import ask
from shared.control.events import START, EventName, Events
from shared.control.leases import Leases, Wish
from shared.control.workers import Workers
from shared.ids import CallId, LeaseId, WorkerId
from shared.messages import KeptUtterance, Lease, ResourceQuota
from shared.states import WorkerState
from tests.integration.control.pool import DIALOG, INVITE_AT_MS, call_record, pass_time, worker_record

ONE = WorkerId("one")
WISH = Wish(agent="reception", resources=[ResourceQuota(name="west")])
STARTED = ("call.started", {"call_id": "a", "worker_id": "one", "agent": "reception", "resource": "west"})
ANSWERED = ("call.answered", {"call_id": "a", "worker_id": "one"})
ENDED = (
    "call.ended",
    {"call_id": "a", "worker_id": "one", "agent": "reception", "result": "completed", "reason": "caller_hangup"},
)


async def told(events: Events, kind: str = "call.") -> list[tuple[str, dict[str, str]]]:
    """Returns the events of one kind, oldest first."""
    found = await events.read(keys.EVENTS_MAX, since=START)
    return [(event.name, dict(event.about)) for event in found if event.name.startswith(kind)]


@pytest.fixture
async def lease(workers: Workers, leases: Leases) -> Lease:
    """An offer to the one worker there is."""
    await workers.register(worker_record("one"), [])
    return await leases.acquire(CallId("a"), ONE, invite_at_ms=INVITE_AT_MS, wish=WISH)


def answered(lease: Lease) -> Lease:
    """Returns the lease of a call that has been answered."""
    return replace(lease, answered_at_ms=INVITE_AT_MS + 5, dialog=DIALOG)


class TestCalls:
    async def test_offer_is_no_event(self, leases: Leases, events: Events, lease: Lease) -> None:
        assert await leases.release(lease, None)
        assert await told(events) == []

    async def test_call_starts_is_answered_and_ends(self, leases: Leases, events: Events, lease: Lease) -> None:
        await leases.claim(lease)
        for _ in range(3):
            await leases.renew(ONE, [lease])
        for _ in range(3):
            await leases.renew(ONE, [answered(lease)])
        record = replace(call_record(lease), agent="reception", answered_at_ms=INVITE_AT_MS + 5)
        await leases.release(answered(lease), record)
        await leases.release(answered(lease), record)
        assert await told(events) == [STARTED, ANSWERED, ENDED]

    async def test_short_call_of_which_redis_hears_only_at_its_end_is_told_in_full(
        self, redis: Redis, leases: Leases, events: Events, lease: Lease
    ) -> None:
        await ask(redis, "FLUSHALL")
        await leases.release(lease, replace(call_record(lease), agent="reception", answered_at_ms=INVITE_AT_MS + 5))
        assert await told(events) == [STARTED, ANSWERED, ENDED]

    async def test_call_whose_claim_got_no_answer_starts_once(
        self, leases: Leases, events: Events, lease: Lease
    ) -> None:
        await leases.renew(ONE, [lease])
        await leases.renew(ONE, [lease])
        assert await told(events) == [STARTED]

    async def test_provisional_call_starts_when_it_is_entered(
        self, workers: Workers, leases: Leases, events: Events, lease: Lease
    ) -> None:
        await leases.release(lease, None)
        await leases.renew(ONE, [answered(replace(lease, lease_id=LeaseId("made up"), provisional=True))])
        assert await told(events) == [STARTED, ANSWERED]

    async def test_lost_call_ends_with_its_worker(
        self, redis: Redis, leases: Leases, events: Events, lease: Lease
    ) -> None:
        await leases.claim(lease)
        await pass_time(redis, keys.HEARTBEAT_TTL_S + 0.1)
        await leases.reap()
        reason = {"result": "lost", "reason": "worker_lost"}
        assert await told(events) == [STARTED, (ENDED[0], ENDED[1] | reason)]
        assert await told(events, "worker.lost") == [("worker.lost", {"worker_id": "one", "calls": "1"})]

    async def test_long_record_is_no_hindrance(self, leases: Leases, events: Events, lease: Lease) -> None:
        await leases.claim(lease)
        words = [KeptUtterance(role="agent", at_ms=i, text="word " * 100) for i in range(500)]
        assert await leases.release(lease, replace(call_record(lease), agent="reception", transcript=words))
        assert await told(events) == [STARTED, ENDED]

    async def test_no_event_has_anything_of_the_dialog_in_it(
        self, redis: Redis, leases: Leases, events: Events, lease: Lease
    ) -> None:
        await leases.claim(lease)
        await leases.renew(ONE, [answered(lease)])
        await leases.release(answered(lease), replace(call_record(lease), caller="0123", called="0456"), orphan=True)
        everything = repr(await ask(redis, "XRANGE", keys.events(), "-", "+"))
        assert "sip:" not in everything and "0123" not in everything and "0456" not in everything


class TestWorkers:
    async def test_worker_joins_changes_its_state_and_leaves(self, workers: Workers, events: Events) -> None:
        await workers.register(worker_record("one"), [])
        await workers.register(worker_record("one"), [])
        for state in (WorkerState.READY, WorkerState.DRAINING, WorkerState.DRAINING):
            await workers.heartbeat(ONE, state)
        await workers.unregister(ONE)
        await workers.unregister(ONE)
        assert await told(events, "worker.") == [
            ("worker.joined", {"worker_id": "one", "state": "ready"}),
            ("worker.state", {"worker_id": "one", "state": "draining"}),
            ("worker.left", {"worker_id": "one"}),
        ]


class TestReading:
    async def test_reading_on_and_reading_the_newest(self, redis: Redis, events: Events) -> None:
        for number in range(5):
            await events.tell(EventName.CALL_REFUSED, {"call_id": f"{number}", "status": 503, "reason": "no_quota"})
        first = await events.read(2, since=START)
        assert [event.about["call_id"] for event in first] == ["0", "1"]
        assert [event.about["call_id"] for event in await events.read(9, since=first[-1].position)] == ["2", "3", "4"]
        newest = await events.read(2)
        assert [event.about["call_id"] for event in newest] == ["3", "4"]
        assert newest[-1].name == "call.refused" and newest[-1].about["status"] == "503"
        seconds = int((await ask(redis, "TIME"))[0])
        assert abs(newest[-1].at_ms / 1000 - seconds) < 60

    async def test_event_of_a_newer_release_is_read_all_the_same(self, redis: Redis, events: Events) -> None:
        await ask(redis, "XADD", keys.events(), "*", "event", "call.sung", "key", "c")
        [event] = await events.read(1)
        assert (event.name, event.at_ms, dict(event.about)) == ("call.sung", 0, {"key": "c"})

    async def test_old_events_are_trimmed(self, redis: Redis, workers: Workers, events: Events) -> None:
        fill = "for i = 1, tonumber(ARGV[1]) do redis.call('XADD', KEYS[1], '*', 'event', 'x') end"
        for write in (workers.register(worker_record("one")), events.tell(EventName.CALL_REFUSED, {})):
            await ask(redis, "DEL", keys.events())
            await ask(redis, "EVAL", fill, 1, keys.events(), keys.EVENTS_MAX + 500)
            await write
            assert int(await ask(redis, "XLEN", keys.events())) <= keys.EVENTS_MAX + 100
