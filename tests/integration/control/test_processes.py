"""Real processes that are killed wherever they happen to be."""

import asyncio
import random
import sys
from asyncio.subprocess import PIPE
from collections import Counter
from pathlib import Path

from redis.asyncio import Redis

from shared.control import keys
from shared.control.leases import Leases
from shared.control.workers import Workers
from shared.ids import CallId, LeaseId
from tests.integration.control import churn
from tests.integration.control.pool import Snapshot, check, pass_time, records, snapshot

ROOT = Path(__file__).parents[3]
CAPACITY = 4
GENERATIONS = 2
PROCESSES = 3
SAMPLING_S = 0.01
"""Leaves the machine to the processes between two looks at what they have done."""


async def run_and_kill(redis_url: str, worker_id: str, everybody: list[str]) -> list[str]:
    """Starts a churning process, kills it some steps later, and returns the lines it has said."""
    arguments = [redis_url, worker_id, str(CAPACITY), *everybody]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", churn.__name__, *arguments, cwd=ROOT, stdout=PIPE
    )
    assert process.stdout
    try:
        lines = [await process.stdout.readline() for _ in range(random.randrange(20, 80))]
    finally:
        process.kill()
    said = b"".join(lines) + await process.stdout.read()
    await process.wait()
    return said.decode().splitlines()


async def test_killed_processes_leave_nothing_and_every_call_has_one_record(
    redis_url: str, redis: Redis, workers: Workers, leases: Leases
) -> None:
    said: list[str] = []
    for generation in range(GENERATIONS):
        everybody = [f"worker{generation}-{index}" for index in range(PROCESSES)]
        async with asyncio.TaskGroup() as group:
            killing = [group.create_task(run_and_kill(redis_url, one, everybody)) for one in everybody]
            while not all(task.done() for task in killing):
                check(await snapshot(redis), CAPACITY)
                await asyncio.sleep(SAMPLING_S)
        said += [line for task in killing for line in task.result()]

    await pass_time(redis, keys.LEASE_TTL_S + 1)
    freed = await leases.reap()
    said += [f"freed {lease.lease_id} {lease.call_id}" for lease in freed]
    assert await snapshot(redis) == Snapshot()
    assert await workers.table() == []

    ends = Counter(LeaseId(line.split()[1]) for line in said if not line.startswith("claimed"))
    assert max(ends.values()) == 1, "a lease ended twice"
    claimed = {CallId(line.split()[2]) for line in said if line.startswith("claimed")}
    written = Counter(record.call_id for record in (await records(redis)).values())
    assert written.keys() >= claimed, "a call without a record"
    assert set(written.values()) == {1}, "a call with two records"
    assert len(claimed) > GENERATIONS * PROCESSES
