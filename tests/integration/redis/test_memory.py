"""Ten thousand calls, and what is left of them in Redis: every key ends, or is trimmed, as docs/redis.md says."""

import asyncio
import inspect
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

import pytest
from redis.asyncio import Redis

from shared.control import keys
from shared.control.connection import ask
from shared.control.leases import Leases
from shared.control.workers import Workers
from shared.ids import CallId, WorkerId
from shared.messages import CallRecord, Dialog, KeptUtterance, Lease
from shared.states import WorkerState
from tests.integration.control.pool import INVITE_AT_MS, call_record, pass_time, worker_record
from tests.integration.redis.drive import Connecting, drive

DOCUMENT = Path(__file__).parents[3] / "docs" / "redis.md"

CALLS = 10_000
MORE = 1_000
WORKERS = [WorkerId(f"pod-{number:02d}-0123456789abcdef") for number in range(20)]
CAPACITY = 500
AT_ONCE = 200

WORKER_BYTES = 2_000
LEASE_BYTES = 2_500
MARK_BYTES = 250
OVER_BYTES = 200
"""What one worker, one running call, one ended call beside its record, and more than that one that has just ended may
take, as docs/redis.md says."""

RECORD_SHARE = 1.25
"""What a record may take of Redis's memory for each byte it has."""


@dataclass(frozen=True)
class KeyRow:
    """One row of the document's table of keys."""

    pattern: re.Pattern[str]
    ends: str


def documented_keys() -> dict[str, KeyRow]:
    """Returns the table of keys, by the names in its first column."""
    rows = {}
    for line in DOCUMENT.read_text("utf-8").splitlines():
        if found := re.match(r"\| `(\{voicepool\}:[^`]+)` \|[^|]+\| ([^|]+) \|", line):
            name, ends = found.groups()
            fixed = map(re.escape, re.split(r"<\w+>", name))
            rows[name] = KeyRow(re.compile(".*".join(fixed)), ends)
    return rows


def keys_in_code() -> set[str]:
    """Returns the names of all keys as `keys.py` makes them, with <what> they are of."""
    found = set()
    for function in vars(keys).values():
        if inspect.isfunction(function) and inspect.signature(function).return_annotation is str:
            names = [re.sub("_id$", "", name) for name in inspect.signature(function).parameters]
            found.add(function(*(f"<{name}>" for name in names)))
    return found


def test_the_document_lists_every_key_of_the_code_and_no_other() -> None:
    assert set(documented_keys()) == keys_in_code()


async def check_keys(redis: Redis, *, ended: bool) -> None:
    """Asserts that what is in Redis ends or is trimmed; when everything has `ended`, that nothing of it is left."""
    rows = documented_keys().values()
    async for raw in redis.scan_iter(count=1000):
        name = raw.decode()
        row = next((row for row in rows if row.pattern.fullmatch(name)), None)
        assert row, f"{name} is not in docs/redis.md"
        if trimmed := re.match(r"trimmed to ([\d,]+)", row.ends):
            length = await ask(redis, "XLEN", name)
            assert length <= int(trimmed[1].replace(",", "")) + 100, f"{name} has {length} entries"
        elif row.ends.startswith("with "):
            assert not ended, f"{name} is left"
        else:
            assert await ask(redis, "PTTL", name) > 0, f"{name} has no lifetime"


async def memory_of(redis: Redis) -> int:
    """Returns the bytes that Redis uses for data, without the buffers of its clients."""
    stats = await redis.memory_stats()
    return int(stats["dataset.bytes"]) + sum(map(int, stats["db.0"].values()))


T = TypeVar("T")


def in_batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yields the items in lists of at most `size`."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def record_of(lease: Lease) -> CallRecord:
    """Returns the record of a call of some minutes."""
    said = "Good morning, I would like to know when my order will arrive, it was due on Tuesday. " * 12
    transcript = [KeptUtterance(role="caller", at_ms=number * 20_000, text=said) for number in range(10)]
    return replace(call_record(lease), transcript=transcript)


def answered(lease: Lease) -> Lease:
    """Returns the lease of a call that has been answered."""
    party = b'"A Caller" <sip:+15550100@sbc.example.com:5060;user=phone>;tag=0123456789abcdef'
    dialog = Dialog(
        call_id=b"0123456789abcdef0123456789abcdef@sbc.example.com",
        local=party,
        remote=party,
        target=b"sip:+15550100@192.0.2.1:5060;transport=udp",
        routes=[b"<sip:0123456789abcdef0123456789abcdef@192.0.2.2:5060;lr>"],
    )
    return replace(lease, answered_at_ms=INVITE_AT_MS, dialog=dialog, agent="reception", peer="192.0.2.1")


