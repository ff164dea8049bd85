"""Whether a worker can reach a Voice Live resource, by what came of its attempts. Pure: it opens and reads nothing.

    closed --FAILURES_MAX failures in a row, or one that stays--> open --due--> a probe --success--> closed
                                                                    ^--failure, later the next time--'

Of a resource that is cut off (open) only the worker itself tries whether it is back: no caller has to find out. A call
that had the resource before and gets through closes the circuit as well.
"""

import random
from collections.abc import Callable

from shared.errors import UpstreamError

FAILURES_MAX = 3
"""Failed attempts in a row that open the circuit: one may be a restart on the other side, two the same once more."""

STAYING = frozenset((401, 403, 404))
"""HTTP statuses that open it at once: wrong key, missing role, wrong address are so for the next call, too."""

THROTTLED = 429
"""The HTTP status that says nothing of this kind: who is refused so has reached the resource (`Quotas.throttled`)."""

PROBE_FIRST_S = 2.0
PROBE_MAX_S = 30.0
"""Wait before a probe: doubles from the first to the longest."""

JITTER = 0.25
"""Share of a wait that is left to chance, either way: workers that lost a resource together do not return together."""


class Circuit:
    """One resource, as one worker finds it; a worker begins by trusting it."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        """`chance` returns numbers from 0 to 1."""
        self._chance = chance
        self._failures = 0
        self._probes = 0
        self._open = False

    @property
    def open(self) -> bool:
        """Whether the resource is cut off."""
        return self._open

    def succeeded(self) -> None:
        """A connection was opened."""
        self._failures = self._probes = 0
        self._open = False

    def failed(self, error: UpstreamError) -> None:
        """A connection could not be opened."""
        if error.status == THROTTLED:
            return
        self._failures += 1
        if self._failures >= FAILURES_MAX or error.status in STAYING:
            self._open = True

    def next_probe_s(self, retry_after_s: float | None = None) -> float:
        """Returns how long to wait before the next probe, in seconds; not less than the service has asked for."""
        # 2 ** 10 is beyond the longest wait, and 2 ** 2000 is no float
        wait_s = min(PROBE_FIRST_S * 2.0 ** min(self._probes, 10), PROBE_MAX_S)
        self._probes += 1
        return max(wait_s * (1 + JITTER * (2 * self._chance() - 1)), retry_after_s or 0.0)
