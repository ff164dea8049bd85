"""What a pool tells of one call: a trace across dispatcher and worker, metrics by pull and by push, log lines.

One call is made, with two turns, of which the second asks a tool; each test looks at what has come of it.
"""

import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from shared.messages import Tokens
from shared.telemetry.catalogue import METRICS, prometheus_name
from tests.acceptance.agents import KEY, Seen, agent_file, resources, ring_each, voice_lives
from tests.acceptance.collector import NO_PARENT, Collector, SentSpan, collecting
from tests.acceptance.pool import SETTLE_S, Pool, running_pool, until
from tests.acceptance.process import ROOT, PoolProcess
from tests.acceptance.telephone import finish, ringing
from tests.acceptance.web_service import WebService, serving

CALLER, CALLED = "+4915550177", "+49305550188"
NUMBERS = [number.removeprefix("+").encode() for number in (CALLER, CALLED)]

STEPS: list[dict[str, Any]] = [
    {"say": "Good day to you."},
    {"call": {"name": "order_status", "arguments": {"number": 47}}},
    {"expect_output": {"name": "order_status", "contains": "shipped"}},
    {"say": "It is on its way."},
]

PHONE = ["--say", "good day", "--say", "where is my order", "--from-user", CALLER]

OFTEN = {"OTEL_METRIC_EXPORT_INTERVAL": "1000", "OTEL_BSP_SCHEDULE_DELAY": "100"}
"""In ms: a test does not wait for a minute."""

Series = dict[tuple[str, ...], float]
"""Values of one metric, by those of its labels in the order of the catalogue."""


@dataclass(frozen=True)
class Told:
    """The pool, still running, and what it has told of its one call."""

    pool: Pool
    collector: Collector
    call: Seen

    @property
    def trace(self) -> list[SentSpan]:
        """The spans of the call; a trace begins with its dispatcher's span."""
        return [span for span in self.collector.spans if span.trace_id == self.call_span.trace_id]

    @property
    def call_span(self) -> SentSpan:
        """The worker's."""
        trace_id = self.pool.supervisor.events("call.claimed")[0]["trace_id"]
        [span] = [span for span in self.collector.spans if span.name == "call" and span.trace_id == trace_id]
        return span


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    """Returns what a pool has told once its one call is over."""
    directory = tmp_path_factory.mktemp("telemetry")
    service = WebService({"/orders": {"status": "shipped"}})
    with serving(service) as url, voice_lives(directory, {"desk": STEPS}) as services, collecting() as collector:
        tool = {
            "type": "http_request",
            "name": "order_status",
            "description": "Looks up an order.",
            "method": "POST",
            "url": f"{url}/orders",
            "parameters": {"type": "object", "properties": {"number": {"type": "integer"}}},
        }
        path = agent_file(
            directory,
            {"desk": {"resource": "desk", "tools": [tool]}, "parrot": {}},
            resources=resources(services),
            routes=[{"called": "parrot", "agent": "parrot"}],
            default="desk",
            prices={"*": dict.fromkeys(Tokens.__dataclass_fields__, 10.0)},
            currency="EUR",
        )
        settings = {
            "AGENTS_FILE": str(path),
            "TELEMETRY_PORT": "0",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            **KEY,
            **OFTEN,
        }
        with running_pool(directory, workers=2, **settings) as pool:
            calls = ring_each(pool, {"desk": (CALLED, PHONE)}, services)
            until(lambda: any(span.name == "call" for span in collector.spans), SETTLE_S, pool.tails)
            until(lambda: any(span.name == "dispatch" for span in collector.spans), SETTLE_S, pool.tails)
            yield Told(pool, collector, calls["desk"])


def test_one_trace_has_everything_that_was_done_for_the_call(told: Told) -> None:
    told.call.assert_went_well()
    names = Counter((span.service, span.name) for span in told.trace)
    assert names == {
        ("voicepool-dispatcher", "dispatch"): 1,
        ("voicepool-dispatcher", "lease"): 1,
        ("voicepool-worker", "call"): 1,
        ("voicepool-worker", "admit"): 1,
        ("voicepool-worker", "connect"): 1,
        ("voicepool-worker", "turn"): 2,
        ("voicepool-worker", "tool"): 1,
    }
    assert not any(span.failed for span in told.trace)


def test_spans_are_under_what_caused_them(told: Told) -> None:
    [dispatch] = [span for span in told.trace if span.name == "dispatch"]
    for span in told.trace:
        above = NO_PARENT if span is dispatch else dispatch.span_id
        if span.service == "voicepool-worker" and span.name != "call":
            above = told.call_span.span_id
        assert span.parent_id == above, span
        assert span.start_ns <= span.end_ns


