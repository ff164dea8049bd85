"""Several runs of one benchmark as one: the median of every figure.

It knows no benchmark; what it gets are the plain values of their results.
"""

import statistics
from collections.abc import Sequence
from typing import Any

_WORST = frozenset({"max", "underruns", "lost", "failed", "uplink_dropped", "slips"})
"""Figures of which the worst run counts: a median would hide them."""


def median_of(runs: Sequence[Any]) -> Any:
    """Returns plain values of the shape of each run, numbers being medians; a part that some runs lack is left out."""
    first = runs[0]
    if isinstance(first, dict):
        shared = [name for name in first if all(name in run for run in runs)]
        return {name: _figure(name, [run[name] for run in runs]) for name in shared}
    if isinstance(first, bool) or not isinstance(first, int | float):
        return first
    return statistics.median(runs)


def _figure(name: str, values: Sequence[Any]) -> Any:
    if name in _WORST and all(isinstance(value, int | float) for value in values):
        return max(values)
    return median_of(values)
