"""What was measured, given to Prometheus and OTLP by OpenTelemetry's SDK.

Nothing is measured here, and it is imported only by a process that is to export: the SDK takes 18 MB.
"""

import threading
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import structlog
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExportResult,
    MetricReader,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
from prometheus_client import CollectorRegistry, ProcessCollector

from shared.telemetry.catalogue import BUILD, METRICS, Kind, Metric
from shared.telemetry.recorder import Attributes, Batch, Point
from shared.telemetry.trace import Span

log = structlog.get_logger()

CLOSE_TIMEOUT_S = 3.0
"""Longest wait for the last spans and metrics to be sent."""

SCOPE = "voicepool"
"""Instrumentation scope of everything."""

_KINDS = {"internal": SpanKind.INTERNAL, "server": SpanKind.SERVER, "client": SpanKind.CLIENT}


class Exporter:
    """The metrics and spans of one process, and of others that hand theirs over to it; usable from several threads."""

    def __init__(self, service: str, instance: str, otlp_endpoint: str = "") -> None:
        """`service` is one of dispatcher, worker, admin; `instance` names the pod. Without endpoint there is no OTLP.

        Headers, certificates, intervals and sizes of OTLP are OpenTelemetry's own variables, which the SDK reads.
        """
        self.registry = CollectorRegistry()
        """What Prometheus is shown: the metrics of the catalogue, and memory, CPU and descriptors of this process."""
        ProcessCollector(registry=self.registry)
        release = version("voicepool")
        self._resource = Resource.create(
            {"service.name": f"voicepool-{service}", "service.instance.id": instance, "service.version": release}
        )
        readers: list[MetricReader] = [PrometheusMetricReader(scope_info_enabled=False, registry=self.registry)]
        self._processor: BatchSpanProcessor | None = None
        if otlp_endpoint:
            base = otlp_endpoint.rstrip("/")
            readers.append(PeriodicExportingMetricReader(_MetricExporter(endpoint=f"{base}/v1/metrics")))
            self._processor = BatchSpanProcessor(_SpanExporter(endpoint=f"{base}/v1/traces"))
        self._provider = MeterProvider(readers, self._resource, shutdown_on_exit=False)
        self._scope = InstrumentationScope(SCOPE, release)
        self._meter = self._provider.get_meter(SCOPE, release)
        self._instruments: dict[str, Counter | Histogram] = {}
        self._lock = threading.Lock()
        self._gauges: dict[str, dict[str, dict[Attributes, float]]] = {}
        """Values of each gauge: metric, source, attributes."""
        self.record(Batch([Point(BUILD.name, (("version", release),), (1.0,))]), source="build")

    def record(self, batch: Batch, *, source: str = "", **attributes: str) -> None:
        """Takes in what a `Recorder` had to say. Gauges replace those of the same source.

        `attributes` are added to those of the metrics that have them in the catalogue. Spans go nowhere without OTLP.
        """
        for point in batch.points:
            metric = METRICS[point.name]
            instrument = self._instruments.get(point.name) or self._instrument(metric)
            labels = dict(_attributes(point, metric, attributes))
            for value in point.values:
                if isinstance(instrument, Histogram):
                    instrument.record(value, labels)
                else:
                    instrument.add(value, labels)
        if batch.gauges is not None:
            gauges: dict[str, dict[Attributes, float]] = {}
            for point in batch.gauges:
                labelled = _attributes(point, METRICS[point.name], attributes)
                gauges.setdefault(point.name, {})[labelled] = point.values[0]
            self._replace_gauges(source, gauges)
        if self._processor is not None:
            for span in batch.spans:
                self._processor.on_end(self._readable(span))

    def forget(self, source: str) -> None:
        """Drops the gauges of a source that is gone."""
        self._replace_gauges(source, {})

    def close(self) -> None:
        """Sends what is left, for as long as CLOSE_TIMEOUT_S allows, and stops."""
        # In a thread, which is left behind if need be: neither of the two keeps to a time limit of its own.
        last = threading.Thread(target=self._shut_down, name="telemetry-close", daemon=True)
        last.start()
        last.join(CLOSE_TIMEOUT_S)

    def _shut_down(self) -> None:
        if self._processor is not None:
            self._processor.shutdown()  # type: ignore[no-untyped-call]
        self._provider.shutdown()

    # ------------------------------------------------------------------------------------------------------- metrics

    def _instrument(self, metric: Metric) -> Counter | Histogram:
        made: Counter | Histogram
        if metric.kind is Kind.COUNTER:
            made = self._meter.create_counter(metric.name, metric.unit, metric.description)
        else:
            made = self._meter.create_histogram(
                metric.name, metric.unit, metric.description, explicit_bucket_boundaries_advisory=metric.buckets
            )
        self._instruments[metric.name] = made
        return made

    def _replace_gauges(self, source: str, gauges: dict[str, dict[Attributes, float]]) -> None:
        with self._lock:
            new = gauges.keys() - self._gauges.keys()
            self._gauges |= {name: {} for name in new}
            for name, sources in self._gauges.items():
                if name in gauges:
                    sources[source] = gauges[name]
                else:
                    sources.pop(source, None)
        for name in sorted(new):
            self._observe(METRICS[name])

    def _observe(self, metric: Metric) -> None:
        """Has the SDK ask for the gauge's values when it wants them: what is gone is not shown any more."""

        def observe(_options: CallbackOptions) -> list[Observation]:
            with self._lock:
                sources = list(self._gauges[metric.name].values())
            return [Observation(value, dict(labels)) for values in sources for labels, value in values.items()]

        self._meter.create_observable_gauge(metric.name, [observe], metric.unit, metric.description)

    # --------------------------------------------------------------------------------------------------------- spans

    def _readable(self, span: Span) -> ReadableSpan:
        context = span.context
        return ReadableSpan(
            name=span.name,
            context=_span_context(context.trace_id, context.span_id, remote=False),
            parent=_span_context(context.trace_id, span.parent_id, remote=True) if span.parent_id else None,
            resource=self._resource,
            attributes=span.attributes,
            kind=_KINDS[span.kind],
            status=Status(StatusCode.ERROR) if span.failed else Status(StatusCode.UNSET),
            start_time=span.start_ns,
            end_time=span.end_ns,
            instrumentation_scope=self._scope,
        )


