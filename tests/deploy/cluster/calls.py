"""Calls that come and go in the worker pods of a release, whoever sets the number of these."""

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from tests.deploy.cluster.pods import CAPACITY, Pod, Pods
from tests.deploy.cluster.release import NAME, Release
from worker.kubernetes import DELETION_COST, INTERVAL_S

CALLS_PER_POD = 6
"""How many calls a pod is meant for; the rest of its slots is for the time that new pods need."""

STABILIZATION_S = 20
"""Longer than the annotations of pods lag behind their calls (INTERVAL_S and a little)."""

assert STABILIZATION_S > 2 * INTERVAL_S

FEWEST, MOST = 2, 5
"""Pods."""


def values(kind: str, *, stabilization_s: int = STABILIZATION_S, **more: Any) -> dict[str, Any]:
    """Values of the chart with an autoscaler of this kind that is in a hurry; `more` is what only that kind has."""
    return {
        "worker": {"processes": 1, "capacity": CAPACITY},
        "autoscaling": {
            "type": kind,
            "minReplicas": FEWEST,
            "maxReplicas": MOST,
            "targetUtilization": 100 * CALLS_PER_POD // CAPACITY,
            "scaleUp": {"pods": 4, "periodSeconds": 5},
            "scaleDown": {"stabilizationSeconds": stabilization_s, "pods": 1, "periodSeconds": 2},
            kind: more,
        },
    }


@asynccontextmanager
async def followed(release: Release, redis: Redis, listeners: MutableMapping[str, str]) -> AsyncIterator[Pods]:
    """The worker pods of the release, as they come and go in the block; `listeners` as in `Pods`."""
    pods = Pods(release, redis, listeners)
    async with asyncio.TaskGroup() as group:
        following = group.create_task(pods.follow())
        yield pods
        following.cancel()


async def come_and_go(release: Release, pods: Pods) -> None:
    """Asserts that pods are added as calls come, and that those with the fewest are removed first as calls end."""
    [first, second] = await pods.until(FEWEST)
    await first.take(9)
    await second.take(9)
    [*_, third] = await pods.until(18 // CALLS_PER_POD)
    await third.take(9)
    *_, fourth, fifth = await pods.until(MOST)  # 27 calls, rounded up

    for pod, calls in ((first, 3), (second, 4), (third, 1)):
        await pod.hang_up(9 - calls)
    await fourth.take(2)
    await fifth.take(5)
    for pod in (first, second, third, fourth, fifth):
        await asyncio.to_thread(_await_cost, release, pod)

    # 15 calls are enough for three pods; 12, once those of the first two are gone with them, for two.
    await pods.until(FEWEST)
    assert pods.removed == [third.name, fourth.name, first.name]


def _await_cost(release: Release, pod: Pod) -> None:
    """Returns once Kubernetes knows how many calls the pod has."""
    path = "{.metadata.annotations." + DELETION_COST.replace(".", r"\.") + "}"
    release.kubectl("wait", f"--for=jsonpath={path}={len(pod.leases)}", f"pod/{pod.name}", "--timeout=30s")


def await_replicas(release: Release, count: int) -> None:
    """Returns once there are so many worker pods."""
    path = "{.status.readyReplicas}"
    release.kubectl("wait", f"--for=jsonpath={path}={count}", f"deployment/{NAME}-worker", "--timeout=60s")
