"""What the pool does to audio: distortion, noise, slips and delay of both directions in both formats.

    uplink     the caller plays the test signal as G.711 -> what the model is sent, from the simulator's trace
    downlink   the model says it, from a WAV file        -> what the caller is sent, from the captured RTP

The test signal is a sine, a chirp and spoken sentences; a call hears it in both directions at once. G.711 itself costs
far more than anything else on the way, so it stands beside every figure, as measured without any network; what the
pool adds is seen in `changed` (G.711: the path is meant to be transparent) and in `resampler_snr_db` (pcm16).

All is compared at 24 kHz, to which what came at 8 kHz is brought ideally: delays need not be whole samples.
"""

import asyncio
import base64
import importlib
import json
import wave
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bench import signals
from bench.callers import Callers
from bench.load.clips import PCMU, decode, encode, speech_samples
from bench.load.packets import Capture, Stream
from bench.progress import Progress
from bench.rig import PoolOptions, RigError, pool
from bench.signals import Curve, Part, Signal

RATE = 24000
TELEPHONE_RATE = 8000
STEP = RATE // TELEPHONE_RATE
FRAME = RATE // 50

FORMATS = ("g711", "pcm16")
DIRECTIONS = ("uplink", "downlink")

DBFS = -10.0

SINE_HZ = 1020.0
"""The reference frequency of ITU-T O.6; 1000 Hz would meet the same eight samples over and over."""

SINE_S = 4.0

FIRST_HZ, LAST_HZ, CHIRP_S = 100.0, 3300.0, 5.0

SENTENCES = (
    "The parcel left our warehouse yesterday in the afternoon.",
    "Please hold the line while I look for your order.",
    "Which of these two addresses should we use for the bill?",
    "Seven boxes of fresh cherries are waiting by the door.",
)

PAUSE_S = 0.3

SETTLE_S = 1.5
"""Before the test signal begins in either direction: the jitter buffer has filled, and the capture is on."""

HALF_BAND_HZ = (3400.0, 4600.0)
"""Around half the lower rate every resampler that is not infinitely long lets some through and holds some back."""


@dataclass(frozen=True, slots=True)
class Options:
    """What to measure."""

    formats: tuple[str, ...] = FORMATS
    uplink_ms: int = 20


@dataclass(frozen=True, slots=True)
class Quality:
    """How the test signal was heard."""

    sine_snr_db: float
    sine_thd_db: float
    """Harmonics below 4 kHz, those that a telephone can carry."""
    chirp_snr_db: float
    pesq: tuple[float, ...]
    """MOS-LQO of ITU-T P.862.1 for each sentence; 4.55 is the most there is."""
    spectrum: Curve
    """Of the sine."""
    deviation: Curve
    """Of the chirp."""

    def as_json(self) -> dict[str, Any]:
        """Returns the figures as plain values, without the curves."""
        return {
            "sine_snr_db": round(self.sine_snr_db, 2),
            "sine_thd_db": round(self.sine_thd_db, 2),
            "chirp_snr_db": round(self.chirp_snr_db, 2),
            "pesq": round(float(np.mean(self.pesq)), 3),
            "pesq_min": round(min(self.pesq), 3),
        }


@dataclass(frozen=True, slots=True)
class Changes:
    """G.711 on both sides: how many of the samples that arrived are not those that were sent."""

    changed: int
    compared: int

    def as_json(self) -> dict[str, Any]:
        """Returns plain values."""
        return {"bit_exact": not self.changed, "bytes_changed": self.changed, "bytes_compared": self.compared}


@dataclass(frozen=True, slots=True)
class Resampling:
    """pcm16 on one side: the chirp against one that went through an ideal resampler and the same G.711."""

    snr_db: float
    deviation: Curve | None
    """None where the resampled signal itself was not seen: G.711 came after it."""

    def as_json(self) -> dict[str, Any]:
        """Returns plain values."""
        return {"resampler_snr_db": round(self.snr_db, 1)}


@dataclass(frozen=True, slots=True)
class PathQuality:
    """One direction in one format."""

    heard: Quality
    slips: int
    """Places where frames were inserted, left out or replaced; the SNRs are of the longest stretch without one."""
    delay_ms: float
    """Uplink: a packet of the sine leaves the caller -> its first sample reaches the model (median): jitter buffer
    (20 ms and more), the bridge's clock (up to 20 ms), chunk beyond 20 ms, resampler (2 ms), WebSocket.
    Downlink: the first delta leaves the model -> the packet with its first sample reaches the caller: WebSocket,
    the bridge's clock (up to 20 ms), resampler (2 ms).
    The 20 ms that pass while a packet is being spoken, before it can be sent, are in neither."""
    compared: Changes | Resampling

    def as_json(self) -> dict[str, Any]:
        """Returns the figures as plain values, without the curves."""
        figures = {"slips": self.slips, "delay_ms": round(self.delay_ms, 2)}
        return self.heard.as_json() | figures | self.compared.as_json()