def test_spans_say_what_a_turn_and_a_tool_were_like(told: Told) -> None:
    turns = [span for span in told.trace if span.name == "turn"]
    latencies = [turn.latency_ms for turn in told.call.record.turns]
    assert sorted(span.attributes["latency_ms"] for span in turns) == pytest.approx(
        sorted(filter(None, latencies)), abs=2
    )
    assert [span.attributes["barged_in"] for span in turns] == [False, False]
    [tool] = [span for span in told.trace if span.name == "tool"]
    assert tool.attributes == {"name": "order_status"}
    assert told.call_span.attributes == {"agent": "desk", "result": "completed", "reason": "caller_hangup"}


def test_the_pods_metrics_are_those_of_the_call(told: Told) -> None:
    metrics = scraped(told.pool.supervisor)
    record = told.call.record
    worker = record.worker_id.rsplit("-", 2)[1]
    assert metrics["voicepool_calls_total"] == {(worker, "completed", "caller_hangup", "desk"): 1}
    assert metrics["voicepool_leases_total"] == {("claimed",): 1}
    assert metrics["voicepool_turn_latency_seconds_count"] == {("desk",): 2}
    assert metrics["voicepool_call_setup_duration_seconds_count"] == {("desk",): 1}
    assert metrics["voicepool_tool_duration_seconds_count"] == {("order_status", "ok"): 1}
    assert metrics["voicepool_voicelive_connections_total"] == {("desk", "ok"): 1}
    [[cost]] = [metrics["voicepool_cost_total"].values()]
    assert cost == pytest.approx(record.cost)
    packets = metrics["voicepool_rtp_packets_total"]
    assert packets[worker, "received"] == record.counters["rtp_received"] > 0
    assert packets[worker, "sent"] == record.counters["rtp_sent"] > 0
    assert set(metrics["voicepool_calls_one_way_total"].values()) == {0}


def test_a_pod_shows_how_its_workers_are(told: Told) -> None:
    idle = {("0",): 0, ("1",): 0}
    until(lambda: scraped(told.pool.supervisor)["voicepool_calls_active"] == idle, SETTLE_S, told.pool.tails)
    metrics = scraped(told.pool.supervisor)
    assert metrics["voicepool_workers"] == {("starting",): 0, ("ready",): 2, ("draining",): 0, ("stopped",): 0}
    assert metrics["voicepool_slots"] == {("0",): 20, ("1",): 20}
    assert set(metrics["voicepool_loop_lag_seconds"]) == {(n, q) for n in "01" for q in ("p99", "max")}
    assert metrics["voicepool_redis_available"] == {("0",): 1, ("1",): 1}
    circuits = metrics["voicepool_voicelive_circuit_open"]
    assert circuits == {(worker, resource): 0 for worker in "01" for resource in ("", "desk")}


def test_all_that_is_shown_is_in_the_catalogue(told: Told) -> None:
    known = {prometheus_name(metric) for metric in METRICS.values()}
    known |= {f"{name}_{part}" for name in known for part in ("bucket", "sum", "count")}
    for process in (told.pool.supervisor, told.pool.dispatcher):
        shown = {name for name in scraped(process) if name.startswith("voicepool")}
        assert shown and shown <= known


def test_the_same_metrics_are_sent_to_a_collector(told: Told) -> None:
    until(lambda: ("voicepool-worker", "voicepool.turn.latency") in told.collector.metrics, SETTLE_S, told.pool.tails)
    until(lambda: "voicepool-dispatcher" in {who for who, _ in told.collector.metrics}, SETTLE_S, told.pool.tails)
    assert {name for _, name in told.collector.metrics} <= METRICS.keys()


def test_nobody_is_told_a_telephone_number(told: Told) -> None:
    pages = [page(process, "/metrics").encode() for process in (told.pool.supervisor, told.pool.dispatcher)]
    logs = [line.encode() for line in told.pool.logs()]
    for text in (*told.collector.bodies, *pages, *logs):
        assert not any(number in text for number in NUMBERS)


def test_the_lines_of_a_call_carry_its_id_and_its_trace(told: Told) -> None:
    call_id = told.call.record.call_id
    events = told.pool.supervisor.events()
    about = [event for event in events if event.get("call_id") == call_id]
    assert {event["trace_id"] for event in about} == {told.call_span.trace_id}
    assert [event["event"] for event in about] == [
        "call.claimed",
        "call.agent",
        "voicelive.connected",
        "sip.call_answered",
        "sip.media_active",
        "call.ended",
    ]


