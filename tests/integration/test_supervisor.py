"""The supervisor with real children and a real Redis: it restarts, gives up, drains, and leaves nobody behind."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from admin.ports import free_udp_range
from shared.control.commands import Commands
from shared.control.connection import connect
from shared.control.workers import WorkerRow, Workers
from shared.ids import WorkerId
from shared.messages import Command, CommandName
from shared.states import WorkerState
from tests.acceptance.pool import alive, until
from tests.acceptance.process import PoolProcess
from worker.supervisor import HUNG_AFTER_S

STARTED_S = 40.0
HUNG_S = 30.0


@pytest.fixture
def env(redis_url: str) -> dict[str, str]:
    return {
        "REDIS_URL": redis_url,
        "LEASE_SECRET": "supervisor-tests-only",
        "AZURE_VOICELIVE_ENDPOINT": "ws://127.0.0.1:9",
        "AZURE_VOICELIVE_API_KEY": "any",
        "SIP_LOCAL_ADDRESS": "127.0.0.1",
        "WORKER_PROCESSES": "1",
        "WORKER_CAPACITY": "2",
        "MEDIA_PORT": str(free_udp_range("127.0.0.1", 12)),
    }


@contextmanager
def running(env: dict[str, str], directory: Path) -> Iterator[PoolProcess]:
    process = PoolProcess("worker", ["worker"], env, directory)
    try:
        yield process
    finally:
        process.end()
        process.close()


@pytest.fixture
def supervisor(env: dict[str, str], tmp_path: Path) -> Iterator[PoolProcess]:
    with running(env, tmp_path) as process:
        yield process


async def table(redis_url: str) -> list[WorkerRow]:
    async with connect(redis_url) as redis:
        return await Workers(redis).table()


async def test_a_started_worker_is_in_the_table_with_its_sip_address(supervisor: PoolProcess, redis_url: str) -> None:
    ready = supervisor.wait_for("worker.ready", timeout_s=STARTED_S)[0]
    (row,) = await table(redis_url)
    assert (row.record.worker_id, row.record.sip_port) == (ready["worker"], ready["sip_port"])
    assert (row.alive, row.leased, row.record.capacity) == (True, 0, 2)


async def test_a_drained_worker_leaves_the_table_and_the_pod_ends_with_zero(
    supervisor: PoolProcess, redis_url: str
) -> None:
    supervisor.wait_for("worker.ready", timeout_s=STARTED_S)
    supervisor.signal(signal.SIGTERM)
    assert supervisor.wait(STARTED_S) == 0
    assert await table(redis_url) == []


def test_a_worker_that_an_operator_drained_stays_until_its_pod_is_told_to_stop(
    supervisor: PoolProcess, redis_url: str
) -> None:
    worker = WorkerId(str(supervisor.wait_for("worker.ready", timeout_s=STARTED_S)[0]["worker"]))

    async def drain() -> None:
        async with connect(redis_url) as redis:
            await Commands(redis).run(worker, Command(command_id="c1", name=CommandName.DRAIN))

    def states() -> list[WorkerState]:
        return [row.record.state for row in asyncio.run(table(redis_url)) if row.alive]

    asyncio.run(drain())
    until(lambda: states() == [WorkerState.DRAINING], STARTED_S, "it is not shown as draining")
    assert supervisor.running
    supervisor.signal(signal.SIGTERM)
    supervisor.signal(signal.SIGTERM)
    assert supervisor.wait(STARTED_S) == 0
    assert states() == []


def test_a_killed_child_is_replaced_by_a_worker_with_a_new_id(supervisor: PoolProcess) -> None:
    first = supervisor.wait_for("worker.ready", timeout_s=STARTED_S)[0]
    os.kill(int(first["pid"]), signal.SIGKILL)
    second = supervisor.wait_for("worker.ready", count=2, timeout_s=STARTED_S)[1]
    assert second["worker"] != first["worker"]
    assert supervisor.events("supervisor.child_died")[0]["exit_code"] == -signal.SIGKILL


def test_a_hung_child_is_killed_and_replaced(supervisor: PoolProcess) -> None:
    first = supervisor.wait_for("worker.ready", timeout_s=STARTED_S)[0]
    os.kill(int(first["pid"]), signal.SIGSTOP)
    supervisor.wait_for("supervisor.child_hung", timeout_s=HUNG_S)
    supervisor.wait_for("worker.ready", count=2, timeout_s=STARTED_S)
    assert not alive(first["pid"])


@pytest.mark.long
def test_a_supervisor_that_was_stopped_itself_takes_nobody_for_hung(supervisor: PoolProcess) -> None:
    supervisor.wait_for("worker.ready", timeout_s=STARTED_S)
    supervisor.signal(signal.SIGSTOP)
    time.sleep(HUNG_AFTER_S + 2.0)  # there is nothing to see meanwhile
    supervisor.signal(signal.SIGTERM)
    supervisor.signal(signal.SIGCONT)
    assert supervisor.wait(STARTED_S) == 0
    assert not supervisor.events("supervisor.child_hung")


def test_children_leave_when_the_supervisor_is_killed(env: dict[str, str], tmp_path: Path) -> None:
    with running(env, tmp_path) as process:
        child = int(process.wait_for("worker.ready", timeout_s=STARTED_S)[0]["pid"])
        process.signal(signal.SIGKILL)
        until(lambda: not alive(child), HUNG_S, "the child goes on without its supervisor")


def test_a_worker_that_can_never_start_stops_the_pod_with_the_reason(env: dict[str, str], tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with running(env | {"WORKER_SIP_PORT": str(port)}, tmp_path) as process:
            assert process.wait(STARTED_S) == 3
            assert str(port) in process.events("worker.cannot_start")[0]["problems"][0]


def test_bad_settings_are_all_named_before_anything_starts(env: dict[str, str], tmp_path: Path) -> None:
    bad = env | {"WORKER_CAPACITY": "0", "LEASE_SECRET": "short", "AZURE_VOICELIVE_ENDPOINT": ""}
    with running(bad, tmp_path) as process:
        assert process.wait(STARTED_S) == 2
        text = "\n".join(process.lines())
    assert all(name in text for name in ("WORKER_CAPACITY", "LEASE_SECRET", "AZURE_VOICELIVE_ENDPOINT"))
