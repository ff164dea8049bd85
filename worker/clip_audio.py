"""Audio arithmetic for clips: rate conversion, G.711 and levels, on whole signals.

It reads and plays nothing. Only `worker/clip_maker.py` imports it: numpy would cost every worker 30 MB.

A signal is numpy float64 mono in int16 units.
"""

from math import gcd
from typing import cast

import numpy as np
from numpy.typing import NDArray

Signal = NDArray[np.float64]

FULL_SCALE = 32767.0

_ZERO_CROSSINGS = 32
_CUT_OFF = 0.92
_KAISER_BETA = 7.9
"""Of the windowed sinc, on each side and in terms of the lower Nyquist frequency: flat up to 0.84 of it (3.4 kHz of a
telephone's 4 kHz), 80 dB down at it (Kaiser's formula)."""

_BLOCK = 4096
"""Output samples computed at once, which bounds the memory."""

_FRAME_S = 0.02
_ACTIVE_DB = 30.0
"""Frames more than this below the loudest are pauses, and do not count for the level of speech."""

_PEAK_DBFS = -1.0


def resample(signal: Signal, rate: int, to_rate: int) -> Signal:
    """Returns the signal at another rate: no delay, the level as is, as long as it was to the sample."""
    if rate == to_rate or not len(signal):
        return signal
    up, down = to_rate // gcd(rate, to_rate), rate // gcd(rate, to_rate)
    cut_off = min(1.0, to_rate / rate) * _CUT_OFF  # of the input's Nyquist frequency
    half = int(np.ceil(_ZERO_CROSSINGS / cut_off))
    taps = np.arange(-half, half + 1)
    # One row of weights for each place that an output sample can have between two input samples.
    distance = taps[None, :] - np.arange(up)[:, None] / up
    window = np.i0(_KAISER_BETA * np.sqrt(np.clip(1 - (distance / (half + 1)) ** 2, 0, None)))
    weights = np.sinc(distance * cut_off) * window
    weights /= weights.sum(axis=1, keepdims=True)
    padded = np.pad(signal, half + 1)
    length = -(-len(signal) * up // down)
    resampled = np.empty(length)
    for begin in range(0, length, _BLOCK):
        position = np.arange(begin, min(begin + _BLOCK, length), dtype=np.int64) * down
        nearest, phase = position // up, position % up
        inputs = padded[nearest[:, None] + taps[None, :] + half + 1]
        resampled[begin : begin + _BLOCK] = np.einsum("ij,ij->i", inputs, weights[phase])
    return resampled


def normalised(signal: Signal, rate: int, dbfs: float) -> Signal:
    """Returns speech whose level, pauses not counted, is `dbfs`, or less where its peaks would otherwise clip."""
    rms = speech_rms(signal, rate)
    peak = np.abs(signal).max()
    factor = min(_amplitude(dbfs) / rms, _amplitude(_PEAK_DBFS) / peak)
    return cast(Signal, signal * factor)


def speech_rms(signal: Signal, rate: int) -> float:
    """Returns the root mean square of the signal without its pauses."""
    frame = max(1, round(rate * _FRAME_S))
    whole = np.pad(signal, (0, -len(signal) % frame)).reshape(-1, frame)
    power = (whole**2).mean(axis=1)
    active = power >= power.max() * 10 ** (-_ACTIVE_DB / 10)
    return float(np.sqrt(power[active].mean()))


def encode(signal: Signal, encoding: str) -> bytes:
    """Returns the signal as pcm16 (little endian), g711_ulaw or g711_alaw."""
    samples = np.clip(np.rint(signal), -32768, 32767).astype(np.int32)
    if encoding == "pcm16":
        return samples.astype("<i2").tobytes()
    return (_ulaw(samples) if encoding == "g711_ulaw" else _alaw(samples)).astype(np.uint8).tobytes()


def _amplitude(dbfs: float) -> float:
    return FULL_SCALE * float(10 ** (dbfs / 20))


def _ulaw(sample: NDArray[np.int32]) -> NDArray[np.int32]:
    """ITU-T G.711 table 2a."""
    size = np.minimum(np.abs(sample), 32635) + 0x84
    segment = np.floor(np.log2(size)).astype(np.int32) - 7
    code = (segment << 4) | ((size >> (segment + 3)) & 0x0F) | np.where(sample < 0, 0x80, 0)
    return cast(NDArray[np.int32], ~code & 0xFF)


def _alaw(sample: NDArray[np.int32]) -> NDArray[np.int32]:
    """ITU-T G.711 table 1a."""
    size = np.where(sample < 0, ~sample, sample) >> 4
    segment = np.where(size < 16, 0, np.floor(np.log2(np.maximum(size, 1))).astype(np.int32) - 3)
    code = (segment << 4) | ((size >> np.maximum(segment - 1, 0)) & 0x0F)
    return cast(NDArray[np.int32], (code | np.where(sample < 0, 0, 0x80)) ^ 0x55)
