"""How long things take that callers feel, with one call and with a worker that is 80 % full.

    uplink     the packet that opens an utterance leaves the caller -> the append with it has reached the model
    downlink   the first audio delta of an answer leaves the model -> its first RTP packet has reached the caller
    barge-in   speech_started leaves the model -> the last packet of the old answer has reached the caller
    set-up     INVITE -> 100, INVITE -> 200, INVITE -> first packet of the greeting

Both ends are seen from outside the worker, by one clock: packets by the kernel's time stamps, messages by the
simulator's trace. Each caller says a tone of 0.8 s every 4 s; the model answers with a tone that is longer than that,
so that every utterance but the first is a barge-in.
"""

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from bench import trace
from bench.callers import Caller, Callers
from bench.density import Load, LoadWatch, load_json
from bench.figures import summary
from bench.load.clips import PCMU, decode, tone, write_wav
from bench.load.packets import VOICED, Packets
from bench.progress import Progress
from bench.rig import PoolOptions, Rig, RigError, pool
from bench.trace import SessionTrace
from shared.ids import CallId
from shared.messages import CallRecord

FIRST_AUDIO_S = 0.2
"""How long the model thinks; in no figure, and subtracted from the greeting's."""

MATCH_NS = 1_000_000_000
"""What follows its cause by more than a second follows something else."""

FULL = 0.8
"""How full the worker is with all calls."""

SPARE_SLOTS = 4
"""Free ones at least, for the calls whose set-up is timed."""

HANDSHAKES = 10


@dataclass(frozen=True, slots=True)
class Options:
    """One point of the measurement."""

    calls: int = 1
    audio_format: str = "g711"
    uplink_ms: int = 20
    seconds: float = 40.0
    setup_calls: int = 20
    """Calls whose set-up is timed, one after the other."""


@dataclass(frozen=True, slots=True)
class Latency:
    """The result of one run; each list holds one value in ms for each time it was seen."""

    options: Options
    uplink_ms: list[float]
    downlink_ms: list[float]
    bargein_ms: list[float]
    setup_ms: dict[str, list[float]]
    handshake_ms: list[float]
    """What the simulator itself takes from the TCP connection to session.updated."""
    load: Load

    def as_json(self) -> dict[str, Any]:
        """Returns the result as plain values."""
        return {
            "calls": self.options.calls,
            "format": self.options.audio_format,
            "uplink_chunk_ms": self.options.uplink_ms,
            "uplink_ms": _summary(self.uplink_ms),
            "downlink_ms": _summary(self.downlink_ms),
            "bargein_ms": _summary(self.bargein_ms),
            "setup_ms": {name: _summary(values) for name, values in self.setup_ms.items()},
            "simulator_handshake_ms": _summary(self.handshake_ms),
            "load": load_json(self.load),
        }


def _summary(values: Sequence[float]) -> dict[str, float]:
    if not values:
        raise RigError("a latency was never seen: the calls did not go as they should")
    return summary(values)


async def run(options: Options, directory: Path, progress: Progress) -> Latency:
    """Measures one point; raises RigError when the load side was saturated or calls went wrong."""
    wire, answer = directory / "trace.log", directory / "answer.wav"
    # A tone, because it begins and ends with one sample: speech fades in, and nobody could say when.
    await asyncio.to_thread(write_wav, answer, decode(tone(600, 20.0, -12.0), PCMU))
    simulator = ["--mode", "play", "--play", str(answer), "--first-audio", str(FIRST_AUDIO_S), "--trace", str(wire)]
    # The model hears with appends, and they come with the bridge's clock: without jitter, all it says would come at the
    # same moment between two of its ticks.
    simulator += ["--jitter", "0.05"]
    pool_options = PoolOptions(
        calls=max(options.calls + SPARE_SLOTS, math.ceil(options.calls / FULL)),
        audio_format=options.audio_format,
        uplink_ms=options.uplink_ms,
        simulator=simulator,
        worker={"VOICE_LIVE_PROACTIVE_GREETING_ENABLED": "true", "VOICE_LIVE_PROACTIVE_GREETING": "Hello there."},
    )
    progress.say(f"latency with {options.calls} calls: starting the pool")
    async with pool(pool_options, directory) as started:
        handshakes = [await _handshake_ms(started.simulator_url) for _ in range(HANDSHAKES)]
        async with Callers.open(directory, started.dispatcher_port, started.cores.load) as callers:
            measured = await _converse(callers, started, options, progress)
        await started.until_idle(15.0)
        records = {record.call_id: record for record in await started.records(10_000)}
    traced = await asyncio.to_thread(trace.read, wire, options.audio_format)
    packets = measured.packets
    uplink: list[float] = []
    downlink: list[float] = []
    bargein: list[float] = []
    for caller in measured.talkers:
        session = traced[records[caller.call_id].session_id]
        uplink += _uplink(packets, caller, session)
        downlink += _downlink(packets, caller, session)
        bargein += _bargein(packets, caller, session)
    return Latency(
        options=options,
        uplink_ms=uplink,
        downlink_ms=downlink,
        bargein_ms=bargein,
        setup_ms=_setup(measured.greeted, records, traced),
        handshake_ms=handshakes,
        load=measured.load,
    )