class Crowd:
    """Many calls at once on all workers."""

    def __init__(self, redis: Redis) -> None:
        self._workers, self._leases = Workers(redis), Leases(redis)

    async def register(self) -> None:
        """Enters all workers."""
        for worker_id in WORKERS:
            await self._workers.register(worker_record(worker_id, CAPACITY))

    async def beat(self, worker_ids: Iterable[WorkerId]) -> None:
        """Sends a heartbeat of each of the workers."""
        for worker_id in worker_ids:
            assert await self._workers.heartbeat(worker_id, WorkerState.READY)

    async def unregister(self) -> None:
        """Takes all workers out."""
        for worker_id in WORKERS:
            await self._workers.unregister(worker_id)

    async def begin(self, names: Iterable[str]) -> list[Lease]:
        """Takes calls, answers them and renews their leases."""
        begun: list[Lease] = []
        for batch in in_batches(names, AT_ONCE):
            await self.beat(WORKERS)
            begun += await asyncio.gather(*(self._begin(CallId(name), n) for n, name in enumerate(batch)))
        for worker_id in WORKERS:
            own = [answered(lease) for lease in begun if lease.worker_id == worker_id]
            assert await self._leases.renew(worker_id, own) == []
        return begun

    async def end(self, leases: Iterable[Lease]) -> None:
        """Ends calls, each with a record."""
        for batch in in_batches(leases, AT_ONCE):
            assert all(await asyncio.gather(*(self._leases.release(lease, record_of(lease)) for lease in batch)))

    async def reap(self) -> int:
        """Returns how many leases were freed."""
        return len(await self._leases.reap())

    async def _begin(self, call_id: CallId, number: int) -> Lease:
        worker_id = WORKERS[number % len(WORKERS)]
        lease = await self._leases.acquire(call_id, worker_id, invite_at_ms=INVITE_AT_MS)
        await self._leases.claim(lease)
        return lease


@pytest.fixture
async def redis(redis_url: str, client: Connecting) -> AsyncIterator[Redis]:
    """A client of an empty Redis."""
    yield client(redis_url)


@pytest.mark.timeout(180)
async def test_ten_thousand_calls_leave_nothing_without_an_end(redis: Redis) -> None:
    crowd = Crowd(redis)
    await crowd.register()
    await crowd.end(await crowd.begin(["first"]))
    before = await memory_of(redis)
    leases = await crowd.begin(f"{number:032x}" for number in range(CALLS))
    await check_keys(redis, ended=False)
    per_lease = (await memory_of(redis) - before) / CALLS

    # Nobody ends these; half of them are the last worker's, which falls silent.
    lost = {lease.lease_id for number, lease in enumerate(leases) if number % 40 in (0, 19)}
    await crowd.end(lease for lease in leases if lease.lease_id not in lost)
    await crowd.reap()
    await pass_time(redis, keys.LEASE_TTL_S + 1)
    await crowd.beat(WORKERS[:-1])
    assert await crowd.reap() == len(lost)
    record_bytes = len(record_of(leases[0]).pack())
    per_call = (await memory_of(redis) - before) / CALLS

    await pass_time(redis, keys.OVER_TTL_S)
    await crowd.register()
    full = await memory_of(redis)
    await crowd.end(await crowd.begin(f"{number:032x}" for number in range(CALLS, CALLS + MORE)))
    per_fresh = (await memory_of(redis) - full) / MORE
    await pass_time(redis, keys.OVER_TTL_S)
    per_more = (await memory_of(redis) - full) / MORE
    await crowd.unregister()
    await pass_time(redis, keys.HEARTBEAT_TTL_S + 1)
    await crowd.reap()
    await check_keys(redis, ended=True)
    assert per_lease < LEASE_BYTES
    assert per_call < record_bytes * RECORD_SHARE + MARK_BYTES
    assert per_more < MARK_BYTES
    assert per_fresh < MARK_BYTES + OVER_BYTES


async def test_a_worker_takes_little(redis: Redis) -> None:
    crowd = Crowd(redis)
    await crowd.register()
    before = await memory_of(redis)
    for number in range(1000):
        await Workers(redis).register(worker_record(f"pod-{number:04d}-0123456789abcdef", CAPACITY))
        await Workers(redis).heartbeat(WorkerId(f"pod-{number:04d}-0123456789abcdef"), WorkerState.READY)
    assert (await memory_of(redis) - before) / 1000 < WORKER_BYTES


async def test_no_kind_of_key_is_left_out(redis: Redis) -> None:
    """Everything the control plane can write has been written, and each kind of key is as the document says."""
    await drive(redis, redis)
    await check_keys(redis, ended=False)
