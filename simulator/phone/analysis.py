"""What the caller's recording says: where there is speech, how well an answer matches what was said, what is missing.

It does not record, play or decide whether a call was good; thresholds for that belong to the tests.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RATE = 8000
"""Samples per second of everything analysed here: telephone audio."""

FRAME = 160
"""Samples in which energy is judged: 20 ms, one RTP packet."""

SPEECH_RMS = 150.0
"""A frame this loud (int16 units, -47 dBFS) is speech: above A-law's idle noise of 8, below the softest vowel."""

GAP_FRAME = 20
"""Resolution of the search for dropouts: 2.5 ms."""

GAP_RATIO = 0.1
"""A stretch 20 dB below what it should be is missing."""

GAP_SPEECH_RATIO = 0.1
"""What counts as speech in the reference of a dropout search, relative to its own loudness: pauses are not dropouts."""

GAP_BRIDGE = 10
"""A dropout goes on over this many frames (25 ms) in which the reference itself is quiet, as between two sounds."""

Signal = NDArray[np.int16]


class Alignment(NamedTuple):
    """Where a reference fits best into a signal."""

    lag: int
    """Sample of the signal at which the reference's first sample lies; negative when its head was cut off."""
    correlation: float
    """Normalised: 1 for the same audio at any loudness and delay, about 0 for other audio."""


class Segment(NamedTuple):
    """A stretch of speech: first sample, and the one after the last."""

    start: int
    end: int


def frame_rms(signal: Signal, frame: int = FRAME) -> NDArray[np.float64]:
    """Returns the loudness of each whole frame of `frame` samples, in int16 units."""
    whole = signal[: len(signal) // frame * frame].astype(np.float64)
    return np.asarray(np.sqrt(np.mean(whole.reshape(-1, frame) ** 2, axis=1)), dtype=np.float64)


def speech_segments(signal: Signal, pause_ms: int = 800, threshold: float = SPEECH_RMS) -> list[Segment]:
    """Returns the stretches of speech, those that are less than `pause_ms` apart joined to one."""
    segments: list[Segment] = []
    for index in np.flatnonzero(frame_rms(signal) >= threshold):
        start = int(index) * FRAME
        if segments and start - segments[-1].end < pause_ms * RATE // 1000:
            segments[-1] = Segment(segments[-1].start, start + FRAME)
        else:
            segments.append(Segment(start, start + FRAME))
    return segments


def align(reference: Signal, signal: Signal) -> Alignment:
    """Returns where `reference` fits best into `signal`, and how well.

    The whole of both counts: a signal that holds more than the reference, or less of it, correlates less.
    """
    first, second = _centred(reference), _centred(signal)
    energy = float(np.linalg.norm(first) * np.linalg.norm(second))
    if energy == 0.0:
        return Alignment(0, 0.0)
    size = 1 << (len(first) + len(second) - 1).bit_length()
    products = np.fft.irfft(np.conj(np.fft.rfft(first, size)) * np.fft.rfft(second, size), size)
    best = int(np.argmax(products))
    lag = best if best < len(second) else best - size
    return Alignment(lag, float(products[best]) / energy)


def longest_gap_ms(reference: Signal, signal: Signal, lag: int) -> float:
    """Returns the longest dropout: how long `signal` is silent in one piece where `reference` has speech, in ms.

    `lag` is where the reference lies in the signal, as found by `align`. What lies outside the signal is missing too.
    """
    wanted = frame_rms(reference, GAP_FRAME)
    there = frame_rms(_cut(signal, lag, len(reference)), GAP_FRAME)
    loudness = float(np.sqrt(np.mean(wanted**2))) if len(wanted) else 0.0
    speech = wanted > GAP_SPEECH_RATIO * loudness
    missing = speech & (there < GAP_RATIO * wanted)
    longest, first, last = 0, 0, -GAP_BRIDGE - 1
    for index in map(int, np.flatnonzero(speech)):
        if missing[index]:
            if index - last > GAP_BRIDGE:
                first = index
            last = index + 1
            longest = max(longest, last - first)
        else:
            last = -GAP_BRIDGE - 1
    return longest * GAP_FRAME * 1000 / RATE


def _centred(signal: Signal) -> NDArray[np.float64]:
    """Returns the signal without its mean: codecs add a constant, which would correlate with any other constant."""
    values = signal.astype(np.float64)
    return values - values.mean() if len(values) else values


def _cut(signal: Signal, start: int, length: int) -> Signal:
    """Returns `length` samples from `start`, silence where the signal has none."""
    result = np.zeros(length, dtype=np.int16)
    first, last = max(start, 0), min(start + length, len(signal))
    if first < last:
        result[first - start : last - start] = signal[first:last]
    return result
