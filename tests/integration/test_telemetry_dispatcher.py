"""What a dispatcher shows of itself: metrics, probes, and the spans it sends to a collector."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from shared.control.commands import Commands
from shared.control.connection import ask, connect
from shared.control.dispatchers import Dispatchers
from shared.control.leases import Leases
from shared.ids import CallId, call_id_for, new_command_id
from shared.messages import Command, CommandName
from shared.telemetry.catalogue import METRICS, prometheus_name
from shared.telemetry.trace import TraceContext
from tests.integration.test_dispatcher_process import PooledWorker, Process, dispatcher, hang_up, spawn, worker
from tests.unit.dispatcher.ladder import SECRET, header_of
from tests.unit.dispatcher.wire import PATIENCE_S, Peer, ack_for

Series = tuple[str, frozenset[tuple[str, str]]]
"""Name, without the prefix that all have, and labels."""


@dataclass
class Collector:
    """An OTLP collector that keeps what it gets."""

    spans: list[Span] = field(default_factory=list)
    resources: list[dict[str, str]] = field(default_factory=list)
    metrics: set[str] = field(default_factory=set)
    port: int = 0

    async def traces(self, request: web.Request) -> web.Response:
        """Takes spans."""
        for resource_spans in ExportTraceServiceRequest.FromString(await request.read()).resource_spans:
            attributes = resource_spans.resource.attributes
            self.resources.append({each.key: each.value.string_value for each in attributes})
            for scope in resource_spans.scope_spans:
                self.spans += scope.spans
        return web.Response()

    async def measurements(self, request: web.Request) -> web.Response:
        """Takes metrics."""
        for resource in ExportMetricsServiceRequest.FromString(await request.read()).resource_metrics:
            for scope in resource.scope_metrics:
                self.metrics |= {metric.name for metric in scope.metrics}
        return web.Response()

    def named(self, name: str) -> list[Span]:
        """Returns the spans of this name."""
        return [span for span in self.spans if span.name == name]


@asynccontextmanager
async def collector() -> AsyncIterator[Collector]:
    """Runs a collector for the block."""
    collecting = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", collecting.traces)
    app.router.add_post("/v1/metrics", collecting.measurements)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    collecting.port = runner.addresses[0][1]
    try:
        yield collecting
    finally:
        await runner.cleanup()


class Watched:
    """A dispatcher, asked for what it shows."""

    def __init__(self, running: Process, http: aiohttp.ClientSession) -> None:
        port = next(line["port"] for line in running.lines if line["event"] == "telemetry.listening")
        self._url, self._http = f"http://127.0.0.1:{port}", http

    async def asked(self, path: str) -> tuple[int, str]:
        """Returns status and text of an answer."""
        async with self._http.get(self._url + path) as answer:
            return answer.status, await answer.text()

    async def says(self, path: str, wanted: tuple[int, str]) -> None:
        """Returns when that is the answer."""
        async with asyncio.timeout(PATIENCE_S):
            while await self.asked(path) != wanted:  # noqa: ASYNC110 (there is nothing to wait on: it is asked again)
                await asyncio.sleep(0.05)

    async def metrics(self) -> dict[Series, float]:
        """Returns the series it shows."""
        _, text = await self.asked("/metrics")
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return {(each.name.removeprefix("voicepool_"), frozenset(each.labels.items())): each.value for each in samples}

    async def shows(self, **wanted: float) -> dict[Series, float]:
        """Returns all series once those without labels have these values."""
        shown: dict[Series, float] = {}
        for name, value in wanted.items():
            shown = await self.shows_series((name, frozenset()), value)
        return shown

    async def shows_series(self, series: Series, value: float) -> dict[Series, float]:
        """Returns all series once this one has this value."""
        async with asyncio.timeout(PATIENCE_S):
            while (shown := await self.metrics()).get(series) != value:  # noqa: ASYNC110 (likewise)
                await asyncio.sleep(0.05)
        return shown


@asynccontextmanager
async def watched(directory: Path, redis_url: str, **settings: str) -> AsyncIterator[tuple[Process, Watched]]:
    """Runs a dispatcher with telemetry for the block."""
    async with (
        dispatcher(directory, redis_url, TELEMETRY_PORT="0", **settings) as running,
        aiohttp.ClientSession() as http,
    ):
        yield running, Watched(running, http)


async def called(script: PooledWorker, caller: Peer, call_id: str, *headers: str) -> bytes:
    """Makes a call, which the worker claims and answers, and ends it; returns the INVITE that the worker got."""
    caller.send(caller.request("INVITE", call_id=call_id, from_tag="abc", headers=headers))
    offered = await script.expect("INVITE")
    await script.claim(offered, call_id, "abc")
    script.answer(offered, 200)
    await hang_up(caller, await caller.expect("200 INVITE"), call_id=call_id, from_tag="abc")
    return offered


async def test_calls_redis_and_messages_are_counted(tmp_path: Path, redis_url: str) -> None:
    async with worker(redis_url, 180) as script, watched(tmp_path, redis_url) as (running, shown):
        caller = await running.caller()
        await called(script, caller, "one@pbx")
        await shown.shows_series(("dispatch_calls_total", frozenset({("outcome", "placed")})), 1)
        series = await shown.shows(dispatch_duration_seconds_count=1, dispatch_draining=0, redis_available=1)
        leased = frozenset({("operation", "lease_acquire"), ("outcome", "ok")})
        assert series["redis_duration_seconds_count", leased] == 1
        assert 0 < series["redis_duration_seconds_sum", leased] < 1
        assert (await running.stop()) == 0


async def test_refusals_say_status_and_reason(tmp_path: Path, redis_url: str) -> None:
    async with watched(tmp_path, redis_url) as (running, shown):
        caller = await running.caller()
        caller.send(caller.request("INVITE", call_id="one", from_tag="abc"))
        caller.send(ack_for(caller, await caller.expect("503 INVITE"), call_id="one", from_tag="abc"))
        refusals = frozenset({("status", "503"), ("reason", "no_capacity")})
        await shown.shows_series(("dispatch_refusals_total", refusals), 1)


async def test_everything_shown_is_in_the_catalogue_with_its_attributes(tmp_path: Path, redis_url: str) -> None:
    async with worker(redis_url, 180) as script, watched(tmp_path, redis_url) as (running, shown):
        await called(script, await running.caller(), "one@pbx")
        await shown.shows(dispatch_duration_seconds_count=1, dispatch_waiting=0)
        series = await shown.metrics()
    known = {
        prometheus_name(metric).removeprefix("voicepool_") + suffix: {*metric.attributes, *bucket}
        for metric in METRICS.values()
        for suffix, bucket in (("", ""), ("_bucket", ["le"]), ("_sum", ""), ("_count", ""))
    }
    ours = [each for each in series if not each[0].startswith(("process_", "target_info"))]
    for name, labels in ours:
        assert {label for label, _ in labels} <= known[name], name
    said = str(sorted(map(str, series)))
    for private in ("alice", "one@pbx", call_id_for("one@pbx", "abc"), "127.0.0.1"):
        assert private not in said


async def test_it_is_ready_while_a_worker_lives_and_it_does_not_drain(
    tmp_path: Path, redis_url: str, redis: Redis
) -> None:
    async with watched(tmp_path, redis_url) as (_, shown):
        await shown.says("/readyz", (503, "no worker is alive\n"))
        async with worker(redis_url, 180):
            await shown.says("/readyz", (200, "ok\n"))
            [row] = await Dispatchers(redis).table()
            drain = Command(command_id=new_command_id(), name=CommandName.DRAIN)
            await Commands(redis).run(row.record.dispatcher_id, drain)
            await shown.says("/readyz", (503, "draining\n"))
            assert await shown.asked("/livez") == (200, "ok\n")
            await shown.shows(dispatch_draining=1)


async def test_a_full_pool_is_no_reason_not_to_be_ready(tmp_path: Path, redis_url: str) -> None:
    async with worker(redis_url, 180, capacity=1) as script, watched(tmp_path, redis_url) as (running, shown):
        caller = await running.caller()
        caller.send(caller.request("INVITE", call_id="one", from_tag="abc"))
        await script.expect("INVITE")
        await caller.expect("180 INVITE")
        await shown.shows(dispatch_transactions=2)
        assert (await shown.asked("/readyz"))[0] == 200


async def test_a_taken_telemetry_port_is_told_in_one_line(tmp_path: Path, redis_url: str) -> None:
    listening = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    async with listening:
        port = str(listening.sockets[0].getsockname()[1])
        process = await spawn(tmp_path, LEASE_SECRET=SECRET, REDIS_URL=redis_url, SIP_PORT="0", TELEMETRY_PORT=port)
        async with asyncio.timeout(PATIENCE_S):
            _, said = await process.communicate()
    assert process.returncode == 2
    [line] = said.decode().splitlines()
    assert line.startswith("TELEMETRY_PORT: ")
    assert port in line


async def test_redis_away_is_shown(tmp_path: Path, redis_url: str, redis: Redis) -> None:
    async with worker(redis_url, 180), watched(tmp_path, redis_url) as (_, shown):
        await shown.shows(redis_available=1)
        await redis.client_pause(4_000)
        series = await shown.shows(redis_available=0)
        late = [
            value for (name, labels), value in series.items() if ("outcome", "timeout") in labels and "count" in name
        ]
        assert sum(late) >= 1
        assert (await shown.asked("/livez"))[0] == 200


async def test_one_trace_goes_from_the_caller_through_the_lease_to_the_worker(
    tmp_path: Path, redis_url: str, redis: Redis
) -> None:
    above = TraceContext("a" * 32, "b" * 16, True)
    async with collector() as collecting, worker(redis_url, 180) as script:
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collecting.port}"}
        async with watched(tmp_path, redis_url, **settings) as (running, _):
            caller = await running.caller()
            caller.send(caller.request("INVITE", call_id="one@pbx", from_tag="abc", headers=(f"Traceparent: {above}",)))
            offered = await script.expect("INVITE")
            lease = await script.claim(offered, "one@pbx", "abc")
            found = await Leases(redis).find(CallId(call_id_for("one@pbx", "abc")))
            script.answer(offered, 200)
            await hang_up(caller, await caller.expect("200 INVITE"), call_id="one@pbx", from_tag="abc")
            assert await running.stop() == 0
        about_the_call = [line for line in running.lines if "call_id" in line]
    assert found
    assert lease.traceparent == found.traceparent == header_of(offered, "Traceparent")
    assert {line["trace_id"] for line in about_the_call} == {above.trace_id}
    [dispatch], [leasing] = collecting.named("dispatch"), collecting.named("lease")
    assert (dispatch.trace_id.hex(), dispatch.parent_span_id.hex()) == (above.trace_id, above.span_id)
    assert (leasing.trace_id, leasing.parent_span_id) == (dispatch.trace_id, dispatch.span_id)
    assert lease.traceparent == f"00-{above.trace_id}-{dispatch.span_id.hex()}-01"
    assert dispatch.kind == Span.SPAN_KIND_SERVER
    assert dispatch.start_time_unix_nano <= dispatch.end_time_unix_nano
    assert attributes_of(dispatch)["status"] == 200
    assert attributes_of(leasing) == {"outcome": "offered", "reason": "", "attempt": 1, "provisional": False}
    assert {each["service.name"] for each in collecting.resources} == {"voicepool-dispatcher"}
    assert "voicepool.dispatch.calls" in collecting.metrics


async def test_calls_out_of_the_ratio_leave_no_spans_but_a_trace_id(tmp_path: Path, redis_url: str) -> None:
    async with collector() as collecting, worker(redis_url, 180) as script:
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collecting.port}", "TRACE_RATIO": "0"}
        async with watched(tmp_path, redis_url, **settings) as (running, _):
            offered = await called(script, await running.caller(), "one@pbx")
            assert await running.stop() == 0
    sent = TraceContext.parse(header_of(offered, "Traceparent"))
    assert sent
    assert not sent.sampled
    assert {line["trace_id"] for line in running.lines if "call_id" in line} == {sent.trace_id}
    assert collecting.spans == []
    assert collecting.metrics


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A client of an empty Redis."""
    async with connect(redis_url, timeout_s=20.0) as client:
        await ask(client, "PING")
        yield client


def attributes_of(span: Span) -> dict[str, Any]:
    """Returns the attributes of a span."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}
