"""The plain autoscaler follows the calls too: it reads them from Prometheus, through the adapter that users add."""

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.acceptance.pool import until
from tests.deploy.cluster.api import running_api
from tests.deploy.cluster.calls import CALLS_PER_POD, FEWEST, come_and_go, followed, values
from tests.deploy.cluster.plane import NODES
from tests.deploy.cluster.pods import Pods
from tests.deploy.cluster.prometheus import Watched
from tests.deploy.cluster.release import Release
from tests.deploy.cluster.services import service_proxy

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

IN_VAIN = 10
"""How often the autoscaler asks for figures, once a second, until it counts as doing nothing without."""

IN_VAIN_S = 60.0


@asynccontextmanager
async def watched(
    release: Release, redis: Redis, values: dict[str, Any], listeners: MutableMapping[str, str] | None = None
) -> AsyncIterator[tuple[Watched, Pods]]:
    """The chart with monitors, and its worker pods; `listeners` are others that Prometheus finds by their addresses."""
    reached = {} if listeners is None else listeners
    await asyncio.to_thread(release.apply, {**values, "monitoring": {"podMonitors": True, "scrapeSeconds": 1}})
    with service_proxy(reached) as proxy:
        found = Watched(release, proxy)
        await asyncio.to_thread(found.configure)
        async with followed(release, redis, reached) as pods:
            yield found, pods


async def test_pods_come_with_calls_and_the_idlest_goes_first(restricted: Release, redis: Redis) -> None:
    async with watched(restricted, redis, values("hpa")) as (release, pods):
        with release.prometheus(), release.adapter():
            await come_and_go(restricted, pods)


@pytest.mark.parametrize("kind", ["Pods", "External"])
async def test_without_figures_the_number_of_pods_stays(kind: str, restricted: Release, redis: Redis) -> None:
    hasty = values("hpa", stabilization_s=0, metricType=kind)
    async with watched(restricted, redis, hasty) as (release, pods):
        with release.adapter() as in_vain:
            with release.prometheus():
                [first, second] = await pods.until(FEWEST)
                await first.take(9)
                await second.take(9)
                await pods.until(18 // CALLS_PER_POD)
            await first.hang_up(9)
            enough = in_vain() + IN_VAIN
            await asyncio.to_thread(until, lambda: in_vain() >= enough, IN_VAIN_S, restricted.warnings)
            assert pods.removed == []
            with release.prometheus():
                await pods.until(FEWEST)


async def test_prometheus_finds_the_pods_that_share_a_node_and_the_http_api(
    privileged: Release, redis: Redis, redis_url: str
) -> None:
    count = len(NODES) + 1
    host = {"network": {"mode": "host"}, "worker": {"replicas": count}}
    listeners: dict[str, str] = {}
    async with watched(privileged, redis, host, listeners) as (release, pods):
        [admin] = privileged.pods("admin").values()
        with running_api(privileged, redis_url) as api, release.prometheus() as prometheus:
            listeners[f"{admin['status']['podIP']}:8080"] = api
            for pod in await pods.until(count):
                figure = f'voicepool_calls_active{{job="voicepool-worker",pod="{pod.name}"}}'
                await asyncio.to_thread(prometheus.wait_for, figure, 0.0)
            figure = 'voicepool_pool_workers{job="voicepool-admin",state="ready"}'
            await asyncio.to_thread(prometheus.wait_for, figure, float(count))