@dataclass(frozen=True, slots=True)
class _Measured:
    packets: Packets
    talkers: list[Caller]
    greeted: list[Caller]
    load: Load


async def _converse(callers: Callers, started: Rig, options: Options, progress: Progress) -> _Measured:
    rtp = callers.rtp
    progress.say(f"{options.calls} calls are being made")
    talkers = []
    for _ in range(options.calls):
        caller = await callers.call()
        await callers.converse(caller)
        talkers.append(caller)
    await rtp.record(True)
    progress.say(f"{options.setup_calls} more calls, one after the other, for the set-up times")
    greeted = [await _greeted_call(callers) for _ in range(options.setup_calls)]
    progress.say(f"conversations for {options.seconds:.0f} s")
    watch = LoadWatch(started, rtp)
    await asyncio.sleep(options.seconds)
    load = await watch.load()
    if load.saturated:
        raise RigError(f"not reported, because the load side was the bottleneck: {load.saturated}")
    await callers.hang_up()
    return _Measured(await rtp.finish(), talkers, greeted, load)


async def _greeted_call(callers: Callers) -> Caller:
    """Makes a call, waits until the greeting must have begun, and hangs up."""
    caller = await callers.call()
    await asyncio.sleep(FIRST_AUDIO_S + 1.0)
    await callers.hang_up_one(caller)
    return caller


def _onsets(packets: Packets, caller: Caller) -> list[int]:
    """Returns when the caller sent the packets that open an utterance."""
    sent = packets.sent(caller.number)
    voiced = sent["level"] > VOICED
    opens = voiced & ~np.concatenate([[True], voiced[:-1]])
    return [int(at) for at in sent["time_ns"][opens]]


def _uplink(packets: Packets, caller: Caller, session: SessionTrace) -> list[float]:
    return _delays_ms(_onsets(packets, caller), session.voiced_ns)


def _downlink(packets: Packets, caller: Caller, session: SessionTrace) -> list[float]:
    delays = []
    for at_ns in session.answers_ns[1:]:  # the first is the greeting
        heard_ns = packets.first_voiced(caller.number, at_ns)
        if heard_ns is not None and heard_ns - at_ns < MATCH_NS:
            delays.append((heard_ns - at_ns) / 1e6)
    return delays


def _bargein(packets: Packets, caller: Caller, session: SessionTrace) -> list[float]:
    delays = []
    for at_ns in session.speech_started_ns:
        playing_ns = packets.last_voiced(caller.number, at_ns - 60_000_000, at_ns)
        if playing_ns is None:
            continue  # nothing was being said when the caller began
        last_ns = packets.last_voiced(caller.number, at_ns, at_ns + MATCH_NS // 2)
        delays.append(((last_ns or at_ns) - at_ns) / 1e6)
    return delays


def _setup(
    callers: Sequence[Caller], records: Mapping[CallId, CallRecord], traced: Mapping[str, SessionTrace]
) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"trying": [], "answered": [], "greeting": []}
    for caller in callers:
        marks = caller.dialog.marks_ns
        for name in ("trying", "answered"):
            found[name].append((marks[name] - marks["invite"]) / 1e6)
        record = records[caller.call_id]
        session = traced[record.session_id]
        thought_ns = session.answers_ns[0] - session.requests_ns[0]
        # The worker's own mark of the packet: a spoken greeting begins with silence, which nobody can tell from none.
        playout_ms = dict(record.marks)["greeting_playout"]
        found["greeting"].append(playout_ms - (marks["invite"] + thought_ns) / 1e6)
    return found


def _delays_ms(causes_ns: Sequence[int], effects_ns: Sequence[int]) -> list[float]:
    """Returns for each cause how much later its first effect came; causes without one within a second are left out."""
    effects = np.array(effects_ns, dtype=np.int64)
    delays = []
    for at_ns in causes_ns:
        after = effects[effects >= at_ns]
        if len(after) and after[0] - at_ns < MATCH_NS:
            delays.append(float(after[0] - at_ns) / 1e6)
    return delays


async def _handshake_ms(url: str) -> float:
    """Returns what a client that does nothing else waits from connecting to session.updated, in ms."""
    begin = time.monotonic()
    query = "api-version=2025-10-01&model=gpt-4.1-mini"
    async with aiohttp.ClientSession() as http, asyncio.timeout(10.0):
        async with http.ws_connect(f"{url}/voice-live/realtime?{query}", headers={"api-key": "any"}) as socket:
            await socket.receive_json()
            await socket.send_json({"type": "session.update", "session": {"modalities": ["text", "audio"]}})
            await socket.receive_json()
            return 1000 * (time.monotonic() - begin)
