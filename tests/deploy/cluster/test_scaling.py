"""The number of worker pods follows the calls: KEDA reads the HTTP API, Kubernetes adds pods and removes the idlest."""

import asyncio
import base64
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis

from admin.ports import free_tcp_port
from shared.control.connection import connect
from tests.deploy.cluster.keda import running_keda
from tests.deploy.cluster.plane import HERE, START_S
from tests.deploy.cluster.pods import CAPACITY, Pod, Pods
from tests.deploy.cluster.process import running
from tests.deploy.cluster.release import NAME, Release
from tests.deploy.cluster.services import addresses, service_proxy
from tests.redis_server import RedisServer
from worker.kubernetes import DELETION_COST, INTERVAL_S

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

VOICEPOOL = Path(sys.executable).with_name("voicepool")

CALLS_PER_POD = 6
"""How many calls a pod is meant for; the rest of its slots is for the time that new pods need."""

STABILIZATION_S = 20
"""Longer than the annotations of pods lag behind their calls (INTERVAL_S and a little)."""

assert STABILIZATION_S > 2 * INTERVAL_S

FALLBACK = 4
"""Pods when nobody can tell how many calls there are."""

VALUES: dict[str, Any] = {
    "worker": {"processes": 1, "capacity": CAPACITY},
    "autoscaling": {
        "type": "keda",
        "minReplicas": 2,
        "maxReplicas": 5,
        "targetUtilization": 100 * CALLS_PER_POD // CAPACITY,
        "scaleUp": {"pods": 4, "periodSeconds": 5},
        "scaleDown": {"stabilizationSeconds": STABILIZATION_S, "pods": 1, "periodSeconds": 2},
        "keda": {"pollingInterval": 1, "fallback": {"failureThreshold": 3, "replicas": FALLBACK}},
    },
}


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A client of the pool's Redis."""
    client = connect(redis_url, timeout_s=20.0)
    yield client
    await client.aclose()


@pytest.fixture
def scaled(restricted: Release, redis_url: str) -> Iterator[Release]:
    """The chart, scaled by KEDA, which reads the project's HTTP API, which runs here with the chart's tokens."""
    restricted.apply(VALUES)
    directory, port = restricted.plane.directory, free_tcp_port()
    tokens = directory / "tokens"
    tokens.write_bytes(base64.b64decode(restricted.get("secret", f"{NAME}-admin")["data"]["tokens"]))
    environment = {"REDIS_URL": redis_url, "ADMIN_PORT": str(port), "ADMIN_TOKENS_FILE": str(tokens)}
    with (
        running([VOICEPOOL, "api"], directory / "api.log", environment) as api,
        service_proxy(dict.fromkeys(addresses(restricted, f"{NAME}-admin"), f"http://{HERE}:{port}")) as proxy,
        running_keda(restricted.plane, proxy),
    ):
        api.await_ready(lambda: '"admin.listening"' in (directory / "api.log").read_text(), START_S)
        yield restricted
        restricted.uninstall()  # while there is a KEDA to let go of its objects


@pytest.fixture
async def pods(scaled: Release, redis: Redis) -> AsyncIterator[Pods]:
    """The worker pods of the release, as they come and go."""
    followed = Pods(scaled, redis)
    async with asyncio.TaskGroup() as group:
        following = group.create_task(followed.follow())
        yield followed
        following.cancel()


async def test_pods_come_with_calls_and_the_idlest_goes_first(scaled: Release, pods: Pods) -> None:
    [first, second] = await pods.until(2)
    await first.take(9)
    await second.take(9)
    [*_, third] = await pods.until(18 // CALLS_PER_POD)
    await third.take(9)
    *_, fourth, fifth = await pods.until(5)  # 27 calls, rounded up

    for pod, calls in ((first, 3), (second, 4), (third, 1)):
        await pod.hang_up(9 - calls)
    await fourth.take(2)
    await fifth.take(5)
    for pod in (first, second, third, fourth, fifth):
        await asyncio.to_thread(_await_cost, scaled, pod)

    # 15 calls are enough for three pods; 12, once those of the first two are gone with them, for two.
    await pods.until(2)
    assert pods.removed == [third.name, fourth.name, first.name]


def test_without_figures_there_are_as_many_pods_as_the_fallback_says(
    scaled: Release, redis_server: RedisServer
) -> None:
    _await_replicas(scaled, VALUES["autoscaling"]["minReplicas"])
    redis_server.pause()
    try:
        _await_replicas(scaled, FALLBACK)
    finally:
        redis_server.resume()


def test_the_service_that_keda_asks_leads_to_the_http_api(restricted: Release) -> None:
    restricted.apply(VALUES)
    [scaler] = restricted.get("scaledobject")["items"]
    asked = urlsplit(scaler["spec"]["triggers"][0]["metadata"]["url"]).netloc
    assert asked in addresses(restricted, f"{NAME}-admin")
    [endpoints] = restricted.get("endpointslice", "-l", f"kubernetes.io/service-name={NAME}-admin")["items"]
    [ready] = [each["targetRef"]["name"] for each in endpoints["endpoints"] if each["conditions"]["ready"]]
    assert ready in restricted.pods("admin")


def _await_replicas(release: Release, count: int) -> None:
    """Returns once there are so many worker pods."""
    path = "{.status.readyReplicas}"
    release.kubectl("wait", f"--for=jsonpath={path}={count}", f"deployment/{NAME}-worker", "--timeout=60s")


def _await_cost(release: Release, pod: Pod) -> None:
    """Returns once Kubernetes knows how many calls the pod has."""
    path = "{.metadata.annotations." + DELETION_COST.replace(".", r"\.") + "}"
    release.kubectl("wait", f"--for=jsonpath={path}={len(pod.leases)}", f"pod/{pod.name}", "--timeout=30s")
