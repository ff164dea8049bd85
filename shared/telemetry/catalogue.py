"""Every metric of the pool, in one table: name, kind, unit, what it says, by which attributes.

Pure data, which a worker may import at no cost; it measures and exports nothing. Names and units follow OpenTelemetry's
conventions for metrics; `prometheus_name` says what Prometheus calls them. An attribute never has a telephone number,
a URI, an id of a call or anything a caller said as its value: each value is one of few.
"""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What may be done with a metric's values."""

    COUNTER = "counter"
    """Only grows: rates are taken of it."""
    GAUGE = "gauge"
    """What is so now."""
    HISTOGRAM = "histogram"
    """How values are spread: quantiles are taken of it."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric."""

    name: str
    kind: Kind
    unit: str
    """In UCUM, as OpenTelemetry has it: `s`, or in braces what is counted; empty for a value without one."""
    description: str
    attributes: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    """Upper bounds of a histogram's buckets."""


_UNITS = {"s": "seconds"}

_REDIS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0)
_DISPATCH_S = (0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_REACTION_S = (0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.2, 0.5)
_TURN_S = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0)
_SETUP_S = (0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0, 15.0, 20.0)
_CALL_S = (1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0)
_TOOL_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_JITTER_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2)


def _counter(name: str, unit: str, description: str, *attributes: str) -> Metric:
    return Metric(name, Kind.COUNTER, unit, description, attributes)


def _gauge(name: str, unit: str, description: str, *attributes: str) -> Metric:
    return Metric(name, Kind.GAUGE, unit, description, attributes)


def _histogram(name: str, description: str, buckets: tuple[float, ...], *attributes: str) -> Metric:
    return Metric(name, Kind.HISTOGRAM, "s", description, attributes, buckets)


# ----------------------------------------------------------------------------------------------------------- worker pod

CALLS_ACTIVE = _gauge("voicepool.calls.active", "{call}", "Calls that a worker carries now.", "worker")
SLOTS = _gauge("voicepool.slots", "{slot}", "Calls that a worker has room for.", "worker")
WORKERS = _gauge(
    "voicepool.workers", "{worker}", "Workers of a pod, by state: starting, ready, draining, stopped.", "state"
)
WORKER_LATE = _gauge("voicepool.worker.late", "", "1 while a worker is too late for another call.", "worker")
WORKER_RESTARTS = _counter(
    "voicepool.worker.restarts",
    "{restart}",
    "Workers that had to be replaced, by cause: died, hung.",
    "worker",
    "cause",
)
LEASES = _counter(
    "voicepool.leases",
    "{lease}",
    "Leases that came with an INVITE: claimed, provisional (Redis was away), refused; and those lost during the call.",
    "outcome",
)
CALLS = _counter(
    "voicepool.calls", "{call}", "Calls that have ended, by how and why.", "worker", "result", "reason", "agent"
)
CALL_DURATION = _histogram("voicepool.call.duration", "From answer to end, of answered calls.", _CALL_S, "agent")
CALL_SETUP = _histogram("voicepool.call.setup.duration", "From INVITE to answer.", _SETUP_S, "agent")
TURN_LATENCY = _histogram(
    "voicepool.turn.latency", "From the end of the caller's speech to the answer's first packet.", _TURN_S, "agent"
)
TURN_SERVICE_LATENCY = _histogram(
    "voicepool.turn.service.latency",
    "Voice Live's part of it: from its speech_stopped to the answer's first audio.",
    _TURN_S,
    "agent",
)
BARGE_INS = _counter("voicepool.barge_ins", "{barge_in}", "Answers that the caller spoke over.", "agent")
BARGE_IN_REACTION = _histogram(
    "voicepool.barge_in.reaction", "From speech_started having come to the playout having been dropped.", _REACTION_S
)
AUDIO_UNDERRUNS = _counter(
    "voicepool.audio.underruns", "{underrun}", "Times the playout ran empty in the middle of an answer.", "worker"
)
AUDIO_DROPPED = _counter(
    "voicepool.audio.dropped", "s", "Audio dropped where a queue was full: uplink, downlink.", "worker", "direction"
)
RTP_PACKETS = _counter(
    "voicepool.rtp.packets", "{packet}", "RTP packets of ended calls: received, sent, lost.", "worker", "direction"
)
RTP_JITTER = _histogram("voicepool.rtp.jitter", "Jitter of what callers sent, a call's mean each.", _JITTER_S)
CALLS_ONE_WAY = _counter(
    "voicepool.calls.one_way",
    "{call}",
    "Answered calls of more than 5 s without any RTP one way, by what is missing: received, sent.",
    "worker",
    "missing",
)
VOICELIVE_CONNECTIONS = _counter(
    "voicepool.voicelive.connections",
    "{connection}",
    "Connections to Voice Live: ok, refused (by an HTTP status), failed (anything else), lost (after it was ok).",
    "resource",
    "outcome",
)
VOICELIVE_CONNECT = _histogram(
    "voicepool.voicelive.connect.duration",
    "From the begin of a connection to its session being ready.",
    _SETUP_S,
    "resource",
)
VOICELIVE_ERRORS = _counter("voicepool.voicelive.errors", "{error}", "Error events of Voice Live.", "resource")
VOICELIVE_RECONNECTS = _counter(
    "voicepool.voicelive.reconnects",
    "{reconnect}",
    "Connections of running calls that were lost and replaced.",
    "resource",
)
VOICELIVE_ROLLOVERS = _counter(
    "voicepool.voicelive.rollovers", "{rollover}", "Connections that were replaced before they ended.", "resource"
)
VOICELIVE_CIRCUIT = _gauge(
    "voicepool.voicelive.circuit.open", "", "1 while a worker cannot reach the resource.", "worker", "resource"
)
TOKENS = _counter(
    "voicepool.tokens",
    "{token}",
    "Tokens as Voice Live counts them, by kind: input_text, input_audio; among those cached_text, cached_audio; "
    "output_text, output_audio.",
    "model",
    "kind",
)
COST = _counter("voicepool.cost", "", "What the tokens cost, by the prices of the agent file.", "currency", "model")
TOOL_DURATION = _histogram(
    "voicepool.tool.duration", "Tools that ran, by outcome: ok, failed.", _TOOL_S, "tool", "outcome"
)
TRANSFERS = _counter("voicepool.transfers", "{transfer}", "Transfers of callers, by outcome: ok, failed.", "outcome")
AUDIO_LATE_TICKS = _counter(
    "voicepool.audio.late_ticks", "{tick}", "Ticks of a worker's audio clock that came more than 10 ms late.", "worker"
)
CPU_SHARE = _gauge("voicepool.cpu.share", "", "CPU time of a worker, as a share of one core.", "worker")

