"""Writes what the benchmarks mean for the size of a pool into docs/capacity.md: `python scripts/capacity_table.py`.

It measures nothing: figures are those of bench/results.json, which `make bench` writes.
"""

import json
import math
from pathlib import Path
from typing import Any

from admin.marked import with_part

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results.json"
PAGE = ROOT / "docs" / "capacity.md"

BEGIN, END = "<!-- capacity: written by scripts/capacity_table.py -->", "<!-- end of capacity -->"

CORE_SHARE = 0.6
"""Of a core that is planned for calls. The rest is for bursts: many calls at once, reconnects, the host itself."""

SPARE = 1.25
"""Slots planned for each call of the busiest hour: a quarter may be lost or drained without anybody being refused."""

POOLS = (50, 200, 1000, 5000)
"""Calls at once in the busiest hour, for the example sizes."""

PLANNED = "g711 40 ms"
"""The default settings (VOICE_LIVE_AUDIO_FORMAT, VOICE_LIVE_UPLINK_MS)."""


def table(results: dict[str, Any]) -> str:
    """Returns the generated part of the page."""
    machine, density = results["machine"], results["density"]
    most = max(row["calls"] for row in results["search"])
    lines = [
        f"Measured {machine['date']} on {machine['processor']}, speech both ways all the time (turns: in turns):",
        "",
        "| audio | CPU per call | calls on a core | memory of a worker without calls | per call |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, row in density.items():
        calls = min(most, _calls_per_core(row))
        lines.append(
            f"| {name} | {row['cpu_percent_per_call']:.2f} % | {calls} | {row['idle_rss_mb']:.0f} MB "
            f"| {row['rss_kb_per_call'] / 1000:.2f} MB |"
        )
    lines += [
        "",
        f'"Calls on a core" use {CORE_SHARE:.0%} of it, and are no more than the {most} that were tried. '
        f"With {PLANNED}, and {SPARE - 1:.0%} of slots to spare:",
        "",
        "| calls at once | slots | cores (one worker each) | memory of workers | RTP ports | RTP, each way |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    row = density[PLANNED]
    for calls in POOLS:
        slots = math.ceil(calls * SPARE)
        cores = math.ceil(slots / min(most, _calls_per_core(row)))
        memory_gb = (cores * row["idle_rss_mb"] + slots * row["rss_kb_per_call"] / 1000) / 1000
        lines.append(
            f"| {calls:,} | {slots:,} | {cores} | {memory_gb:.1f} GB | {slots * 6:,} | {calls * 0.08:.0f} Mbit/s |"
        )
    dispatch = results["dispatch"]
    rate, cpu_ms, redis = dispatch["calls_per_s"], dispatch["cpu_ms_per_call"], dispatch["load"]["redis_percent"]
    lines += [
        "",
        f"One dispatcher placed {rate:,.0f} new calls a second, at {cpu_ms:.2f} ms of CPU each, "
        f"with Redis at {redis:.0f} % of a core. Plan half of that, and never fewer than two dispatchers.",
        "",
    ]
    return "\n".join(lines)


def with_table(page: str) -> str:
    """Returns the page with the part as it is now; raises ValueError when it does not have the marker lines."""
    return with_part(page, BEGIN, END, table(json.loads(RESULTS.read_text())))


def _calls_per_core(row: dict[str, Any]) -> int:
    return int(100 * CORE_SHARE / row["cpu_percent_per_call"])


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
