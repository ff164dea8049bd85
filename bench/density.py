"""How many calls one core carries: N simultaneous calls with full-duplex speech, and what each of them costs.

    callers (RtpLoad) == RTP ==> worker == WebSocket ==> simulator (monologue: it speaks all the time)
    SipCaller -- INVITE --> dispatcher -- INVITE --> worker

Callers and simulator speak all the time, so that both directions carry speech at once; or, if that is asked for, in
turns. The worker process has a core to itself; baselines take its place in the same run, under the same load. What is
measured is CPU time of that one process over a steady window, its memory, and when the packets reached the callers, by
the kernel's clock.
"""

import asyncio
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp

from admin.ports import free_tcp_port
from bench import usage
from bench.baselines import BASELINES
from bench.callers import Callers
from bench.load.clips import speech_samples, write_wav
from bench.load.collector import collecting
from bench.load.packets import lost, percentiles, spacing_ms
from bench.load.rtp import RtpLoad
from bench.progress import Progress
from bench.rig import ADDRESS, READY_S, PoolOptions, Rig, RigError, pool, rig, subdirectory
from shared.messages import WorkerHealth

SETTLE_S = 4.0
"""Between the last answer and the window: jitter buffers fill, first answers are on their way."""

BROKEN_SPACING_MS = 5.0
"""`search` takes quality for broken when 1 % of the packets are later than this after their time."""

LOAD_CORE_MAX_PERCENT = 90.0
SENDER_LATE_MAX_MS = 3.0
"""Beyond either the load side is what has been measured, and the run counts for nothing."""

MAX_CALLS = 500

CALLS_PER_S = 20.0
"""How fast calls are made before the window."""

THREADS = {"python": "event loop", "media": "RTP in", "clock": "bridge, RTP out", "pjsua_0": "SIP"}
"""What the threads of a process with pjsua2 do, by the names they have."""

SEARCH_ATTEMPTS = 3

BASELINE_ATTEMPTS = 4
"""pjproject's AudioMediaAiPort loses sessions now and then, and its thread spins from then on."""

MODEL_TEXT = (
    "Thank you for your patience. The parcel left our warehouse yesterday in the afternoon, and it will be delivered "
    "tomorrow between nine and twelve. I have changed the address as you asked."
)

SCRAPE_S = 10
"""How often metrics are asked for and sent in the run with telemetry; Prometheus's default is a minute."""


@dataclass(frozen=True, slots=True)
class Options:
    """One point of the measurement."""

    calls: int = 100
    audio_format: str = "g711"
    uplink_ms: int = 20
    tls: bool = False
    srtp: bool = False
    turns: bool = False
    """Callers and model take turns, all of them barge-ins, instead of speaking all the time."""
    seconds: float = 10.0
    """Length of the window."""
    baselines: tuple[str, ...] = tuple(BASELINES)
    telemetry: bool = False
    """Measure once more with everything exported."""


@dataclass(frozen=True, slots=True)
class Load:
    """What the load side itself used."""

    core_percent: float
    simulator_percent: float
    rtp_percent: float
    sender_late_ms: float
    """99th percentile of how late the callers' packets were sent."""

    @property
    def saturated(self) -> str:
        """What is wrong with the load, or nothing."""
        if self.core_percent > LOAD_CORE_MAX_PERCENT:
            return f"the load core was {self.core_percent:.0f} % busy"
        if self.sender_late_ms > SENDER_LATE_MAX_MS:
            return f"callers' packets were sent {self.sender_late_ms:.1f} ms late (p99)"
        return ""


class LoadWatch:
    """Watches the load side from the moment it is made."""

    def __init__(self, started: Rig, rtp: RtpLoad) -> None:
        self._rtp = rtp
        self._core = started.cores.load
        self._pids = {"simulator": started.simulator_pid, "rtp": rtp.pid}
        self._core_time = usage.core_time(self._core)
        self._spent_s = {name: usage.cpu_seconds(pid) for name, pid in self._pids.items()}

    async def load(self) -> Load:
        """Returns what it has used since."""
        now = usage.core_time(self._core)
        elapsed_s = now.read_at_s - self._core_time.read_at_s
        used = {
            name: 100 * (usage.cpu_seconds(pid) - self._spent_s[name]) / elapsed_s for name, pid in self._pids.items()
        }
        return Load(
            core_percent=usage.busy_percent(self._core_time, now),
            simulator_percent=used["simulator"],
            rtp_percent=used["rtp"],
            sender_late_ms=(await self._rtp.stats()).late_p99_us / 1000,
        )


