"""What a process has measured since it was last asked, as plain values: cheap to note, bounded, easy to send on.

It knows nothing of OpenTelemetry: `shared/telemetry/export.py` takes what `take` returns, in this process or another.
"""

from collections import deque
from dataclasses import dataclass, field

from shared.telemetry.catalogue import TELEMETRY_DROPPED, Kind, Metric
from shared.telemetry.trace import Span

SERIES_MAX = 1_000
"""Different sets of attributes of counters and histograms between two `take`s."""

VALUES_MAX = 4_000
"""Values of histograms between two `take`s."""

SPANS_MAX = 1_000
"""Spans between two `take`s. What is beyond any of these is dropped, and counted."""

Attributes = tuple[tuple[str, str], ...]
_Series = tuple[Metric, Attributes]


@dataclass(frozen=True, slots=True)
class Point:
    """What is new of one series: by how much a counter has grown, a gauge's value, or a histogram's values."""

    name: str
    """A metric of the catalogue."""
    attributes: Attributes
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """Everything since the batch before."""

    gauges: list[Point] | None = None
    """All there are: what is not among them is no more. None when nothing is said of gauges."""
    points: list[Point] = field(default_factory=list)
    """Of counters and histograms."""
    spans: list[Span] = field(default_factory=list)


class Recorder:
    """Collects what is noted until it is taken. Not for several threads."""

    def __init__(self) -> None:
        self._gauges: dict[_Series, float] = {}
        self._sums: dict[_Series, float] = {}
        self._values: dict[_Series, list[float]] = {}
        self._left = VALUES_MAX
        self._spans: deque[Span] = deque()
        self._dropped = 0

    def note(self, metric: Metric, value: float = 1.0, **attributes: str) -> None:
        """Adds to a counter, sets a gauge, or gives a histogram one more value; `attributes` as in the catalogue."""
        value = float(value)  # a bool, or what NumPy makes, would be no number to OTLP
        series = (metric, tuple(attributes.items()))
        match metric.kind:
            case Kind.GAUGE:
                self._gauges[series] = value
            case Kind.COUNTER:
                if series in self._sums or self._room():
                    self._sums[series] = self._sums.get(series, 0.0) + value
            case Kind.HISTOGRAM:
                if self._left > 0 and (series in self._values or self._room()):
                    self._values.setdefault(series, []).append(value)
                    self._left -= 1
                elif self._left <= 0:
                    self._dropped += 1

    def forget(self, metric: Metric) -> None:
        """Takes all series of a gauge away; what is still so is noted anew."""
        self._gauges = {series: value for series, value in self._gauges.items() if series[0] is not metric}

    def span(self, span: Span) -> None:
        """Keeps a finished span, if its trace is sampled."""
        if not span.context.sampled:
            return
        if len(self._spans) < SPANS_MAX:
            self._spans.append(span)
        else:
            self._dropped += 1

    def take(self) -> Batch:
        """Returns what is new, and begins afresh."""
        if self._dropped:
            self._sums[TELEMETRY_DROPPED, ()] = float(self._dropped)
        points = [_point(series, (value,)) for series, value in self._sums.items()]
        points += [_point(series, tuple(values)) for series, values in self._values.items()]
        batch = Batch([_point(series, (value,)) for series, value in self._gauges.items()], points, list(self._spans))
        self._sums, self._values, self._left, self._dropped = {}, {}, VALUES_MAX, 0
        self._spans.clear()
        return batch

    def _room(self) -> bool:
        if len(self._sums) + len(self._values) < SERIES_MAX:
            return True
        self._dropped += 1
        return False


def _point(series: _Series, values: tuple[float, ...]) -> Point:
    metric, attributes = series
    return Point(metric.name, attributes, values)