def _attributes(point: Point, metric: Metric, more: Mapping[str, str]) -> Attributes:
    known = tuple((name, value) for name, value in more.items() if name in metric.attributes)
    return (*point.attributes, *known)


def _span_context(trace_id: str, span_id: str, *, remote: bool) -> SpanContext:
    return SpanContext(int(trace_id, 16), int(span_id, 16), remote, TraceFlags(TraceFlags.SAMPLED))


class _Outcome:
    """Whether what is sent arrives; logs the change only: an outage is two lines. `LOG_LEVEL=DEBUG` tells the rest."""

    def __init__(self, signal: str) -> None:
        self._signal = signal
        self._arrives = True

    def note(self, arrived: bool) -> None:
        if self._arrives and not arrived:
            log.warning("telemetry.not_sent", signal=self._signal)
        elif arrived and not self._arrives:
            log.info("telemetry.sent_again", signal=self._signal)
        self._arrives = arrived


class _SpanExporter(OTLPSpanExporter):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._outcome = _Outcome("traces")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export(spans)
        self._outcome.note(result is SpanExportResult.SUCCESS)
        return result


class _MetricExporter(OTLPMetricExporter):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._outcome = _Outcome("metrics")

    def export(self, metrics_data: MetricsData, *args: Any, **options: Any) -> MetricExportResult:
        result = super().export(metrics_data, *args, **options)
        self._outcome.note(result is MetricExportResult.SUCCESS)
        return result
