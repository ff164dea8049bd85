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

SLIP_WINDOW = RATE * 80 // 1000
"""Pieces of 80 ms that may each lie a little earlier or later: a slip spoils one of them, each spans pitch periods."""

SLIP_MAX = RATE * 80 // 1000
"""How much: 80 ms, what a jitter buffer inserts or removes over an utterance when packets come late."""

SLIP_PRICE = 1.25
"""What a change of lag has to gain, in pieces of average fit."""

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


def follow(reference: Signal, signal: Signal) -> list[int]:
    """Returns where each piece of the reference, SLIP_WINDOW samples of it, lies in the signal: its lag.

    A jitter buffer on the way drops or inserts 10 ms when packets come late. No listener minds, but it would ruin the
    correlation of all that follows. So the lag may change from piece to piece, at a price: the lags are the path that
    fits best (Viterbi), and a change has to pay off in the pieces that follow it, which filling a hole does not.
    """
    lag = align(reference, signal).lag
    fits = np.array([_fits(reference, signal, start, lag) for start in range(0, len(reference), SLIP_WINDOW)])
    if not len(fits):
        return []
    price = SLIP_PRICE * float(fits[:, SLIP_MAX].clip(0).mean())
    best = fits[0] - price
    best[SLIP_MAX] += price  # the overall lag is where the path begins at no cost
    steps = []
    for fit in fits[1:]:
        changed = float(best.max()) - price
        steps.append(np.where(best >= changed, np.arange(len(best)), int(best.argmax())))
        best = fit + np.maximum(best, changed)
    path = [int(best.argmax())]
    for step in reversed(steps):
        path.append(int(step[path[-1]]))
    return [lag + place - SLIP_MAX for place in reversed(path)]


def _fits(reference: Signal, signal: Signal, start: int, lag: int) -> NDArray[np.float64]:
    """Returns how well one piece of the reference fits at each lag up to SLIP_MAX before and after `lag`."""
    piece = np.zeros(SLIP_WINDOW)
    piece[: len(reference) - start] = reference[start : start + SLIP_WINDOW]
    around = _cut(signal, start + lag - SLIP_MAX, SLIP_WINDOW + 2 * SLIP_MAX).astype(np.float64)
    return np.correlate(around, piece, "valid")


def resemblance(reference: Signal, signal: Signal) -> float:
    """Returns how well the two correlate when the signal's clock may slip: 1 for the same audio, about 0 for other.

    As with `align`, the whole of both counts.
    """
    first, followed = _centred(reference), _centred(_retimed(signal, follow(reference, signal), len(reference)))
    energy = float(np.linalg.norm(first) * np.linalg.norm(_centred(signal)))
    return float(np.dot(first, followed)) / energy if energy else 0.0


def longest_gap_ms(reference: Signal, signal: Signal) -> float:
    """Returns the longest dropout: how long `signal` is silent in one piece where `reference` has speech, in ms.

    What lies outside the signal is missing too. In a piece within which the clock slips, what fits with its
    neighbours' lags is there.
    """
    lags = follow(reference, signal)
    neighbours = (lags, [*lags[:1], *lags[:-1]], [*lags[1:], *lags[-1:]])
    heard = [frame_rms(_retimed(signal, each, len(reference)), GAP_FRAME) for each in neighbours]
    wanted, there = frame_rms(reference, GAP_FRAME), np.max(heard, axis=0)
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


def _retimed(signal: Signal, lags: list[int], length: int) -> Signal:
    """Returns `length` samples, each piece of SLIP_WINDOW taken from its own place in the signal."""
    pieces = [_cut(signal, number * SLIP_WINDOW + lag, SLIP_WINDOW) for number, lag in enumerate(lags)]
    return np.concatenate([*pieces, np.zeros(0, dtype=np.int16)])[:length]


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
