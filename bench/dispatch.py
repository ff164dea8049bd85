"""How many new calls per second one dispatcher process sustains, and how long an INVITE takes to pass through it.

    load core      callers, workers without media, redis-server
    subject core   the dispatcher

The control plane is the real one: workers register and beat, each call is leased by the dispatcher, its token verified
and its lease claimed and released through Redis. Only the media is missing, so what the workers can carry is not shown.

INVITE in is the time just before the caller's send, INVITE out the kernel's receive time at the worker's socket; the
event loop of the load is in neither. Calls arrive at random (a Poisson process of a fixed number of calls, same seed
every time), last a second, and come whether or not the ones before were served.

A dispatcher remembers a SIP transaction for up to 32 s, so its memory, and with it each full garbage collection, grows
for that long. Each rate starts with what the ones before left; for a steady state give more than 32 s.
"""

import asyncio
import gc
import math
import os
import random
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from bench.load.sdp import offer
from bench.load.silent_worker import SilentWorker
from bench.load.sip import Dialog, Refused, SipCaller
from bench.rig import ADDRESS, LEASE_SECRET, Rig, rig
from bench.usage import CoreTime, busy_percent, core_time, cpu_seconds
from shared.control.connection import connect
from shared.control.leases import Leases
from shared.control.workers import Workers

LATENCY_RATE = 100.0
"""Calls per second at which the time of an INVITE is measured."""

FIRST_RATE = 200.0
STEP = 100.0
"""Where the search for the highest rate begins, and by how much it goes on."""

ATTEMPTS = 2
"""A rate that failed is tried once more before it counts: a hiccup of the machine is not the dispatcher's limit."""

HOLD_S = 1.0
"""Between answer and BYE."""

SETUP_LIMIT_S = 5.0
"""Longest wait for an answer; a call that takes this long has failed."""

P95_LIMIT_MS = 50.0
"""Above this a rate is not sustained: the dispatcher has begun to queue."""

LATE_LIMIT_S = 0.25
"""A load that sends its INVITEs later than this after their time does not offer the rate."""

LOAD_LIMIT_PERCENT = 90.0
"""A load core busier than this at the breaking step is itself the limit."""

IDLE_LIMIT_S = 60.0
"""Longest wait between two rates for leases to be given back or to lapse."""

WORKERS = 4
CAPACITY = 2500
"""Of each worker: more than there are ever calls at once."""

_SEED = 1
_SDP = offer(ADDRESS, 40_000)


@dataclass(frozen=True, slots=True)
class Spread:
    """Percentiles, in ms."""

    p50: float
    p95: float
    max: float


@dataclass(frozen=True, slots=True)
class Busy:
    """CPU use during one step, in percent of one core."""

    cpu_percent: float
    """Of the whole load core, foreign processes included."""
    caller_percent: float
    """Of the process with callers and workers."""
    redis_percent: float


@dataclass(frozen=True, slots=True)
class Step:
    """What one rate came to."""

    rate: float
    """Calls per second offered."""
    calls: int
    failed: int
    """Calls whose INVITE or BYE got no 200."""
    retransmitted: int
    """INVITEs that had to be sent again."""
    late_ms: float
    """The most that an INVITE was sent after its time."""
    invite_ms: Spread
    dispatcher_percent: float
    """CPU use of the dispatcher."""
    cpu_ms_per_call: float
    """CPU time of the dispatcher by call."""
    load: Busy

    @property
    def trouble(self) -> str:
        """Why this rate was not sustained; empty when it was."""
        if self.failed:
            return f"{self.failed} of {self.calls} calls failed"
        if self.retransmitted:
            return f"{self.retransmitted} of {self.calls} INVITEs had to be sent again"
        if self.invite_ms.p95 > P95_LIMIT_MS:
            return f"p95 of the INVITE was {self.invite_ms.p95:.0f} ms"
        if self.late_ms > LATE_LIMIT_S * 1000:
            return f"the load was {self.late_ms:.0f} ms late"
        return ""


@dataclass(frozen=True, slots=True)
class DispatchResult:
    """Outcome of the benchmark."""

    calls_per_s: float
    """Highest rate sustained, 0 when not even the first was."""
    invite_ms: Spread
    """INVITE in to INVITE out at 100 calls/s."""
    cpu_ms_per_call: float
    """CPU time of the dispatcher by call at the highest rate sustained."""
    load: Busy
    """At the highest rate offered."""
    limited_by: Literal["dispatcher", "load", "rate"]
    """`rate`: the given rate was sustained and nothing higher was tried."""
    reason: str
    """What broke beyond `calls_per_s`."""
    steps: Sequence[Step]
    """All rates in the order tried, the one for the latency first."""


async def run(rate: float | None, seconds: float, directory: Path) -> DispatchResult:
    """Measures the time of an INVITE, then the given rate, or searches the highest; `seconds` is for each rate.

    Raises RigError when nothing can be measured.
    """
    async with _pool(directory) as load:
        steps = [await load.step(LATENCY_RATE, seconds)]
        current = rate or FIRST_RATE
        while True:
            for _ in range(ATTEMPTS):
                steps.append(await load.step(current, seconds))
                if not steps[-1].trouble:
                    break
            if steps[-1].trouble or rate:
                return outcome(steps)
            current += STEP