@dataclass(frozen=True, slots=True)
class AudioQuality:
    """The result of one run."""

    options: Options
    paths: dict[str, dict[str, PathQuality]]
    """By format and direction."""
    g711_only: Quality
    """The test signal coded and decoded once, without any network."""

    def as_json(self) -> dict[str, Any]:
        """Returns the result as plain values."""
        found: dict[str, Any] = {
            name: {direction: path.as_json() for direction, path in directions.items()}
            for name, directions in self.paths.items()
        }
        return found | {"g711_only": self.g711_only.as_json(), "uplink_chunk_ms": self.options.uplink_ms}


async def run(options: Options, directory: Path, progress: Progress) -> AudioQuality:
    """Measures all formats, one call each; raises RigError when something is missing or the signal did not arrive."""
    pesq = _pesq()
    directory.mkdir(parents=True, exist_ok=True)
    test = await asyncio.to_thread(_TestSignal.make)
    paths = {}
    for name in options.formats:
        heard = await _call(name, test, options, directory / name, progress)
        progress.say(f"{name}: comparing what was heard with what was said")
        paths[name] = {
            "uplink": await asyncio.to_thread(_uplink, test, heard, pesq),
            "downlink": await asyncio.to_thread(_downlink, test, heard, pesq),
        }
    return AudioQuality(options, paths, await asyncio.to_thread(_g711_only, test, pesq))


# ---- The test signal ----


@dataclass(frozen=True)
class _TestSignal:
    """What is said, at `RATE`; positions are samples at that rate, whole ones at 8 kHz too."""

    samples: Signal
    sine: tuple[int, int]
    chirp: tuple[int, int]
    sentences: tuple[tuple[int, int], ...]

    @classmethod
    def make(cls) -> "_TestSignal":
        said = [
            signals.sine(SINE_HZ, SINE_S, RATE, DBFS),
            signals.chirp(FIRST_HZ, LAST_HZ, CHIRP_S, RATE, DBFS),
            *(_spoken(text) for text in SENTENCES),
        ]
        pause = np.zeros(round(PAUSE_S * RATE))
        pieces, places, position = [pause], [], len(pause)
        for each in said:
            pieces += [each, pause]
            places.append((position, position + len(each)))
            position += len(each) + len(pause)
        pieces.append(np.zeros(-position % RATE))
        return cls(np.concatenate(pieces), places[0], places[1], tuple(places[2:]))

    @cached_property
    def at_telephone_rate(self) -> Signal:
        """The same at 8 kHz."""
        return signals.resample(self.samples, RATE, TELEPHONE_RATE)

    @cached_property
    def g711(self) -> bytes:
        """The same as PCMU."""
        return encode(_whole(self.at_telephone_rate), PCMU)

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.samples) / RATE


