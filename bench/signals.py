"""What can be said about a received signal when the sent one is known: where it is, how far it deviates, what it lost.

Pure functions over float64 arrays, in units of int16. They know nothing of packets or formats, except for what
`hidden_snr_db` undoes of G.711.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray

Signal = NDArray[np.float64]

MATCH_ERROR = 0.25
"""A block matches when its error has at most this share of its energy: G.711's own is below 0.01, being half a sample
of 24 kHz off costs up to 0.2 at 3.3 kHz, another frame's audio about 2."""

ACTIVE_RMS = 30.0
"""Quieter blocks say nothing about where they belong."""

MOST_SLIPPED = 12
"""Blocks by which the received signal is looked for earlier and later."""

_FADE_S = 0.005
_FIT_STEPS = 8
_KAISER_BETA = 20.0  # side lobes below -150 dB: what the spectrum shows beside the tone is not the window's


@dataclass(frozen=True, slots=True)
class Curve:
    """Points to draw."""

    hz: Signal
    db: Signal


@dataclass(frozen=True, slots=True)
class SineFit:
    """A sine of known frequency in a signal."""

    amplitude: float
    snr_db: float
    """All that is not the sine counts as noise, distortion and offset too."""
    thd_db: float
    """Power of the harmonics against the sine's; the more negative the better."""


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch that came without interruption: `received[n + offset]` is `sent[n]` for `begin` <= n < `end`."""

    begin: int
    end: int
    offset: int


@dataclass(frozen=True, slots=True)
class Fit:
    """A stretch of the received signal beside the reference, which has been delayed and scaled to fit it best."""

    reference: Signal
    received: Signal
    delay: float
    """In samples, beyond the offset given."""

    @property
    def snr_db(self) -> float:
        """All that is not the reference counts as noise."""
        return ratio_db(self.reference, self.received - self.reference)


def sine(hz: float, seconds: float, rate: int, peak: float) -> Signal:
    """Returns a sine, faded in and out within 5 ms."""
    time_s = np.arange(round(seconds * rate)) / rate
    return _faded(np.sin(2 * np.pi * hz * time_s), rate, peak)


def chirp(first_hz: float, last_hz: float, seconds: float, rate: int, peak: float) -> Signal:
    """Returns a sine whose frequency rises evenly, faded in and out within 5 ms."""
    time_s = np.arange(round(seconds * rate)) / rate
    return _faded(np.sin(2 * np.pi * (first_hz + (last_hz - first_hz) * time_s / (2 * seconds)) * time_s), rate, peak)


def resample(signal: Signal, from_rate: int, to_rate: int) -> Signal:
    """Returns the signal at another rate, all that both rates can carry unchanged: the ideal resampler.

    The length must be whole at both rates. The end wraps around to the beginning; both should be silent.
    """
    length = len(signal) * to_rate // from_rate
    spectrum = np.fft.rfft(signal)[: length // 2 + 1]
    return np.asarray(np.fft.irfft(spectrum, length) * (length / len(signal)), dtype=np.float64)


def without(signal: Signal, rate: int, low_hz: float, high_hz: float) -> Signal:
    """Returns the signal without what lies from `low_hz` on and below `high_hz`."""
    spectrum = np.fft.rfft(signal)
    hz = np.fft.rfftfreq(len(signal), 1 / rate)
    spectrum[(hz >= low_hz) & (hz < high_hz)] = 0
    return np.asarray(np.fft.irfft(spectrum, len(signal)), dtype=np.float64)


def delayed(signal: Signal, samples: float) -> Signal:
    """Returns the signal later by any fraction of a sample; its end wraps around to its beginning."""
    turns = np.fft.rfftfreq(len(signal)) * samples
    return np.asarray(np.fft.irfft(np.fft.rfft(signal) * np.exp(-2j * np.pi * turns), len(signal)), dtype=np.float64)


def find(pattern: Signal, signal: Signal) -> int:
    """Returns where the pattern begins in the signal, negative if before it, by cross-correlation."""
    size = 1 << (len(pattern) + len(signal) - 1).bit_length()
    wanted = np.fft.rfft(pattern, size)
    power = np.abs(wanted) ** 2
    # What is strong at one frequency, a sine, correlates at many places: it counts no more than the rest.
    product = np.fft.rfft(signal, size) * np.conj(wanted) / (power + power.mean())
    position = int(np.argmax(np.fft.irfft(product, size)))
    return position if position < len(signal) else position - size


def parts(sent: Signal, received: Signal, block: int) -> tuple[list[Part], int]:
    """Returns the stretches that arrived whole, and how many slips there are around and between them.

    A slip is a place where blocks were inserted, left out or replaced. A block is what the sender of the received
    signal inserts or leaves out at a time, a frame of 20 ms.
    """
    base = find(sent, received)
    padding = max(0, -base) + MOST_SLIPPED * block
    padded = np.pad(received, (padding, padding + len(sent)))
    shifts = range(-MOST_SLIPPED, MOST_SLIPPED + 1)
    found: list[tuple[int, int | None]] = []
    last = 0
    for begin in range(0, len(sent) - block + 1, block):
        wanted = sent[begin : begin + block]
        energy = float(wanted @ wanted)
        if energy < block * ACTIVE_RMS**2:
            continue
        at = begin + base + padding
        errors = {shift: _error(wanted, padded, at + shift * block) for shift in shifts}
        least = min(errors.values())
        # A periodic signal matches elsewhere nearly as well: then it is where it was.
        if errors[last] > 2 * least:
            last = min(errors, key=errors.__getitem__)
        found.append((begin, last if least <= MATCH_ERROR * energy else None))
    runs = [(shift, len(list(group))) for shift, group in groupby(shift for _, shift in found)]
    # A single block that fits elsewhere has not come from there; in a sine, something always fits.
    sure = [shift if size > 1 else None for shift, size in runs for _ in range(size)]
    placed = [(begin, shift) for (begin, _), shift in zip(found, sure, strict=True)]
    stretches = [(shift, [begin for begin, _ in group]) for shift, group in groupby(placed, key=lambda each: each[1])]
    whole = [
        Part(begins[0], begins[-1] + block, base + shift * block) for shift, begins in stretches if shift is not None
    ]
    damaged = len(stretches) - len(whole)
    moved = sum(None not in (before, after) for (before, _), (after, _) in pairwise(stretches))
    return whole, damaged + moved


def longest(found: Sequence[Part], begin: int, end: int) -> Part | None:
    """Returns the longest stretch between two positions of the sent signal, or None."""
    inside = [Part(max(part.begin, begin), min(part.end, end), part.offset) for part in found]
    return max((part for part in inside if part.end > part.begin), key=lambda part: part.end - part.begin, default=None)


def fit(reference: Signal, received: Signal, part: Part) -> Fit:
    """Returns the part with the reference delayed and scaled to it, by least squares; the rest delay is below a sample.

    Gain and delay are found by repeated linear fits of the reference and its derivative.
    """
    heard = received[part.begin + part.offset : part.end + part.offset]
    omega = 2j * np.pi * np.fft.rfftfreq(len(reference))
    spectrum = np.fft.rfft(reference)
    delay = 0.0
    for _ in range(_FIT_STEPS):
        turned = spectrum * np.exp(-omega * delay)
        value, slope = (np.fft.irfft(each, len(reference))[part.begin : part.end] for each in (turned, turned * omega))
        gain, shift = np.linalg.lstsq(np.stack([value, slope], axis=1), heard, rcond=None)[0]
        delay -= shift / gain
    return Fit(gain * value, heard, float(delay))


def fit_sine(signal: Signal, hz: float, rate: int, below_hz: float) -> SineFit:
    """Returns the sine of frequency `hz` in the signal, by least squares, and its harmonics below `below_hz`."""
    waves = _waves(len(signal), [hz], rate)
    [cosine, sinus] = np.linalg.lstsq(waves, signal, rcond=None)[0]
    fundamental = waves @ [cosine, sinus]
    rest = signal - fundamental
    harmonics = _waves(len(signal), list(np.arange(2 * hz, below_hz, hz)), rate)
    distortion = harmonics @ np.linalg.lstsq(harmonics, rest, rcond=None)[0]
    return SineFit(float(np.hypot(cosine, sinus)), ratio_db(fundamental, rest), ratio_db(distortion, fundamental))


def spectrum(signal: Signal, rate: int, seconds: float = 0.25) -> Curve:
    """Returns the mean power spectrum of pieces that are `seconds` long, in dB below its greatest value."""
    length = round(seconds * rate)
    pieces = signal[: len(signal) // length * length].reshape(-1, length) * np.kaiser(length, _KAISER_BETA)
    power = np.mean(np.abs(np.fft.rfft(pieces, axis=1)) ** 2, axis=0)
    hz: Signal = np.fft.rfftfreq(length, 1 / rate).astype(np.float64)
    return Curve(hz, 10 * np.log10(np.maximum(power / power.max(), 1e-16)))


def deviation(aligned: Fit, first_hz: float, last_hz: float, points: int = 64) -> Curve:
    """Returns the error of a received chirp over its frequency, in dB of the chirp's own power there.

    `first_hz` and `last_hz` are those of the stretch that was fitted.
    """
    size = len(aligned.reference) // points
    shape = (points, size)
    wanted = aligned.reference[: points * size].reshape(shape)
    error = (aligned.received - aligned.reference)[: points * size].reshape(shape)
    power = np.maximum((error**2).mean(axis=1), 1e-12) / np.maximum((wanted**2).mean(axis=1), 1e-12)
    hz = first_hz + (last_hz - first_hz) * (np.arange(points) + 0.5) / points
    return Curve(hz, 10 * np.log10(power))


def hidden_snr_db(ideal: Signal, decoded: Signal) -> float:
    """Returns the SNR that a signal had before it was coded as G.711 u-law, as far as its codes tell; 200 dB at most.

    A small error shows only where it carried the signal over one of the coder's thresholds. There it was at least as
    large as the ideal signal's distance d from the threshold; as the signal may be anywhere between the thresholds
    around it, which are D apart, the mean of 2 d D over all samples, 0 where the code is the ideal one, is the error's
    mean square. Only positive samples count: where below zero the thresholds are, coders do not agree.
    """
    positive = (ideal > 0) & (decoded >= 0)
    ideal, decoded = ideal[positive], decoded[positive]
    # ITU-T G.711, table 2a, in int16; samples are whole numbers, and half a unit lower is where they are rounded up.
    steps = np.arange(16)
    edges = np.concatenate([4.0 * (((16 + steps) << segment + 1) - 33) for segment in range(8)] + [[np.inf]]) - 0.5
    levels = np.concatenate([4.0 * ((33 + 2 * steps << segment) - 33) for segment in range(8)])
    code, wanted = np.searchsorted(levels, decoded), np.searchsorted(edges, ideal, side="right") - 1
    over = np.maximum(0, np.maximum(edges[code] - ideal, ideal - edges[code + 1]))
    square = np.mean(np.where(over > 0, 2 * over * np.diff(edges)[np.minimum(wanted, 126)], 0))
    return ratio_db(ideal, np.sqrt(np.atleast_1d(square)))


def ratio_db(signal: Signal, noise: Signal) -> float:
    """Returns the ratio of two signals' powers; 200 dB at most, so that nothing divides by zero."""
    power = float(np.mean(signal**2))
    return float(10 * np.log10(max(power, 1e-20) / max(float(np.mean(noise**2)), power * 1e-20, 1e-20)))


def _error(wanted: Signal, signal: Signal, position: int) -> float:
    """Returns the energy by which the signal from `position` on is not the wanted one."""
    off = signal[position : position + len(wanted)] - wanted
    return float(off @ off)


def _waves(length: int, frequencies: Sequence[float], rate: int) -> Signal:
    turns = np.outer(np.arange(length) / rate, 2 * np.pi * np.asarray(frequencies))
    return np.concatenate([np.cos(turns), np.sin(turns)], axis=1)


def _faded(signal: Signal, rate: int, peak: float) -> Signal:
    rise = np.sin(np.linspace(0, np.pi / 2, round(_FADE_S * rate))) ** 2
    shaped = peak * signal
    shaped[: len(rise)] *= rise
    shaped[-len(rise) :] *= rise[::-1]
    return np.asarray(shaped, dtype=np.float64)
