"""The pool's clocks: Unix time in whole ms, as leases and call records carry it, and one that only goes forward.

Never read in a sans-IO core: those are given `now`.
"""

import time


def now_ms() -> int:
    """Returns Unix time in ms."""
    return time.time_ns() // 1_000_000


_AHEAD_S = time.time() - time.monotonic()


def steady_s() -> float:
    """Returns Unix time in seconds as it would be had nobody set the clock since the process began."""
    return time.monotonic() + _AHEAD_S