@dataclass(frozen=True, slots=True)
class Window:
    """What one window showed."""

    calls: int
    cpu_percent_per_call: float
    rss_kb: int
    rtp_spacing_ms: dict[str, float]
    lost: int
    load: Load
    threads: dict[str, float]
    """CPU per call by thread, in percent of a core."""
    supervisor_percent: float = 0.0
    """CPU of the worker's supervisor, in percent of a core."""

    @property
    def pod_percent(self) -> float:
        """CPU of worker and supervisor together, in percent of a core."""
        return self.cpu_percent_per_call * self.calls + self.supervisor_percent


@dataclass(frozen=True, slots=True)
class Telemetry:
    """The same load with everything exported: every call traced, metrics scraped and sent as often as is usual."""

    window: Window
    ratio: float
    """CPU of worker and supervisor, against the same without."""
    idle_rss_mb: float
    sent_bytes: int

    def as_json(self) -> dict[str, Any]:
        """Returns the comparison as plain values."""
        return {
            "cpu_percent_per_call": round(self.window.cpu_percent_per_call, 4),
            "supervisor_percent": round(self.window.supervisor_percent, 3),
            "ratio": round(self.ratio, 3),
            "idle_rss_mb": round(self.idle_rss_mb, 1),
            "sent_bytes": self.sent_bytes,
            "rtp_spacing_ms": rounded(self.window.rtp_spacing_ms),
            "threads": {name: round(share, 4) for name, share in self.window.threads.items()},
        }


@dataclass(frozen=True, slots=True)
class Compared:
    """A baseline, and the worker under the same number of calls."""

    window: Window
    worker_cpu_percent_per_call: float

    def as_json(self) -> dict[str, Any]:
        """Returns the comparison as plain values."""
        cost = self.window.cpu_percent_per_call
        return {
            "calls": self.window.calls,
            "cpu_percent_per_call": round(cost, 4),
            "worker_cpu_percent_per_call": round(self.worker_cpu_percent_per_call, 4),
            "ratio": round(self.worker_cpu_percent_per_call / cost, 3),
            "rtp_spacing_ms": rounded(self.window.rtp_spacing_ms),
            "lost": self.window.lost,
        }


@dataclass(frozen=True, slots=True)
class Density:
    """The result of one run."""

    options: Options
    window: Window
    idle_rss_mb: float
    rss_kb_per_call: float
    underruns: int
    uplink_dropped: int
    turns_taken: int
    loop_lag_ms: dict[str, float]
    baselines: dict[str, Compared] = field(default_factory=dict)
    telemetry: Telemetry | None = None

    def as_json(self) -> dict[str, Any]:
        """Returns the result as plain values."""
        options, window = self.options, self.window
        return {
            "calls": window.calls,
            "format": options.audio_format,
            "uplink_ms": options.uplink_ms,
            "tls": options.tls,
            "srtp": options.srtp,
            "turns": options.turns,
            "cpu_percent_per_call": round(window.cpu_percent_per_call, 4),
            "rss_kb_per_call": round(self.rss_kb_per_call, 1),
            "idle_rss_mb": round(self.idle_rss_mb, 1),
            "rtp_spacing_ms": rounded(window.rtp_spacing_ms),
            "underruns": self.underruns,
            "lost": window.lost,
            "uplink_dropped": self.uplink_dropped,
            "turns_taken": self.turns_taken,
            "loop_lag_ms": rounded(self.loop_lag_ms),
            "threads": {name: round(share, 4) for name, share in window.threads.items()},
            "supervisor_percent": round(window.supervisor_percent, 3),
            "load": load_json(window.load),
            "baselines": {name: baseline.as_json() for name, baseline in self.baselines.items()},
        } | ({"telemetry": self.telemetry.as_json()} if self.telemetry else {})

    @property
    def broken(self) -> str:
        """What is wrong with the quality, or nothing."""
        late = self.window.rtp_spacing_ms["p99"] - 20
        if late > BROKEN_SPACING_MS:
            return f"RTP spacing p99 is {late:.1f} ms over 20 ms"
        if self.underruns:
            return f"{self.underruns} underruns in speech"
        return ""


def rounded(values: dict[str, float]) -> dict[str, float]:
    """Returns the values with three digits after the point."""
    return {name: round(value, 3) for name, value in values.items()}


def load_json(load: Load) -> dict[str, float]:
    """Returns the load side's own use as plain values."""
    return {
        "core_percent": round(load.core_percent, 1),
        "simulator_percent": round(load.simulator_percent, 1),
        "rtp_percent": round(load.rtp_percent, 1),
        "sender_late_ms": round(load.sender_late_ms, 3),
    }


