"""A call's recording: what the caller said and what the caller heard, on one time axis.

It does not capture audio; positions come from the audio port's counters.
"""

import wave
from pathlib import Path

import numpy as np

from simulator.phone.analysis import RATE, Signal


class Recording:
    """Two tracks of 8 kHz audio that begin with the call's media."""

    def __init__(self) -> None:
        self._heard: list[Signal] = []
        self._said: list[tuple[int, Signal]] = []

    def hear(self, samples: Signal) -> None:
        """Appends what was heard."""
        self._heard.append(samples)

    def say(self, at: int, samples: Signal) -> None:
        """Notes what is said from sample `at` on; what was to be said there or later before is replaced."""
        self._said = [(start, said[: max(at - start, 0)]) for start, said in self._said]
        self._said.append((at, samples))

    def heard(self, start: int = 0, end: int | None = None) -> Signal:
        """Returns what was heard from sample `start` until before `end`."""
        empty: Signal = np.zeros(0, dtype=np.int16)
        return np.concatenate([empty, *self._heard])[max(start, 0) : end]

    def said(self, length: int) -> Signal:
        """Returns the first `length` samples of what was said, silence between."""
        track = np.zeros(length, dtype=np.int16)
        for at, samples in self._said:
            there = samples[: max(length - at, 0)]
            track[at : at + len(there)] = there
        return track

    def write(self, path: Path) -> None:
        """Writes both tracks as a WAV file: left said, right heard."""
        heard = self.heard()
        with wave.open(str(path), "wb") as wav:
            wav.setnchannels(2)
            wav.setsampwidth(2)
            wav.setframerate(RATE)
            wav.writeframes(np.stack([self.said(len(heard)), heard], axis=1).astype("<i2").tobytes())


def read_tracks(path: Path) -> tuple[Signal, Signal]:
    """Returns what was said and what was heard from a file that `Recording.write` wrote."""
    with wave.open(str(path)) as wav:
        frames = np.frombuffer(wav.readframes(wav.getnframes()), dtype="<i2").reshape(-1, 2)
    return frames[:, 0].astype(np.int16), frames[:, 1].astype(np.int16)
