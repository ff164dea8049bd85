"""Finds where speech starts and stops in appended audio, on audio time. Does not keep the audio or know about turns.

Time is the number of samples heard, never a clock: a file appended at once gives the same moments as the same file
appended in 20 ms pieces, and nothing ends until more audio arrives. Moments lie on a 16 ms grid, as recorded ones do.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from simulator.voicelive.audio import AudioFormat, decoding_table

GRID_MS = 16

# The floor follows falling levels at once and rising ones slowly, so that pauses between words set it and speech
# does not; steady line noise stops counting as speech after a few seconds.
_FLOOR_RISE_DB = 1.5 * GRID_MS / 1000
_FLOOR_START_DB = -60.0
_FLOOR_MIN_DB = -75.0
_FLOOR_MAX_DB = -30.0

# Speech that has begun goes on at a slightly lower level, so that soft syllables do not end it.
_HYSTERESIS_DB = 4.0

# A closure before a plosive is this long; a longer gap means the voiced frames so far were not speech.
_ONSET_GAP_MS = 96

_DIGITAL_SILENCE_DB = -96.0
_FULL_SCALE = 32768.0**2


@dataclass(frozen=True, slots=True)
class VadSettings:
    """The part of `turn_detection` that concerns detection; durations in ms, threshold 0 (eager) to 1 (deaf)."""

    threshold: float = 0.5
    prefix_padding_ms: int = 300
    silence_duration_ms: int = 200
    speech_duration_ms: int = 200


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """Speech began; `at_ms` is the start of audio given to the model, so it includes the prefix padding."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """Speech ended; `at_ms` is the end of audio given to the model, so it includes the silence that ended it."""

    at_ms: int


Moment = SpeechStarted | SpeechStopped


class Vad:
    """An energy detector with an adaptive floor.

    A frame of 16 ms is voiced when it is loud enough over the floor and loud enough in itself; both bounds grow with
    `threshold`. Speech starts after `speech_duration_ms` of voiced frames and stops after `silence_duration_ms`
    without one.
    """

    def __init__(self, fmt: AudioFormat, settings: VadSettings) -> None:
        self.settings = settings
        self._format = fmt
        self._frame_bytes = GRID_MS * fmt.bytes_per_ms
        self._frame_samples = GRID_MS * fmt.rate // 1000
        self._rest = b""
        self._frames = 0
        self._floor_db = _FLOOR_START_DB
        self._earliest_ms = 0
        self.speaking = False
        self._onset = 0
        self._voiced = 0
        self._quiet = 0

    def hear(self, data: bytes) -> Iterator[Moment]:
        """The moments that `data`, the next bytes of the caller's audio, brings about."""
        data = self._rest + data if self._rest else data
        whole = len(data) - len(data) % self._frame_bytes
        self._rest = data[whole:]
        if whole:
            for level in self._levels(data[:whole]):
                moment = self._frame(level)
                if moment is not None:
                    yield moment

    def restart(self, not_before_ms: int) -> None:
        """Forget speech in progress (the buffer was committed or cleared); later speech starts no earlier than this."""
        self.speaking = False
        self._voiced = self._quiet = 0
        self._earliest_ms = not_before_ms

    def _levels(self, data: bytes) -> list[float]:
        squares = _squares(data, self._format.encoding).reshape(-1, self._frame_samples)
        # What ndarray.mean does, without its cost for a few numbers.
        return [_decibel(total / self._frame_samples) for total in np.add.reduce(squares, axis=1).tolist()]

    def _frame(self, level: float) -> Moment | None:
        self._frames += 1
        voiced = level >= self._bound() - (_HYSTERESIS_DB if self.speaking else 0.0)
        self._follow(level)
        return self._while_speaking(voiced) if self.speaking else self._while_silent(voiced)

    def _bound(self) -> float:
        threshold = self.settings.threshold
        return max(self._floor_db + 6.0 + 12.0 * threshold, -55.0 + 20.0 * threshold)

    def _follow(self, level: float) -> None:
        floor = level if level < self._floor_db else self._floor_db + _FLOOR_RISE_DB
        self._floor_db = min(max(floor, _FLOOR_MIN_DB), _FLOOR_MAX_DB)

    def _while_silent(self, voiced: bool) -> Moment | None:
        if not voiced:
            self._quiet += 1
            if self._quiet * GRID_MS > _ONSET_GAP_MS:
                self._voiced = 0
            return None
        if not self._voiced:
            self._onset = self._frames - 1
        self._voiced += 1
        self._quiet = 0
        if self._voiced * GRID_MS < self.settings.speech_duration_ms:
            return None
        self.speaking = True
        start = max(self._onset * GRID_MS - self.settings.prefix_padding_ms, self._earliest_ms, 0)
        return SpeechStarted(start - start % GRID_MS)

    def _while_speaking(self, voiced: bool) -> Moment | None:
        self._quiet = 0 if voiced else self._quiet + 1
        if self._quiet * GRID_MS < self.settings.silence_duration_ms:
            return None
        end = self._frames * GRID_MS
        self.restart(not_before_ms=end)
        return SpeechStopped(end)


def _squares(data: bytes, encoding: str) -> npt.NDArray[np.float32]:
    if encoding != "pcm16":
        return _square_table(encoding)[np.frombuffer(data, dtype=np.uint8)]
    return np.asarray(np.square(np.frombuffer(data, dtype="<i2"), dtype=np.float32))


@cache
def _square_table(encoding: str) -> npt.NDArray[np.float32]:
    return np.square(decoding_table(encoding), dtype=np.float32)


def _decibel(mean_square: float) -> float:
    return 10.0 * math.log10(mean_square / _FULL_SCALE) if mean_square >= 1.0 else _DIGITAL_SILENCE_DB
