"""What the control plane's tests share: a pool seen from outside, and time that passes without waiting.

It calls no script of the pool.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

from redis.asyncio import Redis

from shared.control import keys
from shared.control.connection import ask
from shared.ending import CallEnd
from shared.ids import CallId, DispatcherId, LeaseId, WorkerId
from shared.messages import CallRecord, Dialog, DispatcherRecord, Lease, WorkerRecord
from shared.states import WorkerState

INVITE_AT_MS = 1_700_000_000_000

DIALOG = Dialog(
    call_id=b"a@192.0.2.7", local=b"<sip:a@192.0.2.1>;tag=\xff", remote=b"<sip:b@192.0.2.7>;tag=2",
    target=b"sip:b@192.0.2.7:5080", routes=[b"<sip:192.0.2.3;lr>"],
)  # fmt: skip
"""What an answered call's lease has; a tag may be any bytes."""


def worker_record(worker_id: str, capacity: int = 2, state: WorkerState = WorkerState.READY) -> WorkerRecord:
    """Returns a worker that is ready, has `capacity` slots, and an address of its own."""
    return WorkerRecord(
        worker_id=WorkerId(worker_id),
        pod="pod",
        pid=1,
        sip_host="192.0.2.1",
        sip_port=1024 + crc32(worker_id.encode()) % 60_000,
        capacity=capacity,
        state=state,
        started_at_ms=INVITE_AT_MS,
        labels={},
    )


