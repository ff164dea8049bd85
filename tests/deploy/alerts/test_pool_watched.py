"""A real Prometheus watches a real pool: what alerts expect of the metrics is what processes show."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from admin.ports import free_tcp_port
from shared.messages import CommandName
from tests.acceptance.pool import SETTLE_S, Layout, Pool, running_pool
from tests.acceptance.process import START_S, PoolProcess
from tests.deploy.alerts.test_alerts import RULES
from tests.deploy.alerts.watch import Prometheus, hurried, watching

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

VOICEPOOL = Path(sys.executable).parent / "voicepool"


@contextmanager
def serving_api(pool: Pool) -> Iterator[int]:
    """Runs the HTTP API for the block; yields its port."""
    port = free_tcp_port()
    environment = os.environ | {"REDIS_URL": pool.redis_server.url, "ADMIN_PORT": str(port)}
    with (pool.directory / "api.log").open("wb") as log:
        process = subprocess.Popen([VOICEPOOL, "api", "--insecure-loopback"], env=environment, stdout=log, stderr=log)
        try:
            yield port
        finally:
            process.terminate()
            assert process.wait(START_S) == 0


def port_of(process: PoolProcess) -> int:
    return int(process.wait_for("telemetry.listening")[0]["port"])


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[tuple[Pool, Prometheus, int]]:
    """A pool of one worker, the Prometheus that watches it, and the port of the HTTP API."""
    with (
        watching(tmp_path, hurried(RULES.read_text())) as prometheus,
        running_pool(tmp_path, Layout(), workers=1, TELEMETRY_PORT="0") as pool,
        serving_api(pool) as api,
    ):
        prometheus.scrape(dispatcher=[port_of(pool.dispatcher)], worker=[port_of(pool.supervisor)], admin=[api])
        prometheus.wait_for('voicepool_pool_workers{state="ready"}', 1)
        prometheus.wait_for("min(up)", 1)
        prometheus.wait_until_calm()
        yield pool, prometheus, api


def test_dead_workers_are_told_and_new_ones_end_it(watched: tuple[Pool, Prometheus, int]) -> None:
    pool, prometheus, api = watched
    [worker] = pool.live_workers()
    pool.kill_supervisor()
    pool.kill_worker(str(worker["worker"]))
    prometheus.wait_until_firing("VoicepoolNoWorker", "VoicepoolTargetDown", "VoicepoolMetricsAbsent")
    assert prometheus.firing()["VoicepoolTargetDown"]["job"] == "voicepool-worker"
    assert prometheus.firing()["VoicepoolMetricsAbsent"]["job"] == "voicepool-worker"

    replaced = pool.start_pod(1)
    prometheus.scrape(dispatcher=[port_of(pool.dispatcher)], worker=[port_of(replaced)], admin=[api])
    prometheus.wait_until_calm()


def test_a_worker_whose_heartbeat_stops_is_told(watched: tuple[Pool, Prometheus, int]) -> None:
    pool, prometheus, _ = watched
    [worker] = pool.live_workers()
    pool.freeze_worker(str(worker["worker"]))
    prometheus.wait_until_firing("VoicepoolHeartbeatsMissing")
    # Its supervisor kills and replaces it.
    pool.supervisor.wait_for("worker.ready", count=2, timeout_s=START_S)
    prometheus.wait_until_calm()


def test_a_drained_dispatcher_and_a_dead_one_are_told_apart(watched: tuple[Pool, Prometheus, int]) -> None:
    pool, prometheus, _ = watched
    pool.operate(CommandName.DRAIN, pool.dispatcher_id(0))
    prometheus.wait_until_firing("VoicepoolEveryDispatcherDrains")
    assert "VoicepoolNoDispatcher" not in prometheus.firing()
    pool.kill_dispatcher()
    prometheus.wait_until_firing("VoicepoolNoDispatcher")
    assert prometheus.value('sum(voicepool_pool_dispatchers{state=~"ready|draining"})') == 0


def test_redis_away_is_told_by_those_who_need_it(watched: tuple[Pool, Prometheus, int]) -> None:
    pool, prometheus, _ = watched
    pool.redis_server.pause()
    prometheus.wait_until_firing("VoicepoolRedisAway", "VoicepoolRedisUnreachable")
    pool.redis_server.resume()
    prometheus.wait_until_calm()
    pool.wait_until_idle(SETTLE_S)
