"""How this worker process is doing: how late its event loop and its audio clock are, and how much of a core it uses.

It says whether that is too late for another call, and does nothing about it: placement does.
"""

import time
from collections.abc import Callable

import structlog

from shared.lag import LoopLag
from shared.messages import WorkerHealth

log = structlog.get_logger()

LOOP_LATE_MS = 50.0
"""The loop is late when a period's p99 is beyond: so much is noticed at the start of an answer, and in a barge-in."""

TICKS_LATE_SHARE = 0.02
"""The audio clock is late when more of a period's ticks than this share were, and more than one: one is a pause."""

BAD_PERIODS = 2
"""Bad periods in a row after which a worker is late: one alone is a pause of the whole machine, or one collection of
garbage, which would take the only worker of a pool out for nothing."""

GOOD_PERIODS = 3
"""Good periods in a row after which a worker is late no more: one that is overloaded does not come and go."""

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
        self._lag = LoopLag()
        self._since, self._cpu_s = time.monotonic(), time.process_time()

    def start(self) -> None:
        """Begins to measure."""
        self._lag.start()

    def stop(self) -> None:
        """Stops measuring."""
        self._lag.stop()

    def take(self) -> WorkerHealth:
        """Returns lag, late ticks and CPU time of the period that ends now, and judges them.

        Periods are about as long as each other: one pause must not be two bad ones.
        """
        now, cpu_s = time.monotonic(), time.process_time()
        elapsed_s = max(now - self._since, 1e-9)
        lag = self._lag.take()
        worst_ms, p99_ms = round(1000 * lag.worst_s, 2), round(1000 * lag.p99_s, 2)
        ticks, late_ticks, longest_ns = self._take_ticks()
        was_late, late = self._lateness.late, self._lateness.judge(p99_ms, ticks, late_ticks)
        if late and not was_late:
            longest_ms = longest_ns // 1_000_000
            log.warning("worker.late", loop_lag_p99_ms=p99_ms, late_ticks=late_ticks, longest_tick_ms=longest_ms)
        elif was_late and not late:
            log.info("worker.in_time")
        cpu_percent = round(100 * (cpu_s - self._cpu_s) / elapsed_s, 1)
        self._since, self._cpu_s = now, cpu_s
        return WorkerHealth(
            loop_lag_ms=worst_ms, loop_lag_p99_ms=p99_ms, cpu_percent=cpu_percent, late_ticks=late_ticks, late=late
        )
