"""The catalogue of metrics: what all of them have in common, and what Prometheus calls them."""

import re
import subprocess
import sys

import pytest

from shared.telemetry.catalogue import AUDIO_DROPPED, CALLS, CALLS_ACTIVE, GROUPS, METRICS, TURN_LATENCY, Kind, Metric
from shared.telemetry.catalogue import prometheus_name as named


def test_no_metric_is_in_two_groups() -> None:
    assert len(METRICS) == sum(len(group) for group in GROUPS.values())


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_a_metric_is_well_formed(metric: Metric) -> None:
    assert re.fullmatch(r"voicepool(\.[a-z][a-z_]*)+", metric.name)
    assert metric.unit == "" or metric.unit == "s" or re.fullmatch(r"\{[a-z_]+\}", metric.unit)
    assert metric.description.endswith(".")
    assert len(set(metric.attributes)) == len(metric.attributes)
    assert bool(metric.buckets) == (metric.kind is Kind.HISTOGRAM)
    assert list(metric.buckets) == sorted(set(metric.buckets))


def test_names_in_prometheus_have_units_and_total() -> None:
    assert named(CALLS_ACTIVE) == "voicepool_calls_active"
    assert named(CALLS) == "voicepool_calls_total"
    assert named(TURN_LATENCY) == "voicepool_turn_latency_seconds"
    assert named(AUDIO_DROPPED) == "voicepool_audio_dropped_seconds_total"


def test_the_catalogue_costs_a_worker_no_library() -> None:
    program = (
        "import sys\n"
        "import shared.telemetry.catalogue, shared.telemetry.recorder, shared.telemetry.trace\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry', 'prometheus', 'google'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
