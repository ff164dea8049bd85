"""Jobs for later, in order of time. Does not keep time: whoever owns the clock says what time it is."""

import heapq
from collections.abc import Callable
from itertools import count

Job = Callable[[float], None]


class Agenda:
    """Jobs keyed by the time they are due; jobs due at the same time run in the order they were noted."""

    def __init__(self) -> None:
        self._jobs: list[tuple[float, int, Job]] = []
        self._numbers = count()

    @property
    def next(self) -> float | None:
        """When the next job is due."""
        return self._jobs[0][0] if self._jobs else None

    def at(self, when: float, job: Job) -> None:
        """Note a job; it gets the time it runs at. A job that may become pointless must find that out itself."""
        heapq.heappush(self._jobs, (when, next(self._numbers), job))

    def run(self, now: float) -> None:
        """Run everything due by `now`, including what running jobs add for by then."""
        while self._jobs and self._jobs[0][0] <= now:
            heapq.heappop(self._jobs)[2](now)
