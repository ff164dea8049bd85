"""How this worker process is doing: how late its event loop and its audio clock are, and how much of a core it uses.

It says whether that is too late for another call, and does nothing about it: placement does. The lag is what a timer
sees that is due every 50 ms: whatever else waits for the loop, audio included, waits as long.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection
from itertools import pairwise

import structlog

from shared.messages import WorkerHealth

log = structlog.get_logger()

INTERVAL_S = 0.05
"""An idle worker pays 0.2 % of a core for it; every 10 ms would be 1.5 %."""

LOOP_LATE_MS = 50.0
"""The loop is late when a period's p99 is beyond: so much is noticed at the start of an answer, and in a barge-in."""

TICKS_LATE_SHARE = 0.02
"""The audio clock is late when more of a period's ticks than this share were, and more than one: one is a pause."""

BAD_PERIODS = 2
"""Bad periods in a row after which a worker is late: one alone is a pause of the whole machine, or one collection of
garbage, which would take the only worker of a pool out for nothing."""

GOOD_PERIODS = 3
"""Good periods in a row after which a worker is late no more: one that is overloaded does not come and go."""

SAMPLES_MAX = 1200
"""A minute of them, for when nobody asks: Redis is away, or the SIP stack does not answer. Full: the oldest go."""

TakeTicks = Callable[[], tuple[int, int, int]]
"""Ticks of the audio clock since it was last called, late ones among them, and the longest in ns."""


class Lateness:
    """Whether a worker is too late for another call: from BAD_PERIODS in a row until GOOD_PERIODS in a row."""

    def __init__(self) -> None:
        self.late = False
        """As of the latest period; a worker begins in time."""
        self._otherwise = 0
        """Latest periods in a row that say otherwise."""

    def judge(self, loop_lag_p99_ms: float, ticks: int, late_ticks: int) -> bool:
        """Takes in a period, in which there are no ticks without calls; says whether the worker is late now."""
        bad = loop_lag_p99_ms > LOOP_LATE_MS or late_ticks > max(1, TICKS_LATE_SHARE * ticks)
        self._otherwise = self._otherwise + 1 if bad != self.late else 0
        if self._otherwise == (GOOD_PERIODS if self.late else BAD_PERIODS):
            self.late, self._otherwise = bad, 0
        return self.late


class Health:
    """Measures from `start` to `stop`; `take` returns what was measured, a period at a time."""

    def __init__(self, take_ticks: TakeTicks) -> None:
        self._take_ticks = take_ticks
        self._lateness = Lateness()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._lags_s: deque[float] = deque(maxlen=SAMPLES_MAX)
        self._since, self._cpu_s = time.monotonic(), time.process_time()

    def start(self) -> None:
        """Begins to measure."""
        # uvloop's own clock has whole milliseconds and stands still while a callback runs.
        self._due = time.monotonic() + INTERVAL_S
        self._timer = asyncio.get_running_loop().call_later(INTERVAL_S, self._tick)

    def stop(self) -> None:
        """Stops measuring."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def take(self) -> WorkerHealth:
        """Returns lag, late ticks and CPU time of the period that ends now, and judges them.

        Periods are about as long as each other: one pause must not be two bad ones.
        """
        now, cpu_s = time.monotonic(), time.process_time()
        elapsed_s = max(now - self._since, 1e-9)
        if self._timer is not None:
            self._look()  # a tick that is overdue counts with what it has missed so far
        worst_ms = round(1000 * max(self._lags_s, default=0.0), 2)
        p99_ms = round(1000 * p99(self._lags_s, elapsed_s), 2)
        ticks, late_ticks, longest_ns = self._take_ticks()
        was_late, late = self._lateness.late, self._lateness.judge(p99_ms, ticks, late_ticks)
        if late and not was_late:
            longest_ms = longest_ns // 1_000_000
            log.warning("worker.late", loop_lag_p99_ms=p99_ms, late_ticks=late_ticks, longest_tick_ms=longest_ms)
        elif was_late and not late:
            log.info("worker.in_time")
        cpu_percent = round(100 * (cpu_s - self._cpu_s) / elapsed_s, 1)
        self._since, self._cpu_s = now, cpu_s
        self._lags_s.clear()
        return WorkerHealth(
            loop_lag_ms=worst_ms, loop_lag_p99_ms=p99_ms, cpu_percent=cpu_percent, late_ticks=late_ticks, late=late
        )

    def _tick(self) -> None:
        self._look()
        self.start()

    def _look(self) -> None:
        """Counts how long the timer has been overdue, from where it was looked at last."""
        now = time.monotonic()
        if now > self._due:
            self._lags_s.append(now - self._due)
            self._due = now


def p99(lags_s: Collection[float], elapsed_s: float) -> float:
    """Returns the lag in s that 1 % of a period's moments exceeded; a lag is how long the loop was held up at a time.

    It is not the p99 of the lags: what came due while one lasted waited too, each moment for what was left of it.
    """
    room_s = 0.01 * elapsed_s
    for count, (lag_s, next_s) in enumerate(pairwise([*sorted(lags_s, reverse=True), 0.0]), 1):
        band_s = count * (lag_s - next_s)
        if band_s >= room_s:
            return lag_s - room_s / count
        room_s -= band_s
    return 0.0