def test_probes_ask_the_pod_itself(told: Told, tmp_path: Path) -> None:
    port = port_of(told.pool.supervisor)
    assert (page(told.pool.supervisor, "/livez"), page(told.pool.supervisor, "/readyz")) == ("ok\n", "ok\n")
    file = tmp_path / "port"
    file.write_text(f"{port}\n")
    for environment in ({"TELEMETRY_PORT": str(port)}, {"TELEMETRY_PORT": "1", "TELEMETRY_PORT_FILE": str(file)}):
        assert probe("ready", **environment) == (0, "ok")
    assert probe("live", TELEMETRY_PORT="1")[0] == 1
    assert probe("live", TELEMETRY_PORT="")[0] == 1


def test_a_call_that_is_disturbed_says_so(told: Told) -> None:
    pool, supervisor = told.pool, told.pool.supervisor
    says = ["--say", "good morning to all of you", "--say", "no wait", "--talk-over-after", "0.7"]
    with ringing(pool, *says, called="parrot") as phone:
        claimed = supervisor.wait_for("call.agent", where=lambda event: event["agent"] == "parrot")[0]
        supervisor.wait_for("sip.media_active", where=lambda event: event["call_id"] == claimed["call_id"])
        pool.order_faults(sessions=[{"kind": "abort"}])
        finish(phone, pool)

    def spans(name: str) -> list[SentSpan]:
        return [span for span in told.collector.spans if span.trace_id == claimed["trace_id"] and span.name == name]

    until(lambda: bool(spans("call")), SETTLE_S, pool.tails)
    assert len(spans("reconnect")) == 1
    assert [span.failed for span in spans("connect")] == [False, False]
    assert [span.attributes["barged_in"] for span in spans("turn")] == [True, False]
    metrics = scraped(supervisor)
    assert metrics["voicepool_voicelive_reconnects_total"] == {("",): 1}
    assert metrics["voicepool_barge_ins_total"] == {("parrot",): 1}
    assert metrics["voicepool_barge_in_reaction_seconds_count"] == {(): 1}
    assert metrics["voicepool_barge_in_reaction_seconds_sum"][()] < 0.5


def test_counters_outlive_a_worker_and_its_gauges_do_not(told: Told) -> None:
    worker_id = told.call.record.worker_id
    index = worker_id.rsplit("-", 2)[1]
    supervisor = told.pool.supervisor
    told.pool.kill_worker(worker_id)
    supervisor.wait_for("supervisor.child_died")
    metrics = scraped(supervisor)
    assert metrics["voicepool_calls_total"][index, "completed", "caller_hangup", "desk"] == 1
    assert {key for key, count in metrics["voicepool_worker_restarts_total"].items() if count} == {(index, "died")}
    assert (index,) not in metrics["voicepool_slots"] or metrics["voicepool_workers"]["ready",] == 2
    supervisor.wait_for("worker.ready", count=3)
    until(lambda: scraped(supervisor)["voicepool_slots"].get((index,)) == 20, SETTLE_S, told.pool.tails)


def test_a_collector_that_is_away_is_two_lines(told: Told) -> None:
    told.collector.refusing = True
    told.pool.supervisor.wait_for("telemetry.not_sent")
    told.collector.refusing = False
    told.pool.supervisor.wait_for("telemetry.sent_again")
    lines = [event for event in told.pool.supervisor.events() if event["event"].startswith("telemetry.")]
    assert [(line["event"], line.get("signal")) for line in lines[1:]] == [
        ("telemetry.not_sent", "metrics"),
        ("telemetry.sent_again", "metrics"),
    ]


def port_of(process: PoolProcess) -> int:
    return int(process.wait_for("telemetry.listening")[0]["port"])


def page(process: PoolProcess, path: str) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port_of(process)}{path}", timeout=10.0) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        return error.read().decode()


def scraped(process: PoolProcess) -> dict[str, Series]:
    """Returns what a process shows, by Prometheus's names of series; without buckets."""
    labels = {prometheus_name(metric): metric.attributes for metric in METRICS.values()}
    found: dict[str, Series] = {}
    for family in text_string_to_metric_families(page(process, "/metrics")):
        for sample in family.samples:
            name = sample.name.removesuffix("_count").removesuffix("_sum")
            order = labels.get(name, sorted(sample.labels))
            if not sample.name.endswith("_bucket"):
                key = tuple(sample.labels[label] for label in order if label in sample.labels)
                found.setdefault(sample.name, {})[key] = sample.value
    return found


def probe(what: str, **environment: str) -> tuple[int, str]:
    """Returns exit code and answer of what an orchestrator runs."""
    done = subprocess.run(
        [sys.executable, "-m", "shared.telemetry.probe", what],
        env={"PYTHONPATH": str(ROOT), "TELEMETRY_HOST": "0.0.0.0", **environment},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return done.returncode, done.stdout.strip()
