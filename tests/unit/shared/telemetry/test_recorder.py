"""What a recorder keeps until it is asked, and what it drops."""

from shared.telemetry import recorder
from shared.telemetry.catalogue import CALLS_ACTIVE, LEASES, TELEMETRY_DROPPED, TURN_LATENCY, WORKER_LATE
from shared.telemetry.recorder import Point, Recorder
from shared.telemetry.trace import Span, TraceContext

SAMPLED = TraceContext("a" * 32, "b" * 16, True)


def span(context: TraceContext = SAMPLED) -> Span:
    return Span(context, "", "call", 1, 2)


def test_counters_add_up_until_they_are_taken() -> None:
    notes = Recorder()
    notes.note(LEASES, outcome="claimed")
    notes.note(LEASES, 2, outcome="claimed")
    notes.note(LEASES, outcome="lost")
    assert notes.take().points == [
        Point(LEASES.name, (("outcome", "claimed"),), (3.0,)),
        Point(LEASES.name, (("outcome", "lost"),), (1.0,)),
    ]
    assert notes.take().points == []


def test_a_histogram_keeps_every_value() -> None:
    notes = Recorder()
    for value in (0.5, 0.25, 0.5):
        notes.note(TURN_LATENCY, value, agent="a")
    assert notes.take().points == [Point(TURN_LATENCY.name, (("agent", "a"),), (0.5, 0.25, 0.5))]


def test_a_gauge_stays_until_it_is_forgotten() -> None:
    notes = Recorder()
    notes.note(CALLS_ACTIVE, 3)
    notes.note(WORKER_LATE, True)
    late = Point(WORKER_LATE.name, (), (1.0,))
    assert notes.take().gauges == [Point(CALLS_ACTIVE.name, (), (3.0,)), late]
    notes.forget(CALLS_ACTIVE)
    assert notes.take().gauges == [late]


def test_values_are_numbers_that_every_exporter_takes() -> None:
    notes = Recorder()
    notes.note(WORKER_LATE, True)
    [gauge] = notes.take().gauges or []
    assert [type(value) for value in gauge.values] == [float]


def test_only_sampled_spans_are_kept() -> None:
    notes = Recorder()
    notes.span(span(TraceContext("a" * 32, "b" * 16, False)))
    notes.span(kept := span())
    assert notes.take().spans == [kept]


def test_what_has_no_room_is_dropped_and_counted() -> None:
    notes = Recorder()
    for number in range(recorder.SERIES_MAX + 2):
        notes.note(LEASES, outcome=str(number))
    for _ in range(recorder.SPANS_MAX + 3):
        notes.span(span())
    batch = notes.take()
    assert len(batch.spans) == recorder.SPANS_MAX
    assert batch.points[-1] == Point(TELEMETRY_DROPPED.name, (), (5.0,))
    assert len(batch.points) == recorder.SERIES_MAX + 1


def test_histograms_have_so_many_values_and_no_more() -> None:
    notes = Recorder()
    for _ in range(recorder.VALUES_MAX + 1):
        notes.note(TURN_LATENCY, 1.0, agent="a")
    dropped, values = notes.take().points
    assert (dropped.values, len(values.values)) == ((1.0,), recorder.VALUES_MAX)
    notes.note(TURN_LATENCY, 1.0, agent="a")
    assert [point.values for point in notes.take().points] == [(1.0,)]
