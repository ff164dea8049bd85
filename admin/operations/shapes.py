"""What operators get to see of the pool, the same in `--json` and over HTTP.

None of it has a telephone number or a word of a conversation in it: those are in whole call records only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from enum import StrEnum
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from shared.control import events
from shared.control.calls import CallRow
from shared.control.dispatchers import DispatcherRow
from shared.control.quotas import QuotaRow
from shared.control.workers import WorkerRow
from shared.messages import CallRecord
from shared.states import WorkerState


class Shape(BaseModel):
    """A value with a JSON form. Times are Unix time in ms."""

    model_config = ConfigDict(frozen=True)


class Worker(Shape):
    """One worker."""

    worker_id: str = Field(examples=["pod-a-0-3f9ac1d2"])
    pod: str = Field(description="The pod it belongs to.", examples=["pod-a"])
    pid: int
    sip_host: str
    sip_port: int
    capacity: int = Field(description="Slots: calls it carries at once.")
    leased: int = Field(description="Slots taken, by offered calls too.")
    state: WorkerState = Field(description="What it said with its last heartbeat.")
    alive: bool = Field(description="Whether that is recent enough for it to get calls.")
    heartbeat_age_ms: int
    started_at_ms: int
    labels: dict[str, str]
    cpu_percent: float = Field(description="CPU time of its process, in percent of one core.")
    loop_lag_ms: float = Field(description="How late its event loop was at worst since the heartbeat before.")
    loop_lag_p99_ms: float
    late_ticks: int = Field(description="Ticks of its audio clock that came more than 10 ms late.")
    late: bool = Field(description="It gets no new call for now, because it is late.")
    cut_off: list[str] = Field(description="Voice Live resources it cannot reach; empty is that of the settings.")

    @classmethod
    def of(cls, row: WorkerRow) -> Self:
        """Returns a row of the worker table."""
        fields = {**asdict(row.record), **asdict(row.health)}
        return cls(**fields, leased=row.leased, heartbeat_age_ms=row.heartbeat_age_ms, alive=row.alive)


class Dispatcher(Shape):
    """One dispatcher."""

    dispatcher_id: str = Field(examples=["front-d-1b2c3d4e"])
    pid: int
    sip_host: str = Field(description="Its own address, not that of a load balancer before it.")
    sip_port: int
    draining: bool = Field(description="It answers OPTIONS with 503 and refuses new calls.")
    alive: bool
    heartbeat_age_ms: int
    started_at_ms: int

    @classmethod
    def of(cls, row: DispatcherRow) -> Self:
        """Returns a row of the dispatcher table."""
        return cls(**asdict(row.record), heartbeat_age_ms=row.heartbeat_age_ms, alive=row.alive)


class RunningState(StrEnum):
    """How far a running call has come."""

    OFFERED = "offered"
    """Its worker has not taken it yet."""
    CONNECTING = "connecting"
    """It rings, while its session is opened."""
    TALKING = "talking"


class RunningCall(Shape):
    """One call that holds a lease now."""

    call_id: str = Field(examples=["3f9ac1d20b8e4f5a6c7d"])
    state: RunningState
    worker_id: str
    agent: str = Field(description="Who answers; empty when the dispatcher did not look.")
    resource: str = Field(description="Voice Live resource it counts against; empty is that of the settings.")
    peer: str = Field(description="IP address its INVITE came from.")
    invite_at_ms: int
    answered_at_ms: int | None

    @classmethod
    def of(cls, row: CallRow) -> Self:
        """Returns a row of the running calls."""
        lease = row.lease
        state = RunningState.TALKING if lease.answered_at_ms else RunningState.CONNECTING
        return cls(
            call_id=lease.call_id,
            state=state if row.claimed else RunningState.OFFERED,
            worker_id=lease.worker_id,
            agent=lease.agent,
            resource=lease.resource,
            peer=lease.peer,
            invite_at_ms=lease.invite_at_ms,
            answered_at_ms=lease.answered_at_ms,
        )


class EndedCall(Shape):
    """What became of a call, without numbers and conversation."""

    call_id: str
    state: Literal["ended"] = "ended"
    worker_id: str
    agent: str
    model: str
    result: str = Field(description="completed, cancelled, refused, failed or lost.")
    reason: str = Field(examples=["caller_hangup"])
    invite_at_ms: int
    answered_at_ms: int | None
    ended_at_ms: int
    transfer: str = Field(description="Name of the target the caller was transferred to.")
    cost: float | None
    currency: str

    @classmethod
    def of(cls, record: CallRecord) -> Self:
        """Returns the summary of a call record."""
        return cls(**{name: getattr(record, name) for name in cls.model_fields if name != "state"})


class Quota(Shape):
    """A Voice Live resource: its limits, and what the whole pool has left of them. No limit is null."""

    resource: str = Field(description="As in the agent file; empty is that of the settings.")
    sessions: int = Field(description="Calls that have it.")
    sessions_limit: int | None
    connections_left: float | None = Field(
        description="New sessions that may be opened now; negative after reconnects."
    )
    connections_per_minute: int | None
    tokens_left: int | None
    tokens_per_minute: int | None
    share: float = Field(description="Share of the limits in use since the service said 429: 0 to 1.")
    blocked_s: float = Field(description="How much longer nothing is opened there, because the service asked for it.")
    waiting: int = Field(description="Callers that wait for it.")
    longest_wait_s: float

    @classmethod
    def of(cls, row: QuotaRow) -> Self:
        """Returns a row of the quota table."""
        quota = row.quota
        return cls(
            resource=quota.name,
            sessions=row.sessions,
            sessions_limit=quota.sessions or None,
            connections_left=row.connections_left if quota.connections_per_minute else None,
            connections_per_minute=quota.connections_per_minute or None,
            tokens_left=row.tokens_left if quota.tokens_per_minute else None,
            tokens_per_minute=quota.tokens_per_minute or None,
            share=row.share,
            blocked_s=row.blocked_s,
            waiting=row.waiting,
            longest_wait_s=row.longest_wait_s,
        )


class Event(Shape):
    """Something that happened in the pool. What it is about stands beside, as text: call_id, worker_id and others."""

    model_config = ConfigDict(
        frozen=True,
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "id": "1700000000000-0",
                    "event": "worker.left",
                    "at_ms": 1_700_000_000_000,
                    "worker_id": "pod-a-0-3f9a",
                }
            ]
        },
    )

    id: str = Field(description="Its position among all events, to read on from.")
    event: str
    at_ms: int

    @property
    def about(self) -> Mapping[str, str]:
        """What it is about."""
        return self.model_extra or {}

    @classmethod
    def of(cls, event: events.Event) -> Self:
        """Returns an entry of the event stream."""
        return cls.model_validate(event.flat())


class Totals(Shape):
    """The pool in figures."""

    workers: int = Field(description="Workers that are alive.")
    ready: int = Field(description="Of these, those that take new calls: neither starting, nor draining, nor late.")
    draining: int
    silent: int = Field(description="Workers that were not heard of lately.")
    dispatchers: int = Field(description="Dispatchers that are alive.")
    dispatchers_draining: int = Field(description="Of these, those that refuse new calls.")
    calls: int = Field(description="Slots taken, those of workers that have just fallen silent too.")
    capacity: int = Field(description="Slots of those workers that are alive and neither starting nor draining.")
    waiting: int = Field(description="Callers that wait for a Voice Live resource.")

    @classmethod
    def of(cls, workers: Sequence[Worker], dispatchers: Sequence[Dispatcher], quotas: Sequence[Quota]) -> Self:
        """Returns the figures of what was seen at about one moment."""
        alive = [worker for worker in workers if worker.alive]
        ready = [worker for worker in alive if worker.state is WorkerState.READY]
        return cls(
            workers=len(alive),
            ready=sum(not worker.late for worker in ready),
            draining=sum(worker.state is WorkerState.DRAINING for worker in alive),
            silent=len(workers) - len(alive),
            dispatchers=sum(dispatcher.alive for dispatcher in dispatchers),
            dispatchers_draining=sum(dispatcher.alive and dispatcher.draining for dispatcher in dispatchers),
            calls=sum(worker.leased for worker in workers),
            capacity=sum(worker.capacity for worker in ready),
            waiting=sum(quota.waiting for quota in quotas),
        )


class Pool(Shape):
    """Who there is."""

    workers: list[Worker]
    dispatchers: list[Dispatcher]


class Result(StrEnum):
    """What came of one command."""

    DONE = "done"
    FAILED = "failed"
    UNKNOWN = "unknown"
    """Redis went away meanwhile."""


class Outcome(Shape):
    """What came of one command to one target."""

    target: str = Field(description="Worker, dispatcher or call.")
    result: Result
    detail: str = Field(description="Why it failed, or what came of it; for people.")

    @property
    def reason(self) -> str:
        """Why it failed, and what it was for."""
        return self.detail if self.detail.startswith(self.target) else f"{self.target}: {self.detail}"