# ------------------------------------------------------------------------------------- worker pod and dispatcher

LOOP_LAG = _gauge(
    "voicepool.loop.lag",
    "s",
    "How late the event loop was in the last second, by quantile: p99, max. Of a worker, or of the dispatcher.",
    "worker",
    "quantile",
)
REDIS_AVAILABLE = _gauge(
    "voicepool.redis.available", "", "1 while Redis answers. Of a worker, or of the dispatcher.", "worker"
)
REDIS_DURATION = _histogram(
    "voicepool.redis.duration",
    "Operations of the control plane on Redis, by outcome: ok, timeout, failed.",
    _REDIS_S,
    "operation",
    "outcome",
)

# ----------------------------------------------------------------------------------------------------------- dispatcher

DISPATCH_DURATION = _histogram(
    "voicepool.dispatch.duration", "From an INVITE having come to its being sent to a worker.", _DISPATCH_S
)
DISPATCH_CALLS = _counter(
    "voicepool.dispatch.calls", "{call}", "New calls, by outcome: placed, refused, cancelled.", "outcome"
)
DISPATCH_REFUSALS = _counter(
    "voicepool.dispatch.refusals", "{refusal}", "Calls refused, by SIP status and why.", "status", "reason"
)
DISPATCH_WAITING = _gauge("voicepool.dispatch.waiting", "{call}", "Callers who wait in line for a quota.")
DISPATCH_TRANSACTIONS = _gauge("voicepool.dispatch.transactions", "{transaction}", "SIP transactions under way.")
DISPATCH_DRAINING = _gauge("voicepool.dispatch.draining", "", "1 while the dispatcher drains.")
DISPATCH_ORPHANS = _counter(
    "voicepool.dispatch.orphans", "{call}", "Callers of dead workers who were sent a BYE by this dispatcher."
)
SIP_MESSAGES = _counter(
    "voicepool.sip.messages", "{message}", "SIP messages of the dispatcher: received, sent.", "direction"
)

