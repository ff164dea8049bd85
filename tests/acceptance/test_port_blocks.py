"""Pods that share a machine's ports, as on the network of a Kubernetes node: leased blocks, kept, freed, and shown."""

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from redis import Redis

from admin.ports import free_udp_range
from shared.control import keys
from tests.acceptance.callers import Callers, patient
from tests.acceptance.pool import PORTS_OF_A_POD, SETTLE_S, Layout, Pool, running_pool, until
from tests.acceptance.process import START_S, PoolProcess
from tests.integration.api_server import running_api_server
from tests.integration.redis.conftest import Authority
from worker.kubernetes import DELETION_COST, TELEMETRY_PORT

BLOCKS = 2
MACHINE = "machine"


def ports_to_share(directory: Path) -> dict[str, str]:
    """Returns the settings that all pods of a machine have; the files they name are in the directory."""
    first = free_udp_range("127.0.0.1", BLOCKS * (1 + PORTS_OF_A_POD))  # one for SIP, the others for RTP
    return {
        "NODE_NAME": MACHINE,
        "PORT_BLOCKS": str(BLOCKS),
        "WORKER_SIP_PORT": str(first),
        "MEDIA_PORT": str(first + BLOCKS),
        "AGENTS_FILE": patient(directory),
    }


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """Two pods of one worker each, which have all blocks there are."""
    directory = tmp_path_factory.mktemp("pool")
    with running_pool(directory, Layout(pods=2), workers=1, **ports_to_share(directory)) as pool:
        yield pool


def block_of(pod: PoolProcess) -> int:
    """Returns which block a pod has leased."""
    return int(pod.wait_for("ports.leased", timeout_s=START_S)[0]["block"])


def owners(pool: Pool) -> dict[bytes, bytes]:
    """Returns who has each block, as Redis knows it."""
    with Redis.from_url(pool.redis_server.url) as redis:
        return cast(dict[bytes, bytes], redis.hgetall(keys.port_owners(MACHINE)))


def test_two_pods_of_a_machine_have_different_ports_and_both_take_calls(pool: Pool) -> None:
    assert {block_of(pod) for pod in pool.supervisors} == {0, 1}
    assert len({worker["sip_port"] for worker in pool.workers()}) == 2
    pool.wait_until_seen(2)
    with Callers(pool) as callers:
        talking = callers.one_on_each(lambda: callers.call().answered())
        before = owners(pool)
        pool.redis_server.restart()
        pool.wait_until_seen(2)
        for caller in talking.values():
            caller.hears()
        callers.hang_up()
    until(lambda: owners(pool) == before, SETTLE_S, pool.tails)  # each takes its own again when it renews


def test_a_pod_that_waits_for_ports_can_be_stopped(pool: Pool) -> None:
    waiting = pool.start_pod(1)
    waiting.wait_for("ports.waiting", timeout_s=START_S)
    waiting.end()
    assert waiting.wait(START_S) == 0
    assert not waiting.events("worker.ready")


def test_the_ports_of_a_killed_pod_are_the_next_ones_when_its_lease_has_lapsed(pool: Pool) -> None:
    killed, other = pool.supervisors[:2]
    pool.kill_supervisor(0)
    waiting = pool.start_pod(1)
    assert waiting.wait_for("ports.waiting", timeout_s=START_S)[0]["reason"] == "no block is free"
    waiting.wait_for("worker.ready", timeout_s=keys.PORT_BLOCK_TTL_S + START_S)
    assert block_of(waiting) == block_of(killed) != block_of(other)


def test_ports_that_somebody_else_has_bound_are_passed_over(tmp_path: Path) -> None:
    """Two pools that know nothing of each other share a machine."""
    shared_ports = ports_to_share(tmp_path)
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    with running_pool(tmp_path / "one", workers=1, **shared_ports) as one:
        with running_pool(tmp_path / "other", workers=1, **shared_ports) as other:
            assert block_of(one.supervisor) == 0
            assert block_of(other.supervisor) == 1
            assert other.supervisor.events("ports.block_in_use")[0]["block"] == 0


def test_what_kubernetes_is_told_follows_the_calls(tmp_path: Path) -> None:
    port_file = tmp_path / "telemetry-port"
    port_file.write_text("1\n")  # of an earlier start
    shared_ports = ports_to_share(tmp_path)
    first_port = int(shared_ports["WORKER_SIP_PORT"])  # TCP: below the ports that the system hands out, as the UDP ones
    with running_api_server(Authority(tmp_path), tmp_path) as server:
        server.pods["pod-1"] = {}
        env = server.environment | {
            "POD_DELETION_COST": "true",
            "SERVICE_ACCOUNT_DIR": str(server.service_account),
            "TELEMETRY_PORT": str(first_port),
            "TELEMETRY_PORT_FILE": str(port_file),
        }
        with running_pool(tmp_path, workers=1, **shared_ports) as pool, Callers(pool) as callers:
            pod = pool.start_pod(1, host=None, **env)
            port = str(first_port + block_of(pod))
            server.annotations("pod-1", {DELETION_COST: "0", TELEMETRY_PORT: port})
            assert port_file.read_text() == f"{port}\n"
            pool.wait_until_seen(2)
            callers.one_on_each(lambda: callers.call().answered())
            server.annotations("pod-1", {DELETION_COST: "1", TELEMETRY_PORT: port})
            callers.hang_up()
            server.annotations("pod-1", {DELETION_COST: "0", TELEMETRY_PORT: port})
