"""What an exporter makes of batches, as Prometheus sees it."""

from collections.abc import Iterator

import pytest
from prometheus_client.exposition import generate_latest

from shared.telemetry import catalogue
from shared.telemetry.export import Exporter
from shared.telemetry.recorder import Batch, Recorder


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    made = Exporter("worker", "pod-1")
    yield made
    made.close()


def page(exporter: Exporter) -> list[str]:
    lines = generate_latest(exporter.registry).decode().splitlines()
    return [line for line in lines if line.startswith("voicepool_") and not line.startswith("voicepool_build")]


def test_counters_of_several_batches_add_up(exporter: Exporter) -> None:
    notes = Recorder()
    for _ in range(2):
        notes.note(catalogue.CALLS, 2, result="completed", reason="caller_hangup", agent="desk")
        exporter.record(notes.take(), source="0", worker="0")
    labels = 'agent="desk",reason="caller_hangup",result="completed",worker="0"'
    assert page(exporter) == [f"voicepool_calls_total{{{labels}}} 4.0"]


def test_a_source_is_told_apart_only_where_the_catalogue_says_so(exporter: Exporter) -> None:
    notes = Recorder()
    notes.note(catalogue.BARGE_INS, agent="desk")
    exporter.record(notes.take(), source="0", worker="0")
    assert page(exporter) == ['voicepool_barge_ins_total{agent="desk"} 1.0']


def test_a_histogram_has_the_catalogues_buckets(exporter: Exporter) -> None:
    notes = Recorder()
    notes.note(catalogue.RTP_JITTER, 0.004)
    exporter.record(notes.take())
    bounds = [line.split('"')[1] for line in page(exporter) if "_bucket" in line]
    assert bounds == [*(str(bound) for bound in catalogue.RTP_JITTER.buckets), "+Inf"]
    assert "voicepool_rtp_jitter_seconds_count 1.0" in page(exporter)


def test_gauges_replace_those_of_their_source_and_vanish_with_it(exporter: Exporter) -> None:
    first, second = Recorder(), Recorder()
    first.note(catalogue.SLOTS, 10)
    first.note(catalogue.VOICELIVE_CIRCUIT, False, resource="old")
    second.note(catalogue.SLOTS, 20)
    exporter.record(first.take(), source="0", worker="0")
    exporter.record(second.take(), source="1", worker="1")
    first.forget(catalogue.VOICELIVE_CIRCUIT)
    exporter.record(first.take(), source="0", worker="0")
    assert page(exporter) == ['voicepool_slots{worker="0"} 10.0', 'voicepool_slots{worker="1"} 20.0']
    exporter.record(Batch(), source="0", worker="0")
    assert len(page(exporter)) == 2, "a batch that says nothing of gauges leaves them"
    exporter.forget("0")
    assert page(exporter) == ['voicepool_slots{worker="1"} 20.0']


def test_every_metric_is_called_what_the_catalogue_says(exporter: Exporter) -> None:
    notes = Recorder()
    for metric in catalogue.METRICS.values():
        if metric is not catalogue.BUILD:
            notes.note(metric, 1.0, **dict.fromkeys(metric.attributes, "x"))
    exporter.record(notes.take())
    shown = {line.partition("{")[0].partition(" ")[0] for line in page(exporter)}
    for metric in catalogue.METRICS.values():
        name = catalogue.prometheus_name(metric)
        if metric is not catalogue.BUILD:
            assert (f"{name}_count" if metric.kind is catalogue.Kind.HISTOGRAM else name) in shown


def test_the_page_says_who_shows_it(exporter: Exporter) -> None:
    text = generate_latest(exporter.registry).decode()
    assert 'service_instance_id="pod-1",service_name="voicepool-worker"' in text
    assert "voicepool_build{version=" in text
    assert "process_resident_memory_bytes" in text
