"""How late an event loop is: what a timer sees that is due every 50 ms. Whatever else waits for the loop waits as long.

It judges nothing.
"""

import asyncio
import time
from collections import deque
from collections.abc import Collection
from itertools import pairwise
from typing import NamedTuple

INTERVAL_S = 0.05
"""An idle process pays 0.2 % of a core for it; every 10 ms would be 1.5 %."""

SAMPLES_MAX = 1200
"""A minute of them, for when nobody asks: Redis is away, or the SIP stack does not answer. Full: the oldest go."""


class Lag(NamedTuple):
    """How late a loop was in one period, in s."""

    worst_s: float
    p99_s: float
    """What 1 % of the period's moments exceeded."""


class LoopLag:
    """Measures the running event loop from `start` to `stop`; `take` returns what was measured, a period at a time."""

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._lags_s: deque[float] = deque(maxlen=SAMPLES_MAX)
        self._since = time.monotonic()

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

    def take(self) -> Lag:
        """Returns the lag of the period that ends now."""
        now = time.monotonic()
        elapsed_s = max(now - self._since, 1e-9)
        if self._timer is not None:
            self._look()  # a tick that is overdue counts with what it has missed so far
        lag = Lag(max(self._lags_s, default=0.0), p99(self._lags_s, elapsed_s))
        self._since = now
        self._lags_s.clear()
        return lag

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
