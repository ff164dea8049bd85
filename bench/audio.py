"""What the pool does to audio: distortion, noise, slips and delay of both directions in both formats.

    uplink     the caller plays the test signal as G.711 -> what the model is sent, from the simulator's trace
    downlink   the model says it, from a WAV file        -> what the caller is sent, from the captured RTP

The test signal is a sine, a chirp and spoken sentences; a call hears it in both directions at once. G.711 itself costs
far more than anything else on the way, so it stands beside every figure, as measured without any network; what the
pool adds is seen in `bytes_changed` (G.711: the path is meant to be transparent) and in `resampler_snr_db` (pcm16).

All is compared at 24 kHz, to which what came at 8 kHz is brought ideally: delays need not be whole samples.
"""

import asyncio
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bench import signals
from bench.audio_call import (
    FIRST_HZ,
    FRAME,
    LAST_HZ,
    PEAK,
    RATE,
    SINE_HZ,
    STEP,
    TELEPHONE_RATE,
    Heard,
    ProbeSignal,
    Track,
    make_call,
    whole,
)
from bench.load.clips import PCMU, decode
from bench.progress import Progress
from bench.rig import RigError, subdirectory
from bench.signals import Curve, Part, Signal

FORMATS = ("g711", "pcm16")
DIRECTIONS = ("uplink", "downlink")

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
    gain_db: float
    """Of the sine."""
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
            "gain_db": round(self.gain_db, 3),
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
    """One call's, so without a spread; `latency` has many.

    Uplink: a packet of the sine leaves the caller -> the append with its first sample reaches the model (median over
    the sine). That is the jitter buffer, where the packet waits up to 20 ms for the bridge's clock and longer once
    packets have been late, the rest of a chunk beyond 20 ms, and the WebSocket.
    Downlink: the first delta leaves the model -> the packet with its first sample reaches the caller. That is the
    WebSocket, and up to 20 ms until the bridge's clock takes a frame.
    Not in it: the 20 ms for which a packet is being spoken before it can be sent, and the 2 ms by which the resampler
    shifts audio inside its packet."""
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
    test = await asyncio.to_thread(ProbeSignal.make)
    paths = {}
    for name in options.formats:
        heard = await make_call(name, test, options.uplink_ms, subdirectory(directory, name), progress)
        progress.say(f"{name}: comparing what was heard with what was said")
        paths[name] = {
            "uplink": await asyncio.to_thread(uplink, test, heard, pesq),
            "downlink": await asyncio.to_thread(downlink, test, heard, pesq),
        }
    return AudioQuality(options, paths, await asyncio.to_thread(g711_only, test, pesq))


Pesq = Callable[[int, Signal, Signal, str], float]
"""`pesq.pesq`: rate, clean and heard signal, mode."""


def _pesq() -> Pesq:
    try:
        module = importlib.import_module("pesq")  # only here: it is compiled when installed, and nobody else needs it
    except ImportError as error:
        text = "the Python package pesq is missing: pip install pesq (needs numpy and a C compiler)"
        raise RigError(text) from error
    measure: Pesq = module.pesq
    return measure


def uplink(test: ProbeSignal, call: Heard, pesq: Pesq) -> PathQuality:
    """Returns how the model heard the caller; raises RigError when too little of the test signal arrived."""
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
        ideal, heard = (signals.without(each, RATE, *HALF_BAND_HZ) for each in (ideal, received.resampled))
        aligned = signals.fit(ideal, heard, part)
        compared = Resampling(aligned.snr_db, _deviation(test, aligned, part))
    else:
        compared = _changes(clip, received.samples, found)
    quality = _quality(test, received.resampled, found, pesq)
    return PathQuality(quality, slips, float(np.median(delays)) / 1e6, compared)


def downlink(test: ProbeSignal, call: Heard, pesq: Pesq) -> PathQuality:
    """Returns how the caller heard the model; raises RigError when too little of the test signal arrived."""
    sent, received = call.model_sent, call.caller_received
    found, slips = _parts(test, received)
    first = max(0, _at_telephone_rate(found[0].offset))
    compared: Changes | Resampling
    if sent.rate == RATE:
        part = _longest(found, test.chirp)
        ideal = signals.resample(whole(test.samples).astype(np.float64), RATE, TELEPHONE_RATE)
        begin, end, offset = (_at_telephone_rate(each) for each in (part.begin, part.end, part.offset))
        compared = Resampling(
            signals.hidden_snr_db(ideal[begin:end], received.samples[begin + offset : end + offset]), None
        )
    else:
        compared = _changes(sent.samples, received.samples, found)
    quality = _quality(test, received.resampled, found, pesq)
    return PathQuality(quality, slips, (received.passed_ns(first) - sent.passed_ns(0)) / 1e6, compared)


def g711_only(test: ProbeSignal, pesq: Pesq) -> Quality:
    """Returns how the test signal sounds when it is coded and decoded once."""
    heard = signals.resample(decode(test.g711, PCMU).astype(np.float64), TELEPHONE_RATE, RATE)
    return _quality(test, heard, [Part(0, len(heard), 0)], pesq)


def _parts(test: ProbeSignal, received: Track) -> tuple[list[Part], int]:
    """Slips are looked for in what every resampler passes, so that none looks like damage."""
    said, heard = (signals.without(each, RATE, HALF_BAND_HZ[0], RATE) for each in (test.samples, received.resampled))
    found, slips = signals.parts(said, heard, FRAME)
    if not found:
        raise RigError("the test signal was not found in what arrived")
    return found, slips


def _longest(found: Sequence[Part], place: tuple[int, int], shortest: int = RATE) -> Part:
    part = signals.longest(found, *place)
    if part is None or part.end - part.begin < shortest:
        raise RigError("too little of the test signal arrived in one piece; is the machine busy?")
    return part


