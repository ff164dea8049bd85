"""An OpenTelemetry collector for tests, in a thread of the test: it keeps the spans and metrics that it is sent."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

NO_PARENT = b""


@dataclass(frozen=True)
class SentSpan:
    """A span as it arrived."""

    service: str
    name: str
    trace_id: str
    span_id: bytes
    parent_id: bytes
    """NO_PARENT for the first of a trace."""
    start_ns: int
    end_ns: int
    failed: bool
    attributes: dict[str, Any]


class Collector:
    """What has arrived so far. `refusing` has it answer 503 and keep nothing."""

    def __init__(self) -> None:
        self.url = ""
        self.refusing = False
        self.bodies: list[bytes] = []
        """Every request's, as it came."""
        self._spans: list[SentSpan] = []
        self._metrics: set[tuple[str, str]] = set()
        self._lock = threading.Lock()

    @property
    def spans(self) -> list[SentSpan]:
        """All spans, in order of arrival."""
        with self._lock:
            return list(self._spans)

    @property
    def metrics(self) -> set[tuple[str, str]]:
        """Service and name of each metric."""
        with self._lock:
            return set(self._metrics)

    async def take_traces(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self.refusing:
            return web.Response(status=503)
        found = [
            SentSpan(
                service=_attributes(group.resource.attributes)["service.name"],
                name=span.name,
                trace_id=span.trace_id.hex(),
                span_id=span.span_id,
                parent_id=span.parent_span_id,
                start_ns=span.start_time_unix_nano,
                end_ns=span.end_time_unix_nano,
                failed=span.status.code == span.status.STATUS_CODE_ERROR,
                attributes=_attributes(span.attributes),
            )
            for group in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]
        with self._lock:
            self.bodies.append(body)
            self._spans += found
        return web.Response()

    async def take_metrics(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self.refusing:
            return web.Response(status=503)
        found = {
            (_attributes(group.resource.attributes)["service.name"], metric.name)
            for group in ExportMetricsServiceRequest.FromString(body).resource_metrics
            for scope in group.scope_metrics
            for metric in scope.metrics
        }
        with self._lock:
            self.bodies.append(body)
            self._metrics |= found
        return web.Response()


@contextmanager
def collecting() -> Iterator[Collector]:
    """Runs a collector during the block; its `url` is what OTEL_EXPORTER_OTLP_ENDPOINT takes."""
    collector = Collector()
    loop = asyncio.new_event_loop()
    app = web.Application()
    app.router.add_post("/v1/traces", collector.take_traces)
    app.router.add_post("/v1/metrics", collector.take_metrics)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    loop.run_until_complete(runner.setup())
    loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", 0).start())
    collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    thread = threading.Thread(target=loop.run_forever, name="collector")
    thread.start()
    try:
        yield collector
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10.0)
        loop.run_until_complete(runner.cleanup())
        loop.close()


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}
