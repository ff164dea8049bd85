"""What the control plane's tests share: a pool seen from outside, and time that passes without waiting.

It calls no script of the pool.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

from shared.control import keys
from shared.control.connection import ask
from shared.ending import CallEnd
from shared.ids import CallId, LeaseId, WorkerId
from shared.messages import CallRecord, Lease, WorkerRecord
from shared.states import WorkerState

INVITE_AT_MS = 1_700_000_000_000


def worker_record(worker_id: str, capacity: int = 2, state: WorkerState = WorkerState.READY) -> WorkerRecord:
    """Returns a worker that is ready and has `capacity` slots."""
    return WorkerRecord(
        worker_id=WorkerId(worker_id),
        pod="pod",
        pid=1,
        sip_host="192.0.2.1",
        sip_port=5070,
        capacity=capacity,
        state=state,
        started_at_ms=INVITE_AT_MS,
        labels={},
    )


def call_record(lease: Lease, reason: CallEnd = CallEnd.CALLER_HANGUP) -> CallRecord:
    """Returns the record a worker writes at the end of the lease's call."""
    return CallRecord(
        call_id=lease.call_id,
        lease_id=lease.lease_id,
        worker_id=lease.worker_id,
        result=reason.result,
        reason=reason,
        invite_at_ms=lease.invite_at_ms,
        ended_at_ms=lease.invite_at_ms + 60_000,
    )


async def pass_time(redis: Redis, seconds: float) -> None:
    """Makes every heartbeat, lease and watch `seconds` older, as if somebody had been reaping all the while."""
    await _make_older(redis, seconds)
    now_ms = int((await ask(redis, "TIME"))[0]) * 1000
    since = int(await ask(redis, "GET", keys.watched()) or now_ms) - keys.ms(seconds)
    await ask(redis, "SET", keys.watched(), since, "EX", 600)


async def pass_time_unwatched(redis: Redis, seconds: float) -> None:
    """Makes everything `seconds` older, as if neither Redis nor anybody else had been there."""
    await _make_older(redis, seconds)
    await ask(redis, "DEL", keys.watched())


async def _make_older(redis: Redis, seconds: float) -> None:
    for key in (keys.workers(), keys.lapses()):
        for member in await ask(redis, "ZRANGE", key, 0, -1):
            await ask(redis, "ZINCRBY", key, -keys.ms(seconds), member)


@dataclass(frozen=True)
class Held:
    """A lease as Redis holds it."""

    call_id: CallId
    lease_id: LeaseId
    worker_id: WorkerId
    state: str
    marked_released: bool


@dataclass(frozen=True)
class Snapshot:
    """All leases and workers at one moment."""

    leases: dict[LeaseId, Held] = field(default_factory=dict)
    slots: dict[WorkerId, list[CallId]] = field(default_factory=dict)
    loads: dict[WorkerId, int] = field(default_factory=dict)
    lapses: list[CallId] = field(default_factory=list)
    registered: list[WorkerId] = field(default_factory=list)


_SNAPSHOT = """
local answer = { calls = {}, slots = {}, loads = {}, lapses = {}, registered = {} }
local function pairs_of(list)
  local map = {}
  for i = 1, #list, 2 do map[list[i]] = list[i + 1] end
  return map
end
for _, key in ipairs(redis.call('KEYS', '{voicepool}:call:*')) do
  local held = pairs_of(redis.call('HGETALL', key))
  held.released = redis.call('EXISTS', '{voicepool}:released:' .. held.lease_id)
  held.lease = nil
  answer.calls[key] = held
end
for _, key in ipairs(redis.call('KEYS', '{voicepool}:slots:*')) do
  answer.slots[key] = redis.call('SMEMBERS', key)
end
answer.loads = pairs_of(redis.call('HGETALL', '{voicepool}:loads'))
answer.lapses = redis.call('ZRANGE', '{voicepool}:lapses', 0, -1)
answer.registered = redis.call('HKEYS', '{voicepool}:registrations')
return cjson.encode(answer)
"""


async def snapshot(redis: Redis) -> Snapshot:
    """Returns what Redis holds at one moment."""
    raw: dict[str, Any] = json.loads(await ask(redis, "EVAL", _SNAPSHOT, 0))
    held = [
        Held(
            call_id=CallId(key.rsplit(":", 1)[1]),
            lease_id=LeaseId(fields["lease_id"]),
            worker_id=WorkerId(fields["worker_id"]),
            state=fields["state"],
            marked_released=bool(fields["released"]),
        )
        for key, fields in dict(raw["calls"]).items()
    ]
    return Snapshot(
        leases={lease.lease_id: lease for lease in held},
        slots={WorkerId(key.rsplit(":", 1)[1]): list(calls) for key, calls in dict(raw["slots"]).items()},
        loads={worker_id: int(load) for worker_id, load in dict(raw["loads"]).items()},
        lapses=list(raw["lapses"]),
        registered=list(raw["registered"]),
    )


def check(seen: Snapshot, capacity: int) -> None:
    """Asserts what must hold at every moment."""
    calls_in_slots = [(call_id, worker_id) for worker_id, calls in seen.slots.items() for call_id in calls]
    calls_leased = [(lease.call_id, lease.worker_id) for lease in seen.leases.values()]
    assert all(len(calls) <= capacity for calls in seen.slots.values()), "more slots leased than there are"
    assert len({call_id for call_id, _ in calls_in_slots}) == len(calls_in_slots), "a call on two workers"
    assert sorted(calls_in_slots) == sorted(calls_leased), "a slot without a lease, or a lease without a slot"
    assert sorted(seen.lapses) == sorted(call_id for call_id, _ in calls_leased), "a lease that would never lapse"
    assert seen.loads == {worker_id: len(calls) for worker_id, calls in seen.slots.items()}, "a wrong load"
    assert not any(lease.marked_released for lease in seen.leases.values()), "a released lease that is held"


async def reasons(redis: Redis) -> dict[LeaseId, list[str]]:
    """Returns for each lease the reasons in the records it has got, straight from the stream."""
    found: dict[LeaseId, list[str]] = {}
    entries: Sequence[tuple[bytes, dict[bytes, bytes]]] = await ask(redis, "XRANGE", keys.records(), "-", "+")
    for _, fields in entries:
        record = CallRecord.unpack(fields[b"record"])
        found.setdefault(record.lease_id, []).append(record.reason)
    return found
