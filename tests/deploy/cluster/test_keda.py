"""The number of worker pods follows the calls: KEDA reads the HTTP API, Kubernetes adds pods and removes the idlest."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis

from tests.deploy.cluster.api import running_api
from tests.deploy.cluster.calls import FEWEST, await_replicas, come_and_go, followed, values
from tests.deploy.cluster.keda import running_keda
from tests.deploy.cluster.pods import Pods
from tests.deploy.cluster.release import NAME, Release
from tests.deploy.cluster.services import addresses, service_proxy
from tests.redis_server import RedisServer

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

FALLBACK = 4
"""Pods when nobody can tell how many calls there are."""

VALUES: dict[str, Any] = values("keda", pollingInterval=1, fallback={"failureThreshold": 3, "replicas": FALLBACK})


@pytest.fixture
def scaled(restricted: Release, redis_url: str) -> Iterator[Release]:
    """The chart, scaled by KEDA, which reads the project's HTTP API."""
    restricted.apply(VALUES)
    with (
        running_api(restricted, redis_url) as api,
        service_proxy(dict.fromkeys(addresses(restricted, f"{NAME}-admin"), api)) as proxy,
        running_keda(restricted.plane, proxy),
    ):
        yield restricted
        restricted.uninstall()  # while there is a KEDA to let go of its objects


@pytest.fixture
async def pods(scaled: Release, redis: Redis) -> AsyncIterator[Pods]:
    """The worker pods of the release, as they come and go."""
    async with followed(scaled, redis, {}) as running:
        yield running


async def test_pods_come_with_calls_and_the_idlest_goes_first(scaled: Release, pods: Pods) -> None:
    await come_and_go(scaled, pods)


async def test_no_pod_goes_while_one_autoscaler_hands_over_to_the_other(scaled: Release, pods: Pods) -> None:
    [first, second] = await pods.until(FEWEST)
    await first.take(9)
    await second.take(9)
    [*_, third] = await pods.until(3)

    await asyncio.to_thread(scaled.apply, values("hpa"))  # which finds no figures here
    await asyncio.to_thread(_await, scaled, "--for=delete", f"hpa/keda-hpa-{NAME}-worker")
    await asyncio.to_thread(scaled.apply, VALUES)
    await asyncio.to_thread(_await, scaled, "--for=condition=Ready", f"scaledobject/{NAME}-worker")
    assert [each["metadata"]["name"] for each in scaled.get("hpa")["items"]] == [f"keda-hpa-{NAME}-worker"]
    assert pods.removed == []
    await third.take(9)
    await pods.until(5)


def test_without_figures_there_are_as_many_pods_as_the_fallback_says(
    scaled: Release, redis_server: RedisServer
) -> None:
    await_replicas(scaled, FEWEST)
    redis_server.pause()
    try:
        await_replicas(scaled, FALLBACK)
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


def _await(release: Release, what: str, whose: str) -> None:
    release.kubectl("wait", what, whose, "--timeout=60s")