def _quality(test: ProbeSignal, heard: Signal, found: Sequence[Part], pesq: Pesq) -> Quality:
    tone, swept = _longest(found, test.sine), _longest(found, test.chirp)
    # Fades and the ringing at both ends are not part of a sine.
    steady = heard[tone.begin + tone.offset + FRAME : tone.end + tone.offset - FRAME]
    sine = signals.fit_sine(steady, SINE_HZ, RATE, TELEPHONE_RATE / 2)
    aligned = signals.fit(test.samples, heard, swept)
    return Quality(
        sine_snr_db=sine.snr_db,
        sine_thd_db=sine.thd_db,
        chirp_snr_db=aligned.snr_db,
        gain_db=20 * float(np.log10(sine.amplitude / PEAK)),
        pesq=tuple(_mos(test, heard, found, place, pesq) for place in test.sentences),
        spectrum=signals.spectrum(steady, RATE),
        deviation=_deviation(test, aligned, swept),
    )


def _mos(test: ProbeSignal, heard: Signal, found: Sequence[Part], place: tuple[int, int], pesq: Pesq) -> float:
    """Returns the PESQ of one sentence; slips in it count, so it is taken as a whole."""
    part = _longest(found, place, FRAME)
    begin, end = place[0] + part.offset, place[1] + part.offset
    degraded = signals.resample(heard[begin:end], RATE, TELEPHONE_RATE)
    clean = signals.resample(test.samples[place[0] : place[1]], RATE, TELEPHONE_RATE)
    return float(pesq(TELEPHONE_RATE, clean, degraded, "nb"))


def _deviation(test: ProbeSignal, aligned: signals.Fit, part: Part) -> Curve:
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
    only = result.g711_only
    rows = [(f"{name} {direction}", result.paths[name][direction]) for name in result.paths for direction in DIRECTIONS]
    figure = Figure(figsize=(13, 1.0 + 2.35 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)  # without pyplot: it keeps global state and may look for a display
    grid = figure.subplots(len(rows), 2, squeeze=False)
    for (title, quality), (left, right) in zip(rows, grid, strict=True):
        left.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
        _draw_spectrum(left, quality, only)
        _draw_deviation(right, quality, only)
    grid[-1][0].set_xlabel("spectrum of the received sine, Hz")
    grid[-1][1].set_xlabel("deviation of the received chirp over its frequency, Hz")
    figure.suptitle(
        f"Audio through the pool (blue) over G.711 alone, without a network (grey: sine SNR {only.sine_snr_db:.1f} dB,"
        f" THD {only.sine_thd_db:.1f} dB, chirp SNR {only.chirp_snr_db:.1f} dB, PESQ {np.mean(only.pesq):.2f})",
        x=0.01,
        ha="left",
        fontsize=10.5,
    )
    figure.savefig(path, dpi=110)


def _draw_spectrum(axes: Axes, quality: PathQuality, only: Quality) -> None:
    heard = quality.heard
    axes.plot(only.spectrum.hz, only.spectrum.db, color=GREY, linewidth=2.5)
    axes.plot(heard.spectrum.hz, heard.spectrum.db, color=BLUE, linewidth=0.8)
    axes.set_title(_sine_figures(heard), loc="right", fontsize=8.5, color=INK)
    beyond = heard.spectrum.db[heard.spectrum.hz > HALF_BAND_HZ[1]].max() > -120
    axes.set_xlim(0, RATE / 2 if beyond else TELEPHONE_RATE / 2)
    axes.set_ylim(-130, 5)
    axes.set_ylabel("dB")
    _plain(axes)


def _sine_figures(heard: Quality) -> str:
    return f"sine SNR {heard.sine_snr_db:.1f} dB   THD {heard.sine_thd_db:.1f} dB"


def _draw_deviation(axes: Axes, quality: PathQuality, only: Quality) -> None:
    heard, compared = quality.heard, quality.compared
    axes.plot(only.deviation.hz, only.deviation.db, color=GREY, linewidth=4.0)
    axes.plot(heard.deviation.hz, heard.deviation.db, color=BLUE, linewidth=1.0)
    if isinstance(compared, Resampling):
        text, curve = "the resampler's own", compared.deviation
        if curve is None:
            text += ", inferred from the codes: one figure for the whole chirp"
            curve = Curve(np.array([FIRST_HZ, LAST_HZ]), np.full(2, -compared.snr_db))
        axes.plot(curve.hz, curve.db, color=GREEN, linewidth=1.0)
        axes.text(FIRST_HZ, curve.db[0] + 4, text, color=GREEN, fontsize=8.5)
    axes.set_title(_chirp_figures(quality), loc="right", fontsize=8.5, color=INK)
    axes.set_xlim(0, 3400)
    axes.set_ylim(-110, 0)
    axes.set_ylabel("dB")
    _plain(axes)


def _chirp_figures(quality: PathQuality) -> str:
    heard, compared = quality.heard, quality.compared
    if isinstance(compared, Changes):
        added = "bit-exact" if not compared.changed else f"{compared.changed} of {compared.compared} bytes changed"
    else:
        added = f"resampler {compared.snr_db:.0f} dB"
    slips = f"{quality.slips} slips" if quality.slips else "no slip"
    speech = f"chirp SNR {heard.chirp_snr_db:.1f} dB   PESQ {np.mean(heard.pesq):.2f}"
    return f"{speech}   {added}   {slips}   delay {quality.delay_ms:.1f} ms"


def _plain(axes: Axes) -> None:
    axes.grid(color="#e4e4e4", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
