"""How often somebody may do something: a token bucket for each, in memory.

It reads no clock and knows neither tokens nor addresses: those are only keys.
"""

from collections import OrderedDict
from dataclasses import dataclass

KEYS_MAX = 10_000
"""Keys remembered; those not seen for longest are forgotten first."""


@dataclass(slots=True)
class _Left:
    count: float
    at: float


class Allowance:
    """`burst` at once for each key, and `per_s` more every second."""

    def __init__(self, per_s: float, burst: int) -> None:
        self._per_s, self._burst = per_s, burst
        self._left: OrderedDict[str, _Left] = OrderedDict()

    def take(self, key: str, now: float) -> float:
        """Takes one and returns 0, or returns in how many seconds there will be one."""
        left = self._left.setdefault(key, _Left(self._burst, now))
        self._left.move_to_end(key)
        if len(self._left) > KEYS_MAX:
            self._left.popitem(last=False)
        left.count, left.at = min(self._burst, left.count + (now - left.at) * self._per_s), now
        if left.count < 1:
            return (1 - left.count) / self._per_s
        left.count -= 1
        return 0.0