def _spoken(text: str) -> Signal:
    spoken = speech_samples(text).astype(np.float64)
    return signals.resample(np.pad(spoken, TELEPHONE_RATE // 10), TELEPHONE_RATE, RATE)


def _whole(signal: Signal) -> NDArray[np.int16]:
    return np.asarray(np.clip(np.rint(signal), -32768, 32767), dtype=np.int16)


def _write_wav(path: Path, samples: Signal, rate: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(_whole(samples).astype("<i2").tobytes())


# ---- The call ----


@dataclass(frozen=True)
class _Track:
    """Audio as it passed one place, in pieces (packets, messages) that passed at known times."""

    samples: Signal
    rate: int
    begins: NDArray[np.int64]
    """First sample of each piece, rising."""
    times_ns: NDArray[np.int64]

    def passed_ns(self, sample: int) -> int:
        """Returns when the piece with a sample passed."""
        return int(self.times_ns[np.searchsorted(self.begins, sample, side="right") - 1])

    @cached_property
    def resampled(self) -> Signal:
        """The samples at `RATE`."""
        if self.rate == RATE:
            return self.samples
        even = np.pad(self.samples, (0, len(self.samples) % 2))
        return signals.resample(even, self.rate, RATE)


@dataclass(frozen=True, slots=True)
class _Heard:
    """One call, at all four places."""

    caller_sent: _Track
    caller_received: _Track
    model_sent: _Track
    """The first answer only; it is the test signal from its first sample on."""
    model_received: _Track


async def _call(name: str, test: _TestSignal, options: Options, directory: Path, progress: Progress) -> _Heard:
    directory.mkdir(parents=True, exist_ok=True)
    said, wire = directory / "said.wav", directory / "trace.log"
    pcm = name == "pcm16"
    _write_wav(said, test.samples if pcm else test.at_telephone_rate, RATE if pcm else TELEPHONE_RATE)
    model = ("--monologue", "--mode", "play", "--play", str(said), "--pace", "openai")
    simulator = (*model, "--first-audio", str(SETTLE_S), "--trace", str(wire))
    progress.say(f"{name}: starting the pool")
    pool_options = PoolOptions(calls=1, audio_format=name, uplink_ms=options.uplink_ms, simulator=simulator)
    async with pool(pool_options, directory) as started:
        async with Callers.open(directory, started.dispatcher_port, started.cores.load) as callers:
            await callers.rtp.clip("test", test.g711)
            caller = await callers.call()
            captured = await callers.rtp.capture(caller.number)
            progress.say(f"{name}: caller and model say the test signal, {test.seconds:.0f} s")
            await asyncio.sleep(SETTLE_S)
            await callers.rtp.play(caller.number, "test")
            await asyncio.sleep(test.seconds + 1.0)
            await callers.hang_up()
        await started.until_idle(15.0)
        [record] = await started.records(1)
    capture = await asyncio.to_thread(Capture.load, captured)
    appends, deltas = await asyncio.to_thread(_read_trace, wire, record.session_id)
    return _Heard(
        caller_sent=_of_packets(capture.sent()),
        caller_received=_of_packets(capture.received()),
        model_sent=_of_messages(deltas, pcm),
        model_received=_of_messages(appends, pcm),
    )


def _of_packets(stream: Stream) -> _Track:
    begins = np.concatenate([[0], np.cumsum(np.diff(stream.records["timestamp"]).astype(np.int32), dtype=np.int64)])
    begins -= begins.min()
    order = np.argsort(begins, kind="stable")
    samples = stream.samples.astype(np.float64)
    return _Track(samples, TELEPHONE_RATE, begins[order], stream.records["time_ns"][order])


_Messages = list[tuple[int, bytes]]


def _of_messages(messages: _Messages, pcm: bool) -> _Track:
    audio = b"".join(data for _, data in messages)
    samples = np.frombuffer(audio, "<i2") if pcm else decode(audio, PCMU)
    sizes = [len(data) // (2 if pcm else 1) for _, data in messages]
    return _Track(
        samples.astype(np.float64),
        RATE if pcm else TELEPHONE_RATE,
        np.cumsum([0, *sizes[:-1]], dtype=np.int64),
        np.array([at_ns for at_ns, _ in messages], dtype=np.int64),
    )


def _read_trace(path: Path, wanted: str) -> tuple[_Messages, _Messages]:
    """Returns what a session was sent, and the first answer it gave (see simulator/README.md for the file)."""
    appends, deltas, answer = [], [], ""
    for at_ns, message in _messages(path, wanted):
        if message["type"] == "input_audio_buffer.append":
            appends.append((at_ns, base64.b64decode(message["audio"])))
        elif message["type"] == "response.audio.delta":
            answer = answer or message["response_id"]
            if message["response_id"] == answer:
                deltas.append((at_ns, base64.b64decode(message["delta"])))
    if not appends or not deltas:
        raise RigError(f"the trace has {len(appends)} pieces of the caller's audio and {len(deltas)} of the model's")
    return appends, deltas


def _messages(path: Path, wanted: str) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open("rb") as file:
        for line in file:
            at_ns, session, _, text = line.split(b" ", 3)
            if session.decode() == wanted:
                yield int(at_ns), json.loads(text)


# ---- The comparison ----

_Pesq = Callable[[int, Signal, Signal, str], float]


def _pesq() -> _Pesq:
    try:
        module = importlib.import_module("pesq")  # only here: it is compiled when installed, and nobody else needs it
    except ImportError as error:
        text = "the Python package pesq is missing: pip install pesq (needs numpy and a C compiler)"
        raise RigError(text) from error
    measure: _Pesq = module.pesq
    return measure


def _uplink(test: _TestSignal, call: _Heard, pesq: _Pesq) -> PathQuality:
    sent, received = call.caller_sent, call.model_received
    clip = decode(test.g711, PCMU).astype(np.float64)
    start = signals.find(clip, sent.samples)
    found, slips = _parts(test, received)
    tone = _longest(found, test.sine)
    packets = [
        int(begin) - start for begin in sent.begins if tone.begin <= (int(begin) - start) * STEP < tone.end - FRAME
    ]
    delays = [
        received.passed_ns((sample * STEP + tone.offset) * received.rate // RATE) - sent.passed_ns(start + sample)
        for sample in packets
    ]
    compared: Changes | Resampling
    if received.rate == RATE:
        ideal = signals.resample(clip, TELEPHONE_RATE, RATE)
        part = _longest(found, test.chirp)
        outside = (signals.without(each, RATE, *HALF_BAND_HZ) for each in (ideal, received.resampled))
        aligned = signals.fit(*outside, part)
        compared = Resampling(aligned.snr_db, _deviation(test, aligned, part))
    else:
        compared = _changes(clip, received.samples, found)
    heard = _quality(test, received.resampled, found, pesq)
    return PathQuality(heard, slips, float(np.median(delays)) / 1e6, compared)


def _downlink(test: _TestSignal, call: _Heard, pesq: _Pesq) -> PathQuality:
    sent, received = call.model_sent, call.caller_received
    found, slips = _parts(test, received)
    first = max(0, _at_telephone_rate(found[0].offset))
    compared: Changes | Resampling
    if sent.rate == RATE:
        part = _longest(found, test.chirp)
        ideal = signals.resample(_whole(test.samples).astype(np.float64), RATE, TELEPHONE_RATE)
        begin, end, offset = (_at_telephone_rate(each) for each in (part.begin, part.end, part.offset))
        compared = Resampling(
            signals.hidden_snr_db(ideal[begin:end], received.samples[begin + offset : end + offset]), None
        )
    else:
        compared = _changes(sent.samples, received.samples, found)
    heard = _quality(test, received.resampled, found, pesq)
    return PathQuality(heard, slips, (received.passed_ns(first) - sent.passed_ns(0)) / 1e6, compared)


def _g711_only(test: _TestSignal, pesq: _Pesq) -> Quality:
    heard = signals.resample(decode(test.g711, PCMU).astype(np.float64), TELEPHONE_RATE, RATE)
    return _quality(test, heard, [Part(0, len(heard), 0)], pesq)


def _parts(test: _TestSignal, received: _Track) -> tuple[list[Part], int]:
    """Slips are looked for in what every resampler passes, so that none looks like damage."""
    said, heard = (signals.without(each, RATE, HALF_BAND_HZ[0], RATE) for each in (test.samples, received.resampled))
    found, slips = signals.parts(said, heard, FRAME)
    if not found:
        raise RigError("the test signal was not found in what arrived")
    return found, slips


def _longest(found: Sequence[Part], place: tuple[int, int]) -> Part:
    part = signals.longest(found, *place)
    if part is None or part.end - part.begin < RATE:
        raise RigError("too little of the test signal arrived in one piece; is the machine busy?")
    return part


def _quality(test: _TestSignal, heard: Signal, found: Sequence[Part], pesq: _Pesq) -> Quality:
    tone, swept = _longest(found, test.sine), _longest(found, test.chirp)
    # Fades and the ringing at both ends are not part of a sine.
    steady = heard[tone.begin + tone.offset + FRAME : tone.end + tone.offset - FRAME]
    sine = signals.fit_sine(steady, SINE_HZ, RATE, TELEPHONE_RATE / 2)
    aligned = signals.fit(test.samples, heard, swept)
    return Quality(
        sine_snr_db=sine.snr_db,
        sine_thd_db=sine.thd_db,
        chirp_snr_db=aligned.snr_db,
        pesq=tuple(_mos(test, heard, found, place, pesq) for place in test.sentences),
        spectrum=signals.spectrum(steady, RATE),
        deviation=_deviation(test, aligned, swept),
    )


def _mos(test: _TestSignal, heard: Signal, found: Sequence[Part], place: tuple[int, int], pesq: _Pesq) -> float:
    """Returns the PESQ of one sentence; slips in it count, so it is taken as a whole."""
    part = _longest(found, place)
    begin, end = place[0] + part.offset, place[1] + part.offset
    degraded = signals.resample(heard[begin:end], RATE, TELEPHONE_RATE)
    clean = signals.resample(test.samples[place[0] : place[1]], RATE, TELEPHONE_RATE)
    return float(pesq(TELEPHONE_RATE, clean, degraded, "nb"))


def _deviation(test: _TestSignal, aligned: signals.Fit, part: Part) -> Curve:
    begin, end = test.chirp
    rise = (LAST_HZ - FIRST_HZ) / (end - begin)
    return signals.deviation(aligned, FIRST_HZ + (part.begin - begin) * rise, FIRST_HZ + (part.end - begin) * rise)


def _changes(sent: Signal, received: Signal, found: Sequence[Part]) -> Changes:
    """Compares everything from the first part's begin to the last part's end, each part and the pause after it at its
    own offset. Values are compared: u-law has two codes for zero, which sound the same.
    """
    bounds = [_at_telephone_rate(part.begin) for part in found] + [_at_telephone_rate(found[-1].end)]
    changed = 0
    for part, (begin, end) in zip(found, pairwise(bounds), strict=True):
        shifted = _at_telephone_rate(part.offset)
        changed += int(np.count_nonzero(sent[begin:end] != received[begin + shifted : end + shifted]))
    return Changes(changed, bounds[-1] - bounds[0])


def _at_telephone_rate(position: int) -> int:
    return round(position / STEP)


# ---- The picture ----

GREY, BLUE, GREEN, INK = "#b8b8b8", "#2166ac", "#1b7837", "#333333"


def draw(result: AudioQuality, path: Path) -> None:
    """Writes a PNG: for each format and direction the spectrum of the sine and the deviation over the chirp."""
    rows = [(f"{name} {direction}", result.paths[name][direction]) for name in result.paths for direction in DIRECTIONS]
    figure = Figure(figsize=(13, 1.0 + 2.35 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)  # without pyplot: it keeps global state and may look for a display
    grid = figure.subplots(len(rows), 2, sharex="col", sharey="col", squeeze=False)
    for (title, quality), (left, right) in zip(rows, grid, strict=True):
        _draw_spectrum(left, quality, result.g711_only)
        _draw_deviation(right, quality, result.g711_only)
        left.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
        left.set_title(_figures(quality), loc="right", fontsize=8.5, color=INK)
        right.set_title(_speech_figures(quality), loc="right", fontsize=8.5, color=INK)
    grid[-1][0].set_xlabel("spectrum of the received sine, Hz")
    grid[-1][1].set_xlabel("deviation of the received chirp over its frequency, Hz")
    only = result.g711_only
    figure.suptitle(
        f"Audio through the pool (blue) and G.711 alone, without any network (grey): sine {only.sine_snr_db:.1f} dB, "
        f"THD {only.sine_thd_db:.1f} dB, chirp {only.chirp_snr_db:.1f} dB, PESQ {np.mean(only.pesq):.2f}",
        x=0.01,
        ha="left",
        fontsize=10.5,
    )
    figure.savefig(path, dpi=110)


def _figures(quality: PathQuality) -> str:
    heard = quality.heard
    return f"sine SNR {heard.sine_snr_db:.1f} dB   THD {heard.sine_thd_db:.1f} dB"


def _speech_figures(quality: PathQuality) -> str:
    heard, compared = quality.heard, quality.compared
    if isinstance(compared, Changes):
        added = "bit-exact" if not compared.changed else f"{compared.changed} of {compared.compared} bytes changed"
    else:
        added = f"resampler {compared.snr_db:.0f} dB"
    slips = "no slip" if not quality.slips else f"{quality.slips} slips"
    return (
        f"chirp SNR {heard.chirp_snr_db:.1f} dB   PESQ {np.mean(heard.pesq):.2f}   {added}   {slips}"
        f"   delay {quality.delay_ms:.1f} ms"
    )


def _draw_spectrum(axes: Axes, quality: PathQuality, only: Quality) -> None:
    heard = quality.heard.spectrum
    axes.plot(only.spectrum.hz, only.spectrum.db, color=GREY, linewidth=1.6)
    axes.plot(heard.hz, heard.db, color=BLUE, linewidth=0.7)
    axes.set_xlim(0, RATE / 2)
    axes.set_ylim(-130, 5)
    axes.set_ylabel("dB")
    _plain(axes)


def _draw_deviation(axes: Axes, quality: PathQuality, only: Quality) -> None:
    axes.plot(only.deviation.hz, only.deviation.db, color=GREY, linewidth=3.0)
    axes.plot(quality.heard.deviation.hz, quality.heard.deviation.db, color=BLUE, linewidth=1.0)
    compared = quality.compared
    if isinstance(compared, Resampling):
        if compared.deviation is None:
            axes.axhline(-compared.snr_db, color=GREEN, linewidth=1.0, linestyle="--")
        else:
            axes.plot(compared.deviation.hz, compared.deviation.db, color=GREEN, linewidth=1.0)
        axes.text(LAST_HZ, -compared.snr_db + 3, "the resampler's own", color=GREEN, fontsize=8.5, ha="right")
    axes.set_xlim(0, 3400)
    axes.set_ylim(-110, 0)
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.grid(color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