# --------------------------------------------------------------------------------------------------------------- admin

POOL_CALLS = _gauge("voicepool.pool.calls", "{call}", "Leases of the whole pool.")
POOL_SLOTS = _gauge("voicepool.pool.slots", "{slot}", "Slots of all workers that are ready, late ones too.")
POOL_FREE_SLOTS = _gauge("voicepool.pool.free_slots", "{slot}", "Slots that a new call could have.")
POOL_WORKERS = _gauge(
    "voicepool.pool.workers",
    "{worker}",
    "Workers of the whole pool, by state: starting, ready, draining, late, silent (no heartbeat).",
    "state",
)
POOL_DISPATCHERS = _gauge(
    "voicepool.pool.dispatchers",
    "{dispatcher}",
    "Dispatchers of the whole pool, by state: ready, draining, silent.",
    "state",
)
QUOTA_USED = _gauge(
    "voicepool.quota.used",
    "",
    "What the pool uses of a resource now, by kind: connections and tokens of the last minute, sessions.",
    "resource",
    "kind",
)
QUOTA_LIMIT = _gauge("voicepool.quota.limit", "", "What it may use, where there is a limit.", "resource", "kind")

# ---------------------------------------------------------------------------------------------------------------- all

CERTIFICATE_EXPIRY = _gauge(
    "voicepool.certificate.expiry",
    "s",
    "Unix time at which a certificate ends, by purpose: redis_ca, redis_client, sip_tls.",
    "purpose",
)
BUILD = _gauge("voicepool.build", "", "Always 1; the version is its attribute.", "version")
TELEMETRY_DROPPED = _counter(
    "voicepool.telemetry.dropped", "{item}", "Spans and measurements dropped because a queue was full.", "worker"
)

GROUPS: dict[str, tuple[Metric, ...]] = {
    "Worker pods": (
        CALLS_ACTIVE,
        SLOTS,
        WORKERS,
        WORKER_LATE,
        WORKER_RESTARTS,
        LEASES,
        CALLS,
        CALL_DURATION,
        CALL_SETUP,
        TURN_LATENCY,
        TURN_SERVICE_LATENCY,
        BARGE_INS,
        BARGE_IN_REACTION,
        AUDIO_UNDERRUNS,
        AUDIO_DROPPED,
        RTP_PACKETS,
        RTP_JITTER,
        CALLS_ONE_WAY,
        VOICELIVE_CONNECTIONS,
        VOICELIVE_CONNECT,
        VOICELIVE_ERRORS,
        VOICELIVE_RECONNECTS,
        VOICELIVE_ROLLOVERS,
        VOICELIVE_CIRCUIT,
        TOKENS,
        COST,
        TOOL_DURATION,
        TRANSFERS,
        AUDIO_LATE_TICKS,
        CPU_SHARE,
    ),
    "Worker pods and dispatchers": (LOOP_LAG, REDIS_AVAILABLE, REDIS_DURATION),
    "Dispatchers": (
        DISPATCH_DURATION,
        DISPATCH_CALLS,
        DISPATCH_REFUSALS,
        DISPATCH_WAITING,
        DISPATCH_TRANSACTIONS,
        DISPATCH_DRAINING,
        DISPATCH_ORPHANS,
        SIP_MESSAGES,
    ),
    "The HTTP API, about the whole pool": (
        POOL_CALLS,
        POOL_SLOTS,
        POOL_FREE_SLOTS,
        POOL_WORKERS,
        POOL_DISPATCHERS,
        QUOTA_USED,
        QUOTA_LIMIT,
    ),
    "All of them": (CERTIFICATE_EXPIRY, BUILD, TELEMETRY_DROPPED),
}
"""The metrics by who has them, in the order of the documents."""

METRICS: dict[str, Metric] = {metric.name: metric for group in GROUPS.values() for metric in group}
"""All of them, by name."""


def prometheus_name(metric: Metric) -> str:
    """Returns what Prometheus calls it: with unit, and `_total` for a counter (OpenTelemetry's compatibility rules).

    A histogram's series have `_bucket`, `_sum` and `_count` behind it.
    """
    parts = [metric.name.replace(".", "_")]
    if metric.unit in _UNITS:
        parts.append(_UNITS[metric.unit])
    if metric.kind is Kind.COUNTER:
        parts.append("total")
    return "_".join(parts)