def outcome(steps: Sequence[Step]) -> DispatchResult:
    """Returns what the rates tried so far come to; `steps[0]` is the one for the time of an INVITE."""
    last = steps[-1]
    best = max((step for step in steps if not step.trouble), key=lambda step: step.rate, default=None)
    limited_by: Literal["dispatcher", "load", "rate"] = "rate"
    if last.trouble:
        limited_by = "load" if last.load.cpu_percent > LOAD_LIMIT_PERCENT else "dispatcher"
    return DispatchResult(
        calls_per_s=best.rate if best else 0.0,
        invite_ms=steps[0].invite_ms,
        cpu_ms_per_call=(best or last).cpu_ms_per_call,
        load=last.load,
        limited_by=limited_by,
        reason=f"at {last.rate:.0f} calls/s {last.trouble}" if last.trouble else "",
        steps=steps,
    )


@dataclass(frozen=True, slots=True)
class _Call:
    """One call that is over."""

    dialog: Dialog
    late_s: float
    """From when the INVITE was due to when it was begun."""
    served: bool
    """Whether INVITE and BYE both got their 200."""


@dataclass(frozen=True, slots=True)
class _Used:
    """CPU time used so far."""

    at: float
    core: CoreTime
    caller_s: float
    redis_s: float
    dispatcher_s: float


class _Load:
    """Callers and workers around one dispatcher."""

    def __init__(self, rig: Rig, caller: SipCaller, workers: Sequence[SilentWorker]) -> None:
        self._rig = rig
        self._caller = caller
        self._workers = workers

    async def step(self, rate: float, seconds: float) -> Step:
        """Offers `rate` calls per second for `seconds` and returns once all calls are over."""
        draw = random.Random(_SEED)
        times = sorted(draw.uniform(0, seconds) for _ in range(round(rate * seconds)))
        for worker in self._workers:
            worker.invite_ns.clear()
        with _without_collections():
            before, start = self._used(), time.monotonic()
            async with asyncio.TaskGroup() as tasks:
                calling = []
                for at in times:
                    await asyncio.sleep(start + at - time.monotonic())
                    calling.append(tasks.create_task(self._call(start + at)))
                offered = self._used()
            after = self._used()
        calls = [task.result() for task in calling]
        await self._rig.until_idle(IDLE_LIMIT_S)
        return Step(
            rate=rate,
            calls=len(calls),
            failed=sum(not call.served for call in calls),
            retransmitted=sum(call.dialog.retransmissions > 0 for call in calls),
            late_ms=round(max(call.late_s for call in calls) * 1000, 1),
            invite_ms=self._spread(call.dialog for call in calls),
            dispatcher_percent=_percent(before, offered, offered.dispatcher_s - before.dispatcher_s),
            cpu_ms_per_call=round(1000 * (after.dispatcher_s - before.dispatcher_s) / len(calls), 3),
            load=Busy(
                cpu_percent=round(busy_percent(before.core, offered.core), 1),
                caller_percent=_percent(before, offered, offered.caller_s - before.caller_s),
                redis_percent=_percent(before, offered, offered.redis_s - before.redis_s),
            ),
        )

    async def _call(self, due: float) -> _Call:
        late_s = time.monotonic() - due
        try:
            dialog = await self._caller.invite(ADDRESS, self._rig.dispatcher_port, _SDP, timeout_s=SETUP_LIMIT_S)
        except Refused as refused:
            return _Call(refused.dialog, late_s, served=False)
        await asyncio.sleep(HOLD_S)
        return _Call(dialog, late_s, served=await dialog.bye(SETUP_LIMIT_S) == 200)

    def _spread(self, dialogs: Iterable[Dialog]) -> Spread:
        """Returns how long the INVITEs that reached a worker took."""
        received = {call_id: ns for worker in self._workers for call_id, ns in worker.invite_ns.items()}
        took = [(received[d.call_id] - d.marks_ns["invite"]) / 1e6 for d in dialogs if d.call_id in received]
        if not took:
            return Spread(math.inf, math.inf, math.inf)
        p50, p95 = np.percentile(took, [50, 95])
        return Spread(round(float(p50), 2), round(float(p95), 2), round(max(took), 2))

    def _used(self) -> _Used:
        return _Used(
            at=time.monotonic(),
            core=core_time(self._rig.cores.load),
            caller_s=cpu_seconds(os.getpid()),
            redis_s=cpu_seconds(self._rig.redis_pid),
            dispatcher_s=cpu_seconds(self._rig.dispatcher_pid),
        )


def _percent(before: _Used, after: _Used, cpu_s: float) -> float:
    return round(100 * cpu_s / (after.at - before.at), 1)


@contextmanager
def _without_collections() -> Iterator[None]:
    """Keeps the garbage collector out of the block: it stops callers and workers for longer than an INVITE takes."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@asynccontextmanager
async def _pool(directory: Path) -> AsyncIterator[_Load]:
    """Yields the load around a dispatcher that knows its workers."""
    async with rig(directory) as started, AsyncExitStack() as stack:
        await started.start_redis()
        redis = await stack.enter_async_context(connect(started.redis_url))
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        workers = []
        for number in range(WORKERS):
            worker = SilentWorker(ADDRESS, number, CAPACITY, Workers(redis), Leases(redis), LEASE_SECRET, tasks)
            stack.callback(worker.close)
            await worker.register()
            workers.append(worker)
        await started.start_dispatcher(started.cores.subject)
        yield _Load(started, await stack.enter_async_context(SipCaller.open(ADDRESS)), workers)
