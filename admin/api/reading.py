"""The endpoints that only look: the pool, its calls, records, quotas and events; figures for autoscalers; probes."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import Field
from redis.asyncio import Redis

from admin.api import problems
from admin.api.access import Operator, Reader, audit
from admin.operations import look, records
from admin.operations.finding import only
from admin.operations.shapes import (
    Dispatcher,
    EndedCall,
    Event,
    Quota,
    RunningCall,
    Shape,
    Totals,
    Worker,
)
from shared.clock import now_ms
from shared.ending import CallResult
from shared.errors import ControlUnavailable
from shared.messages import CallRecord


def _redis(request: Request) -> Redis:
    client: Redis = request.app.state.redis
    return client


TheRedis = Annotated[Redis, Depends(_redis)]
"""The control plane."""

AnId = Annotated[str, Path(description="The call's id, or how it begins.", max_length=64)]

Since = Annotated[
    str | None,
    Query(description="`90s`, `30m`, `2h` or `7d` ago, or an ISO 8601 time.", max_length=40, examples=["1h"]),
]

router = APIRouter(prefix="/v1", responses=problems.documented(401, 422, 429, 503))
figures = APIRouter(prefix="/metrics-api", tags=["autoscaling"], responses=problems.documented(401, 429, 503))
probes = APIRouter(tags=["probes"])


@router.get("/pool", tags=["pool"])
async def pool(redis: TheRedis, _: Reader) -> Totals:
    """The pool in figures."""
    return await look.totals(redis)


@router.get("/workers", tags=["pool"])
async def workers(redis: TheRedis, _: Reader) -> list[Worker]:
    """All workers, the silent ones too."""
    return await look.workers(redis)


@router.get("/dispatchers", tags=["pool"])
async def dispatchers(redis: TheRedis, _: Reader) -> list[Dispatcher]:
    """All dispatchers."""
    return await look.dispatchers(redis)


@router.get("/quotas", tags=["pool"])
async def quotas(redis: TheRedis, _: Reader) -> list[Quota]:
    """The Voice Live resources: their limits, and what the pool has left of them."""
    return await look.quotas(redis)


@router.get("/calls", tags=["calls"])
async def calls(redis: TheRedis, _: Reader) -> list[RunningCall]:
    """The running calls, those that began first at the beginning."""
    return await look.calls(redis)


@router.get("/calls/{call_id}", tags=["calls"], responses=problems.documented(404, 409))
async def call(redis: TheRedis, _: Reader, call_id: AnId) -> RunningCall | EndedCall:
    """One call, running or ended. What was said and who called is in its record."""
    found = await look.call(redis, call_id)
    return EndedCall.of(found) if isinstance(found, CallRecord) else found


@router.get("/records", tags=["records"])
async def record_list(
    redis: TheRedis,
    _: Reader,
    count: Annotated[int, Query(ge=1, le=1000, description="The newest so many of those that fit.")] = 100,
    since: Since = None,
    result: Annotated[CallResult | None, Query(description="Calls that turned out so.")] = None,
    agent: Annotated[str | None, Query(description="Calls that this agent answered.", max_length=100)] = None,
) -> list[EndedCall]:
    """What became of the calls that ended last, oldest first; dated by their end."""
    wanted = records.Wanted(count, _since_ms(since) or 0, result, agent)
    return [EndedCall.of(record) for record in (await records.newest(redis, wanted))[0]]


@router.get("/records/{call_id}", tags=["records"], responses=problems.documented(403, 404, 409))
async def record(redis: TheRedis, caller: Operator, call_id: AnId) -> CallRecord:
    """The whole record of a call, with what the agent's `keep` lets be kept: numbers, transcript, tools, digits.

    Needs the role operate, and is in the audit log.
    """
    found = only("call", call_id, await records.find(redis, call_id))
    audit(caller, "record", found.call_id, "done")
    return found


@router.get("/events", tags=["events"])
async def events(
    redis: TheRedis,
    _: Reader,
    count: Annotated[int, Query(ge=1, le=1000, description="The newest so many.")] = 100,
    since: Since = None,
) -> list[Event]:
    """What happened lately, oldest first."""
    return await look.events(redis, count, since_ms=_since_ms(since))


class ActiveCalls(Shape):
    """What an autoscaler goes by."""

    active_calls: int = Field(description="Slots taken, offered calls too.", examples=[42])
    capacity: int = Field(description="Slots of the workers that take new calls or will again when they are not late.")
    workers: int = Field(description="Workers that are alive.")
    calls_per_worker: float = Field(description="active_calls by workers; 0 without workers.")


@figures.get("/active-calls")
async def active_calls(redis: TheRedis, _: Reader) -> ActiveCalls:
    """Figures for KEDA's metrics-api scaler. Without Redis this is 503, never a zero that nobody counted."""
    totals = await look.totals(redis)
    each = totals.calls / totals.workers if totals.workers else 0.0
    return ActiveCalls(
        active_calls=totals.calls, capacity=totals.capacity, workers=totals.workers, calls_per_worker=round(each, 3)
    )


class Probe(Shape):
    """An answer to a probe."""

    status: str = Field(examples=["ok"])


@probes.get("/livez")
async def livez() -> Probe:
    """Whether this process answers. Needs no token."""
    return Probe(status="ok")


@probes.get("/readyz", responses=problems.documented(503))
async def readyz(redis: TheRedis) -> Probe:
    """Whether Redis answers this process. Needs no token."""
    try:
        await look.redis_answers(redis)
    except ControlUnavailable:
        raise problems.Problem(503, "redis-unavailable", "Redis does not answer") from None
    return Probe(status="ready")


def _since_ms(since: str | None) -> int | None:
    if since is None:
        return None
    try:
        return records.moment(since, now_ms())
    except ValueError as error:
        raise problems.Problem(422, "invalid", f"query.since: {error}") from None
