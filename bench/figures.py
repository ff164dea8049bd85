"""Figures of many measured values: percentiles, and how they are spread. Pure."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.load.packets import percentiles

BINS = 40


def summary(values: Sequence[float]) -> dict[str, float]:
    """Returns how many values there are, p50, p95 and the greatest; raises ValueError when there are none."""
    found = percentiles(np.array(values))
    return {"count": len(values), **{name: round(found[name], 3) for name in ("p50", "p95", "max")}}


def spread(values: Sequence[float], at_least: float) -> dict[str, Any]:
    """Returns how many values are in each of `BINS` steps from 0 to the greatest, or to `at_least`: step and counts."""
    step = max([*values, at_least]) / BINS
    counts, _ = np.histogram(values, bins=BINS, range=(0.0, step * BINS))
    return {"step": round(step, 4), "counts": [int(count) for count in counts]}
