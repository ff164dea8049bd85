"""How this worker process is doing: how late its event loop is, and how much of a core it uses.

It judges nothing. The lag is what a timer sees that is due every 50 ms: whatever else waits for the loop, audio
included, waits as long.
"""

import asyncio
import time

from shared.messages import WorkerHealth

INTERVAL_S = 0.05


class Health:
    """Measures from `start` to `stop`; `take` returns what was measured since it was last called."""

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._worst_s = 0.0
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

    def take(self) -> WorkerHealth:
        """Returns the worst lag and the CPU time since the last call, or since the start."""
        now, cpu_s = time.monotonic(), time.process_time()
        elapsed = max(now - self._since, 1e-9)
        # A tick that is overdue at this moment counts with what it has missed so far.
        worst_s = max(self._worst_s, time.monotonic() - self._due if self._timer else 0.0)
        health = WorkerHealth(
            loop_lag_ms=round(1000 * worst_s, 2), cpu_percent=round(100 * (cpu_s - self._cpu_s) / elapsed, 1)
        )
        self._worst_s, self._since, self._cpu_s = 0.0, now, cpu_s
        return health

    def _tick(self) -> None:
        self._worst_s = max(self._worst_s, time.monotonic() - self._due)
        self.start()
