"""Pictures of results, as PNG files: what a call costs, what callers feel.

They show figures of results.json and compute none.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

WORKER, BASELINE, BAR = "#2166ac", "#999999", "#b2182b"

_BARS = {"g711 20 ms": 0.5, "pcm16 40 ms": 0.7, "g711 100 ms": 0.33}


def draw_all(results: Mapping[str, Any], into: Path) -> dict[str, list[str]]:
    """Writes all pictures into a directory; returns their names by the benchmark they belong to."""
    _draw_density(results["density"], into / "density.png")
    _draw_latency(list(results["latency"].values()), into / "latency.png")
    _draw_bargein(results["bargein"], into / "bargein.png")
    _draw_reconnect(results["reconnect"], into / "reconnect.png")
    return {
        "Density": ["density.png"],
        "Latency, G.711, 20 ms chunks": ["latency.png"],
        "Barge-in": ["bargein.png"],
        "Reconnect": ["reconnect.png"],
    }


def _figure(height: float) -> tuple[Figure, Axes]:
    figure, [axes] = _figures(height, 1)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    return figure, axes


def _figures(height: float, columns: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(9, height), layout="constrained")
    FigureCanvasAgg(figure)  # without pyplot: it keeps global state and may look for a display
    row = [figure.add_subplot(1, columns, column) for column in range(1, columns + 1)]
    for axes in row:
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        axes.set_axisbelow(True)
    return figure, row


def _draw_density(points: Mapping[str, Mapping[str, Any]], picture: Path) -> None:
    """CPU per call: a bar for each point and baseline, a line where it is to stay under."""
    first = next(iter(points.values()))
    names = [*(f"baseline {name}" for name in first["baselines"]), *reversed(list(points))]
    costs = [baseline["cpu_percent_per_call"] for baseline in first["baselines"].values()]
    costs += [points[name]["cpu_percent_per_call"] for name in reversed(list(points))]
    colours = [BASELINE] * len(first["baselines"]) + [WORKER] * len(points)
    figure, axes = _figure(0.42 * len(names) + 1.0)
    bars = axes.barh(names, costs, color=colours, height=0.65)
    axes.bar_label(bars, [f"{cost:.3f} %" for cost in costs], padding=4, fontsize=9)
    for row, name in enumerate(names):
        if limit := _BARS.get(name):
            axes.plot([limit, limit], [row - 0.4, row + 0.4], color=BAR, linewidth=2)
            axes.annotate("bar", (limit, row), (4, -3), textcoords="offset points", color=BAR, fontsize=8)
    axes.set_xlabel("CPU of the worker process per call, percent of one core")
    axes.set_xlim(0, 1.15 * max([*costs, *_BARS.values()]))
    figure.suptitle("What one call costs", x=0.01, ha="left")
    figure.savefig(picture, dpi=110)


def _draw_latency(results: Sequence[Mapping[str, Any]], picture: Path) -> None:
    """p50 to p95 as a bar, max as a dot, for one call and for many."""
    figure, axes = _figure(4.2)
    rows: list[str] = []
    for result in results:
        setup = result["setup_ms"]
        figures = {
            "uplink": result["uplink_ms"],
            "downlink": result["downlink_ms"],
            "barge-in": result["bargein_ms"],
            "INVITE to 200": setup["answered"],
            "INVITE to greeting": setup["greeting"],
        }
        calls = f"{result['calls']:.0f} call" + ("s" if result["calls"] > 1 else "")
        for name, values in figures.items():
            row = len(rows)
            rows.append(f"{name}, {calls}")
            axes.barh(row, values["p95"] - values["p50"], left=values["p50"], color=WORKER, height=0.5)
            axes.plot([values["p50"]] * 2, [row - 0.32, row + 0.32], color="black", linewidth=2)
            axes.plot(values["max"], row, "o", color=BAR, markersize=4)
    axes.set_yticks(range(len(rows)), rows)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("milliseconds: p50 (black), p50 to p95 (blue), worst (red)")
    figure.suptitle("What callers feel", x=0.01, ha="left")
    figure.savefig(picture, dpi=110)


def _draw_bargein(result: Mapping[str, Any], picture: Path) -> None:
    """How exact and how fast."""
    figure, [exact, fast] = _figures(3.2, 2)
    spread = result["spread"]
    _draw_spread(exact, spread["truncate_error_ms"], "ms, what was heard against what was told", 40.0)
    _draw_spread(fast, spread["flush_ms"], "ms, speech_started to last old packet", 40.0)
    exact.set_ylabel("barge-ins")
    figure.suptitle(f"{result['count']:.0f} barge-ins", x=0.01, ha="left")
    figure.savefig(picture, dpi=110)


def _draw_reconnect(result: Mapping[str, Any], picture: Path) -> None:
    """What waiting callers hear nothing for, and how soon there is a session again."""
    figure, [gap, again] = _figures(3.2, 2)
    _draw_spread(gap, result["spread"]["gap_ms"], "ms of silence for a caller who waits for an answer", 1500.0)
    _draw_spread(again, result["spread"]["reconnect_ms"], "ms until the next session is ready", None)
    gap.set_ylabel("turns under way")
    again.set_ylabel("breaks")
    figure.suptitle(f"{result['count']:.0f} connections reset", x=0.01, ha="left")
    figure.savefig(picture, dpi=110)


def _draw_spread(axes: Axes, spread: Mapping[str, Any], label: str, bar: float | None) -> None:
    step, counts = spread["step"], spread["counts"]
    axes.bar([step * (n + 0.5) for n in range(len(counts))], counts, width=step, color=WORKER)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_xlabel(label)
    axes.set_xlim(0, 1.05 * max(step * len(counts), bar or 0.0))
    if bar is not None:
        axes.axvline(bar, color=BAR, linewidth=2)
        axes.annotate("bar", (bar, axes.get_ylim()[1]), (-4, -10), textcoords="offset points", color=BAR, ha="right")
