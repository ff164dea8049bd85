"""Ten calls a second for two minutes, while a container of each kind is killed: who loses a call, and why.

Callers know two dispatchers and do as RFC 3261 and RFC 3263 say. A process is killed as the kernel would kill it,
without a word to the engine, which starts the container again by its restart policy.
"""

import asyncio
import json
import logging
import os
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from bench.chaos.logs import about, admissions
from bench.load.proxy_set import ProxySet
from bench.load.sip import SipCaller
from bench.load.traffic import CallResult, Outcome, Traffic, plan
from bench.load.wire import UdpAddress
from shared.ids import CallId
from tests.deploy.compose.conftest import VERSION
from tests.deploy.compose.engine import ROOT, Engine
from tests.deploy.compose.stack import Container, Stack, running_stack

pytestmark = [pytest.mark.compose, pytest.mark.timeout(2400)]

RATE = 10.0
SECONDS = 120.0
HOLD_S = (0.5, 5.0)
CALLERS = 12

VICTIMS = ("dispatcher", "worker", "redis", "admin", "simulator")
KILL_EVERY_S = 20.0

log = logging.getLogger(__name__)


@pytest.fixture
def pool(engine: Engine, image: str) -> Iterator[Stack]:
    """Two dispatchers, three workers, two simulators; one Redis and one admin, for those may be away."""
    files = (ROOT / "docker-compose.yml", Path(__file__).with_name("two-dispatchers.yml"))
    env = {"VOICEPOOL_VERSION": VERSION}
    with running_stack(Stack(engine, f"voicepool-kills-{os.getpid()}", env, files)) as made:
        made.up("redis", "admin", "dispatcher", "dispatcher-b", worker=3, simulator=2)
        yield made


async def test_only_the_killed_workers_calls_are_lost(pool: Stack, tmp_path: Path) -> None:
    workers = pool.containers("worker")
    dispatchers = [(each.address, 5060) for name in ("dispatcher", "dispatcher-b") for each in pool.containers(name)]
    async with asyncio.TaskGroup() as tasks:
        calling = tasks.create_task(_calls(pool, dispatchers))
        killed = await tasks.create_task(_kill_one_of_each(pool))
    results = calling.result()

    logs = [
        pool.log_of(each, tmp_path)
        for name in ("dispatcher", "dispatcher-b", "worker")
        for each in pool.containers(name)
    ]
    lost = {result.call_id: result for result in results if not _went_well(result)}
    of_the_killed = {taken.call_id for taken in admissions([pool.log_of(killed["worker"], tmp_path)])}
    figures = {
        "calls": len(results),
        "answered": sum(result.outcome is Outcome.ANSWERED for result in results),
        "lost": len(lost),
        "lost of the killed worker": len(lost.keys() & of_the_killed),
        "endings": Counter(f"{result.outcome} {result.status} {result.hung_up_by}" for result in lost.values()),
        "sent again": sum(result.retransmissions > 0 for result in results),
        "tried another dispatcher": sum(len(result.tried) > 1 for result in results),
        "setup ms": _quantiles(results),
    }
    log.info("%s", json.dumps(figures))
    strangers: dict[CallId, object] = {
        call_id: (result, about(call_id, logs, 30)) for call_id, result in lost.items() if call_id not in of_the_killed
    }
    assert not strangers, strangers
    assert len(results) == RATE * SECONDS
    assert 0 < len(lost) <= RATE * HOLD_S[1]  # as many as one worker of three can have had, amply
    kept = {each.pid for each in pool.containers("worker")}
    assert kept >= {each.pid for each in workers if each.id != killed["worker"].id}
    assert killed["worker"].pid not in kept


async def _calls(pool: Stack, dispatchers: Sequence[UdpAddress]) -> list[CallResult]:
    planned = plan(1, SECONDS, RATE, dispatchers, HOLD_S)
    callers = [SipCaller(_own_address(pool), ProxySet(dispatchers)) for _ in range(CALLERS)]
    try:
        async with asyncio.TaskGroup() as tasks:
            calling = [
                tasks.create_task(Traffic(caller).run(planned[number::CALLERS]))
                for number, caller in enumerate(callers)
            ]
        return [result for each in calling for result in each.result()]
    finally:
        for caller in callers:
            caller.close()


async def _kill_one_of_each(pool: Stack) -> dict[str, Container]:
    """Kills the first container of each kind, one after the other; returns which they were."""
    killed = {}
    for service in VICTIMS:
        await asyncio.sleep(KILL_EVERY_S)
        killed[service] = (await asyncio.to_thread(pool.containers, service))[0]
        os.kill(killed[service].pid, signal.SIGKILL)
    return killed


def _own_address(pool: Stack) -> str:
    """Returns the address that this machine has on the stack's network."""
    [network] = json.loads(pool.engine.docker("network", "inspect", f"{pool.project}_default"))
    return str(network["IPAM"]["Config"][0]["Gateway"])


def _went_well(result: CallResult) -> bool:
    return result.outcome is Outcome.ANSWERED and result.hung_up_by == "caller" and result.was_hung_up


def _quantiles(results: Sequence[CallResult]) -> dict[str, float]:
    times = sorted(
        (result.marks_ns["answered"] - result.marks_ns["invite"]) / 1e6
        for result in results
        if "answered" in result.marks_ns
    )
    return {
        name: round(times[int(share * (len(times) - 1))], 1)
        for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1))
    }