async def run(options: Options, directory: Path, progress: Progress) -> Density:
    """Measures one point, baselines included; raises RigError when the load side was saturated."""
    result = await _measure_pool(options, subdirectory(directory, "pool"), progress)
    _refuse_saturated(result)
    if options.telemetry:
        result = replace(result, telemetry=await _measure_telemetry(result, directory, progress))
    baselines = {}
    for name in options.baselines:
        window = await _measure_baseline(name, options, subdirectory(directory, name), progress)
        if window is None:
            continue
        worker = result.window
        if window.calls != worker.calls:  # the fixed part of the cost would be shared by more calls on one side
            few = replace(options, calls=window.calls)
            worker = (await _measure_pool(few, subdirectory(directory, f"{window.calls}"), progress)).window
        baselines[name] = Compared(window, worker.cpu_percent_per_call)
    return replace(result, baselines=baselines)


async def _measure_telemetry(plain: Density, directory: Path, progress: Progress) -> Telemetry:
    port = free_tcp_port()
    async with collecting(ADDRESS) as collector:
        settings = {
            "TELEMETRY_PORT": str(port),
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_METRIC_EXPORT_INTERVAL": str(1000 * SCRAPE_S),
        }
        progress.say("the same with telemetry")
        where = subdirectory(directory, "telemetry")
        metrics = f"http://{ADDRESS}:{port}/metrics"
        result = await _measure_pool(plain.options, where, progress, settings, metrics)
    _refuse_saturated(result)
    ratio = result.window.pod_percent / plain.window.pod_percent
    return Telemetry(result.window, ratio, result.idle_rss_mb, collector.received_bytes)


def _refuse_saturated(result: Density) -> None:
    if saturated := result.window.load.saturated:
        raise RigError(f"not reported, because the load side was the bottleneck: {saturated}")


async def search(options: Options, directory: Path, progress: Progress) -> tuple[Density, str]:
    """Doubles the calls until quality breaks; returns the last good point and what broke the next one.

    Raises RigError when not even the first point is good.
    """
    good: Density | None = None
    calls, trouble = options.calls, ""
    while calls <= MAX_CALLS:
        point = replace(options, calls=calls, baselines=())
        result, trouble = await _search_point(point, subdirectory(directory, f"{calls}"), progress)
        if result is None:
            break
        good, calls = result, calls * 2
    if good is None:
        raise RigError(trouble)
    return good, trouble or f"a worker takes {MAX_CALLS} calls at most"


async def _search_point(options: Options, directory: Path, progress: Progress) -> tuple[Density | None, str]:
    """Returns the result, or nothing and why there is none; what the load side spoilt is tried again."""
    trouble = ""
    for _ in range(SEARCH_ATTEMPTS):
        try:
            result = await _measure_pool(options, directory, progress)
        except RigError as error:
            return None, f"{options.calls} calls: {error}"
        if result.broken:
            return None, f"{options.calls} calls: {result.broken}"
        if not result.window.load.saturated:
            return result, ""
        trouble = f"{options.calls} calls: not measurable here, {result.window.load.saturated}"
        progress.say(trouble)
    return None, trouble


async def _measure_pool(
    options: Options,
    directory: Path,
    progress: Progress,
    settings: Mapping[str, str] | None = None,
    metrics: str = "",
) -> Density:
    """Measures a pool whose worker has these further settings, and whose `metrics` are asked for every SCRAPE_S."""
    pool_options = PoolOptions(
        calls=options.calls,
        audio_format=options.audio_format,
        uplink_ms=options.uplink_ms,
        tls=options.tls,
        srtp=options.srtp,
        simulator=model_options(directory, turns=options.turns),
        worker=settings,
    )
    progress.say(f"{options.calls} calls: starting the pool")
    async with pool(pool_options, directory) as started:
        idle_kb = usage.rss_kb(started.worker_pid)
        healths: list[WorkerHealth] = []
        async with Callers.open(directory, started.dispatcher_port, started.cores.load, srtp=options.srtp) as callers:
            window = await _window(
                callers,
                started,
                options,
                started.worker_pid,
                options.calls,
                progress,
                healths=healths,
                metrics=metrics,
            )
        if window is None:
            raise RigError("not every call had its session with the model to the end")
        await started.until_idle(15.0)
        records = await started.records(options.calls)
    counters = [record.counters for record in records]
    lags = [health.loop_lag_ms for health in healths]
    return Density(
        options=options,
        window=window,
        idle_rss_mb=idle_kb / 1024,
        rss_kb_per_call=(window.rss_kb - idle_kb) / options.calls,
        underruns=sum(counter["underruns"] for counter in counters),
        uplink_dropped=sum(counter["uplink_dropped"] for counter in counters),
        turns_taken=sum(len(record.turns) for record in records),
        loop_lag_ms={"p50": statistics.median(lags), "max": max(lags)},
    )


