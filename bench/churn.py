"""Whether anything is left behind: many short calls, one after the other, and what the worker holds afterwards.

Each call is answered, hears speech and is hung up by the caller. Memory and descriptors are read while no call is up:
after a warm-up that is longer than SIP remembers a call, and at the end.
"""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import usage
from bench.callers import Callers
from bench.density import model_options
from bench.load.sip import Refused
from bench.progress import Progress
from bench.rig import PoolOptions, Rig, RigError, pool

WARM_UP_S = 40.0

REST_S = 36.0
"""Before memory is read: pjsip keeps an ended call's dialog and transactions for 32 s (RFC 3261, timers H and J)."""

SAMPLE_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Options:
    """What to do."""

    per_second: float = 20.0
    seconds: float = 300.0
    talk_s: float = 1.0
    """How long each call lasts from its answer on."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a process holds at one moment."""

    rss_kb: int
    descriptors: int
    threads: int


@dataclass(frozen=True, slots=True)
class Churn:
    """The result of one run."""

    options: Options
    calls: int
    failed: int
    records: int
    leased: int
    """Slots that are taken after the last call."""
    warm: Holdings
    """After the warm-up and a rest."""
    end: Holdings
    """After the last call and a rest."""
    rss_kb: list[tuple[float, int]]
    """(s since the start, RSS in kB), while calls come and go."""

    def as_json(self) -> dict[str, Any]:
        """Returns the result as plain values."""
        return {
            "calls": self.calls,
            "failed": self.failed,
            "records": self.records,
            "leased": self.leased,
            "calls_per_s": self.options.per_second,
            "seconds": self.options.seconds,
            "rss_mb": {"start": round(self.warm.rss_kb / 1024, 1), "end": round(self.end.rss_kb / 1024, 1)},
            "rss_bytes_per_call": round(1024 * (self.end.rss_kb - self.warm.rss_kb) / max(1, self.calls)),
            "descriptors": {"start": self.warm.descriptors, "end": self.end.descriptors},
            "threads": {"start": self.warm.threads, "end": self.end.threads},
        }


async def run(options: Options, directory: Path, progress: Progress) -> Churn:
    """Measures; raises RigError when the pool cannot be started."""
    capacity = int(options.per_second * (options.talk_s + 2)) + 8
    progress.say("churn: starting the pool")
    async with pool(PoolOptions(calls=capacity, simulator=model_options(directory)), directory) as started:
        async with Callers.open(directory, started.dispatcher_port, started.cores.load) as callers:
            run = _Run(started, callers, options)
            progress.say(f"warming up: {WARM_UP_S:.0f} s of calls, {REST_S:.0f} s of rest")
            await run.calls_for(WARM_UP_S)
            warm = await run.rest()
            run.failed = run.made = 0
            before = len(await started.records(1_000_000))
            progress.say(f"{options.per_second:.0f} calls/s for {options.seconds:.0f} s, {REST_S:.0f} s of rest")
            await run.calls_for(options.seconds)
            end = await run.rest()
        records = len(await started.records(1_000_000)) - before
        return Churn(
            options=options,
            calls=run.made,
            failed=run.failed,
            records=records,
            leased=await started.leased(),
            warm=warm,
            end=end,
            rss_kb=run.samples,
        )


class _Run:
    """Calls that come and go."""

    def __init__(self, started: Rig, callers: Callers, options: Options) -> None:
        self._started = started
        self._callers = callers
        self._options = options
        self.made = 0
        self.failed = 0
        self.samples: list[tuple[float, int]] = []
        self._begin = time.monotonic()

    async def calls_for(self, seconds: float) -> None:
        """Makes calls at the given rate for so long, and waits until the last is over."""
        count = round(seconds * self._options.per_second)
        begin = time.monotonic()
        async with asyncio.TaskGroup() as group:
            sampling = group.create_task(self._sample())
            calls = []
            for number in range(count):
                await asyncio.sleep(max(0.0, begin + number / self._options.per_second - time.monotonic()))
                calls.append(group.create_task(self._call()))
            await asyncio.wait(calls)
            sampling.cancel()

    async def rest(self) -> Holdings:
        """Returns what the worker holds once the last call is forgotten."""
        await self._started.until_idle(20.0)
        await asyncio.sleep(REST_S)
        pid = self._started.worker_pid
        return Holdings(usage.rss_kb(pid), usage.descriptors(pid), usage.threads(pid))

    async def _call(self) -> None:
        self.made += 1
        try:
            caller = await self._callers.call()
        except (Refused, RigError):
            self.failed += 1
            return
        await self._callers.speak(caller)
        await asyncio.sleep(self._options.talk_s)
        await self._callers.hang_up_one(caller)

    async def _sample(self) -> None:
        while True:
            self.samples.append((time.monotonic() - self._begin, usage.rss_kb(self._started.worker_pid)))
            await asyncio.sleep(SAMPLE_EVERY_S)
