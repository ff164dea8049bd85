"""What PromQL expressions speak of: metrics, and the labels that are matched, grouped by or shown.

It is a reader for our own expressions, not a parser of PromQL: promtool says whether they are PromQL at all.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from shared.telemetry.catalogue import METRICS, Kind, prometheus_name

TARGET_LABELS = frozenset({"job", "instance", "cluster", "namespace", "pod"})
"""Labels that a target has from whoever scrapes it."""

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_SELECTOR = re.compile(r"\b(up|voicepool[a-z0-9_:]*)(\{[^}]*\})?")
_GROUPING = re.compile(r"\b(?:by|on|ignoring|without|group_left|group_right) \(([^)]*)\)")


@dataclass(frozen=True)
class Used:
    """A metric (or a recording rule's result) and the labels it is selected by."""

    name: str
    labels: frozenset[str]


def selectors(expression: str) -> Iterator[Used]:
    """Yields what is selected, in order."""
    for name, matchers in _SELECTOR.findall(_STRING.sub('""', expression)):
        yield Used(name, frozenset(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers)))


def grouping_labels(expression: str) -> set[str]:
    """Returns the labels that it groups or joins by."""
    return {label.strip() for group in _GROUPING.findall(expression) for label in group.split(",") if label.strip()}


def series_labels() -> dict[str, frozenset[str]]:
    """Returns the series that the catalogue's metrics have in Prometheus, with their own labels; and `up`."""
    known = {"up": frozenset[str]()}
    for metric in METRICS.values():
        name, labels = prometheus_name(metric), frozenset(metric.attributes)
        if metric.kind is Kind.HISTOGRAM:
            known |= {f"{name}_bucket": labels | {"le"}, f"{name}_sum": labels, f"{name}_count": labels}
        else:
            known[name] = labels
    return known