async def _measure_baseline(name: str, options: Options, directory: Path, progress: Progress) -> Window | None:
    """Measures a baseline, again if need be; None when it never got through."""
    baseline = BASELINES[name]
    calls = min(options.calls, baseline.most_calls)
    for attempt in range(1, BASELINE_ATTEMPTS + 1):
        progress.say(f"baseline {name}, {calls} calls" + (f", attempt {attempt}" if attempt > 1 else ""))
        window = await _try_baseline(name, calls, options, directory, progress)
        if window is not None:
            return window
    progress.say(f"baseline {name} is left out: it lost sessions in each of {BASELINE_ATTEMPTS} attempts")
    return None


async def _try_baseline(name: str, calls: int, options: Options, directory: Path, progress: Progress) -> Window | None:
    """Measures a baseline; None when it lost sessions of the model, whose calls cost something else then."""
    baseline = BASELINES[name]
    async with rig(directory) as started:
        await started.start_simulator(PoolOptions(calls=calls, simulator=model_options(directory, turns=options.turns)))
        argv = [sys.executable, "-m", baseline.module, "--calls", str(calls)]
        if baseline.needs_endpoint:
            argv += ["--endpoint", started.simulator_url]
        if baseline.takes_uplink_ms:
            argv += ["--uplink-ms", str(options.uplink_ms)]
        process = await started.start(name, started.cores.subject, argv)
        [event] = await process.wait_for("baseline.listening", timeout_s=READY_S)
        async with Callers.open(directory, int(event["port"]), started.cores.load) as callers:
            return await _window(
                callers, started, options, process.pid, calls, progress, sessions=baseline.needs_endpoint
            )


async def _window(
    callers: Callers,
    started: Rig,
    options: Options,
    pid: int,
    calls: int,
    progress: Progress,
    healths: list[WorkerHealth] | None = None,
    sessions: bool = True,
    metrics: str = "",
) -> Window | None:
    """Makes the calls, lets them settle, measures the process `pid` over the window, and hangs up.

    Returns None when not every call had its session with the model to the end, where `sessions` says that it must.
    """
    progress.say(f"{calls} calls are being made")
    await callers.ramp(calls, CALLS_PER_S, turns=options.turns)
    await asyncio.sleep(SETTLE_S)
    progress.say(f"measuring for {options.seconds:.0f} s")
    rtp = callers.rtp
    await rtp.record(True)
    watch = LoadWatch(started, rtp)
    supervisor = started.supervisor_pid or pid
    supervised_s = usage.cpu_seconds(supervisor)
    spent_s, threads = usage.cpu_seconds(pid), usage.thread_seconds(pid)
    begin = scraped_at = time.monotonic()
    while time.monotonic() - begin < options.seconds:
        await asyncio.sleep(min(1.0, options.seconds))
        if healths is not None:
            healths.append(await started.health())
        if metrics and time.monotonic() - scraped_at >= SCRAPE_S:
            scraped_at += SCRAPE_S
            await _scrape(metrics)
    elapsed = time.monotonic() - begin
    cpu_percent = 100 * (usage.cpu_seconds(pid) - spent_s) / elapsed
    now = usage.thread_seconds(pid)
    shares = {
        what: 100 * (now.get(name, 0.0) - threads.get(name, 0.0)) / elapsed / calls for name, what in THREADS.items()
    }
    supervisor_percent = 100 * (usage.cpu_seconds(supervisor) - supervised_s) / elapsed if supervisor != pid else 0.0
    load = await watch.load()
    await rtp.record(False)
    rss_kb, stats = usage.rss_kb(pid), await rtp.stats()
    complete = not sessions or await started.open_sessions() == calls
    await callers.hang_up()
    packets = await rtp.finish()
    if not complete:
        return None
    received = packets.received()
    return Window(
        calls=calls,
        cpu_percent_per_call=cpu_percent / calls,
        rss_kb=rss_kb,
        rtp_spacing_ms=percentiles(spacing_ms(received)),
        lost=lost(received) + stats.receive_drops,
        load=load,
        threads=shares,
        supervisor_percent=supervisor_percent,
    )


async def _scrape(metrics: str) -> None:
    async with aiohttp.ClientSession() as http, http.get(metrics) as answer:
        await answer.read()


def model_options(directory: Path, *, turns: bool = False) -> tuple[str, ...]:
    """Returns the simulator's options for a model that answers, or that speaks all the time."""
    speech = directory / "model.wav"
    if not speech.exists():
        write_wav(speech, speech_samples(MODEL_TEXT))
    # At a pace that all can bear: pjproject's port keeps 10 s and drops the rest.
    played = ("--mode", "play", "--play", str(speech), "--pace", "openai")
    return played if turns else ("--monologue", *played)
