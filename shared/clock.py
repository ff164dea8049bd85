"""The wall clock of the pool: Unix time in whole ms, as leases and call records carry it.

Not for measuring durations within one process, and never read in a sans-IO core: those are given `now`.
"""

import time


def now_ms() -> int:
    """Returns Unix time in ms."""
    return time.time_ns() // 1_000_000
