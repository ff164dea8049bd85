"""The pool in metrics for Prometheus, as Redis has it at the moment of the scrape.

What happens in calls the workers and dispatchers show themselves, each on its own port. No label names a call, a worker
or a person.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from admin.api import problems
from admin.api.access import Reader
from admin.api.reading import TheRedis
from admin.operations import look
from admin.operations.shapes import Pool, Quota, Totals, Worker
from shared.states import WorkerState
from shared.telemetry import catalogue
from shared.telemetry.catalogue import Metric, prometheus_name
from shared.telemetry.certificates import expiries

WORKER_STATES = (*(state.value for state in WorkerState if state is not WorkerState.STOPPED), "late", "silent")
"""All are shown, those that no worker is in as 0: a rule can tell none from unknown."""

DISPATCHER_STATES = ("ready", "draining", "silent")

router = APIRouter(tags=["metrics"], responses=problems.documented(401, 429, 503))

_Values = Mapping[tuple[str, ...], float]
"""The values of a metric, by those of its attributes in the order of the catalogue."""


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request, redis: TheRedis, _: Reader, accept: Annotated[str, Header()] = "") -> Response:
    """The whole pool in metrics, in Prometheus's text format or OpenMetrics. Without Redis this is 503."""
    seen = of_pool(await look.pool(redis), await look.quotas(redis))
    ends = await asyncio.to_thread(expiries, request.app.state.certificates)
    seen[catalogue.CERTIFICATE_EXPIRY] = {(purpose,): end for purpose, end in ends.items()}
    seen[catalogue.BUILD] = {(version("voicepool"),): 1}
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(_Seen(seen))
    encode, content_type = choose_encoder(accept)
    return Response(encode(registry), media_type=content_type)


def of_pool(pool: Pool, quotas: Iterable[Quota]) -> dict[Metric, _Values]:
    """Returns what the worker table, the dispatcher table and the quotas say, as metrics."""
    quotas = list(quotas)
    totals = Totals.of(pool.workers, pool.dispatchers, quotas)
    workers = Counter(map(_state, pool.workers))
    dispatchers = Counter(
        ("draining" if each.draining else "ready") if each.alive else "silent" for each in pool.dispatchers
    )
    free = sum(max(0, each.capacity - each.leased) for each in pool.workers if _state(each) == WorkerState.READY)
    return {
        catalogue.POOL_CALLS: {(): totals.calls},
        catalogue.POOL_SLOTS: {(): totals.capacity},
        catalogue.POOL_FREE_SLOTS: {(): free},
        catalogue.POOL_WORKERS: {(state,): workers[state] for state in WORKER_STATES},
        catalogue.POOL_DISPATCHERS: {(state,): dispatchers[state] for state in DISPATCHER_STATES},
        catalogue.QUOTA_USED: {(each.resource, kind): used for each in quotas for kind, used, _ in _kinds(each)},
        catalogue.QUOTA_LIMIT: {
            (each.resource, kind): limit for each in quotas for kind, _, limit in _kinds(each) if limit is not None
        },
    }


def _state(worker: Worker) -> str:
    if not worker.alive:
        return "silent"
    return "late" if worker.late and worker.state is WorkerState.READY else worker.state


def _kinds(quota: Quota) -> Iterator[tuple[str, float, float | None]]:
    """Yields what is limited, how much of it is used, and its limit; what has none is not counted, but for sessions."""
    yield "sessions", quota.sessions, quota.sessions_limit
    if quota.connections_per_minute is not None and quota.connections_left is not None:
        yield "connections", quota.connections_per_minute - quota.connections_left, quota.connections_per_minute
    if quota.tokens_per_minute is not None and quota.tokens_left is not None:
        yield "tokens", quota.tokens_per_minute - quota.tokens_left, quota.tokens_per_minute


class _Seen(Collector):
    """Values that are there already, for an encoder."""

    def __init__(self, seen: Mapping[Metric, _Values]) -> None:
        self._seen = seen

    def collect(self) -> Iterator[Any]:
        """Yields each metric with its values."""
        for metric, values in self._seen.items():
            family = GaugeMetricFamily(prometheus_name(metric), metric.description, labels=metric.attributes)
            for labels, value in values.items():
                family.add_metric(labels, value)
            yield family