def dispatcher_record(dispatcher_id: str = "front", *, draining: bool = False) -> DispatcherRecord:
    """Returns a dispatcher."""
    return DispatcherRecord(
        dispatcher_id=DispatcherId(dispatcher_id),
        pid=1,
        sip_host="192.0.2.1",
        sip_port=5060,
        draining=draining,
        started_at_ms=INVITE_AT_MS,
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


async def pass_time(redis: Redis, seconds: float, *, queues: Sequence[str] = ()) -> None:
    """Makes everything `seconds` older, as if somebody had been reaping all the while; and who waits for `queues`."""
    await _make_older(redis, seconds, queues)
    now_ms = int((await ask(redis, "TIME"))[0]) * 1000
    since = int(await ask(redis, "GET", keys.watched()) or now_ms) - keys.ms(seconds)
    await ask(redis, "SET", keys.watched(), since, "EX", 600)


async def pass_time_unwatched(redis: Redis, seconds: float) -> None:
    """Makes everything `seconds` older, as if neither Redis nor anybody else had been there."""
    await _make_older(redis, seconds)
    await ask(redis, "DEL", keys.watched())


_OLDER = """
for i = 2, #KEYS do
  local entries = redis.call('ZRANGE', KEYS[i], 0, -1, 'WITHSCORES')
  for j = 1, #entries, 2 do
    if entries[j + 1] ~= '0' then redis.call('ZINCRBY', KEYS[i], -ARGV[1], entries[j]) end
  end
end
for _, key in ipairs(redis.call('KEYS', '{voicepool}:over:*')) do
  local left_ms = redis.call('PTTL', key) - ARGV[1]
  -- One that would end within the test, who knows when, has ended.
  if left_ms > 5000 then redis.call('PEXPIRE', key, left_ms) else redis.call('DEL', key) end
end
local budgets = redis.call('HGETALL', KEYS[1])
for i = 1, #budgets, 2 do
  local budget = cmsgpack.unpack(budgets[i + 1])
  for _, name in ipairs({ 'a', 'b', 'h' }) do budget[name] = budget[name] - ARGV[1] end
  redis.call('HSET', KEYS[1], budgets[i], cmsgpack.pack(budget))
end
"""


async def _make_older(redis: Redis, seconds: float, queues: Sequence[str] = ()) -> None:
    times = [keys.workers(), keys.lapses(), keys.dispatcher_beats(), keys.quota_beats(), keys.orphans()]
    times += map(keys.polls, queues)
    await ask(redis, "EVAL", _OLDER, 1 + len(times), keys.budgets(), *times, keys.ms(seconds))


@dataclass(frozen=True)
class Held:
    """A lease as Redis holds it."""

    call_id: CallId
    lease_id: LeaseId
    worker_id: WorkerId
    state: str
    resource: str
    has_dialog: bool
    marked_released: bool
    supersedes: str
    """Stream id of the record that its claim takes back; empty when there is none."""


@dataclass(frozen=True)
class Snapshot:
    """All leases and workers at one moment."""

    leases: dict[LeaseId, Held] = field(default_factory=dict)
    slots: dict[WorkerId, list[CallId]] = field(default_factory=dict)
    loads: dict[WorkerId, int] = field(default_factory=dict)
    sessions: dict[str, int] = field(default_factory=dict)
    lapses: list[CallId] = field(default_factory=list)
    registered: list[WorkerId] = field(default_factory=list)


_SNAPSHOT = """
local answer = { calls = {}, slots = {}, loads = {}, sessions = {}, lapses = {}, registered = {} }
local function pairs_of(list)
  local map = {}
  for i = 1, #list, 2 do map[list[i]] = list[i + 1] end
  return map
end
for _, key in ipairs(redis.call('KEYS', '{voicepool}:call:*')) do
  local held = pairs_of(redis.call('HGETALL', key))
  held.released = redis.call('EXISTS', '{voicepool}:released:' .. held.lease_id)
  held.dialog = cmsgpack.unpack(held.lease).dialog and 1 or 0
  held.lease = nil
  answer.calls[key] = held
end
for _, key in ipairs(redis.call('KEYS', '{voicepool}:slots:*')) do
  answer.slots[key] = redis.call('SMEMBERS', key)
end
answer.loads = pairs_of(redis.call('HGETALL', '{voicepool}:loads'))
answer.sessions = pairs_of(redis.call('HGETALL', '{voicepool}:sessions'))
answer.lapses = redis.call('ZRANGE', '{voicepool}:lapses', 0, -1)
answer.registered = redis.call('HKEYS', '{voicepool}:registrations')
return cjson.encode(answer)
"""


async def snapshot(redis: Redis) -> Snapshot:
    """Returns what Redis holds at one moment, sets in alphabetical order: theirs may change by itself."""
    raw: dict[str, Any] = json.loads(await ask(redis, "EVAL", _SNAPSHOT, 0))
    held = [
        Held(
            call_id=CallId(key.rsplit(":", 1)[1]),
            lease_id=LeaseId(fields["lease_id"]),
            worker_id=WorkerId(fields["worker_id"]),
            state=fields["state"],
            resource=fields["resource"],
            has_dialog=bool(fields["dialog"]),
            marked_released=bool(fields["released"]),
            supersedes=fields.get("supersedes", ""),
        )
        for key, fields in dict(raw["calls"]).items()
    ]
    return Snapshot(
        leases={lease.lease_id: lease for lease in held},
        slots={WorkerId(key.rsplit(":", 1)[1]): sorted(calls) for key, calls in dict(raw["slots"]).items()},
        loads={worker_id: int(load) for worker_id, load in dict(raw["loads"]).items()},
        sessions={resource: int(count) for resource, count in dict(raw["sessions"]).items()},
        lapses=list(raw["lapses"]),
        registered=sorted(raw["registered"]),
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
    assert seen.sessions == Counter(lease.resource for lease in seen.leases.values()), "a wrong number of sessions"
    assert not any(lease.marked_released for lease in seen.leases.values()), "a released lease that is held"


async def reasons(redis: Redis) -> dict[LeaseId, list[str]]:
    """Returns for each lease the reasons in the records it has got, straight from the stream."""
    found: dict[LeaseId, list[str]] = {}
    for record in (await records(redis)).values():
        found.setdefault(record.lease_id, []).append(record.reason)
    return found


async def records(redis: Redis) -> dict[str, CallRecord]:
    """Returns all call records, oldest first, by their ids in the stream."""
    entries: Sequence[tuple[bytes, dict[bytes, bytes]]] = await ask(redis, "XRANGE", keys.records(), "-", "+")
    return {position.decode(): CallRecord.unpack(fields[b"record"]) for position, fields in entries}


async def overs(redis: Redis, call_ids: Iterable[CallId]) -> dict[CallId, str]:
    """Returns what Redis says of those of the calls that are over."""
    named = list(call_ids)
    if not named:
        return {}
    values: list[bytes | None] = await ask(redis, "MGET", *map(keys.over, named))
    return {call_id: value.decode() for call_id, value in zip(named, values, strict=True) if value}
