"""Recordings of which every few samples tell where they belong, and what of them was heard.

They are noise in G.711 u-law: no eight codes in a row occur twice, so that audio that has passed unchanged says by
itself which recording it is of, and which part. It knows nothing of calls or answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.load.clips import PCMU, RATE, decode, write_wav

WINDOW = 8
"""Codes that identify a place. What is heard of less in a row (1 ms) is not found."""

_ZEROS = (0x7F, 0xFF)
"""Both mean 0: one may become the other, and silence is made of them."""

Codes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a recording that was heard without interruption; positions are samples."""

    recording: int
    begin: int
    end: int
    at: int
    """Where it begins in what was heard."""


class Recordings:
    """Some recordings, by number from 0."""

    def __init__(self, seconds: Sequence[float], seed: int) -> None:
        chance = np.random.default_rng(seed)
        sounds = np.setdiff1d(np.arange(256), _ZEROS).astype(np.uint8)
        self._codes = [chance.choice(sounds, round(length * RATE)) for length in seconds]
        self._starts = np.cumsum([0, *(len(codes) for codes in self._codes)])
        keys = np.concatenate([_windows(codes) for codes in self._codes])
        places = np.concatenate(
            [
                np.arange(len(codes) - WINDOW + 1) + start
                for codes, start in zip(self._codes, self._starts, strict=False)
            ]
        )
        order = np.argsort(keys)
        self._keys, self._places = keys[order], places[order]

    def write(self, directory: Path) -> list[Path]:
        """Writes each as a WAV file at 8 kHz, which a G.711 session is sent code for code."""
        files = [directory / f"recording-{number}.wav" for number in range(len(self._codes))]
        for file, codes in zip(files, self._codes, strict=True):
            write_wav(file, decode(codes.tobytes(), PCMU))
        return files

    def find(self, heard: Codes) -> list[Stretch]:
        """Returns what was heard of them, in order."""
        if len(heard) < WINDOW:
            return []
        keys = _windows(heard)
        nearest = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        places = np.where(self._keys[nearest] == keys, self._places[nearest], -1)
        follows = (np.diff(places) == 1) & (places[:-1] >= 0)
        ends = np.flatnonzero(np.append(~follows, True) & (places >= 0))
        begins = np.flatnonzero(np.append(True, ~follows) & (places >= 0))
        return [
            self._stretch(int(places[first]), int(first), int(last)) for first, last in zip(begins, ends, strict=True)
        ]

    def of(self, audio: bytes | bytearray) -> int | None:
        """Returns which recording audio is of, by how it begins; None when it is of none."""
        found = self.find(np.frombuffer(audio[:WINDOW], np.uint8))
        return found[0].recording if found else None

    def _stretch(self, place: int, first: int, last: int) -> Stretch:
        recording = int(np.searchsorted(self._starts, place, side="right")) - 1
        begin = place - int(self._starts[recording])
        return Stretch(recording, begin, begin + last - first + WINDOW, first)


def _windows(codes: Codes) -> NDArray[np.uint64]:
    """Returns every `WINDOW` codes in a row as one number, by the position of the first."""
    rows = np.lib.stride_tricks.sliding_window_view(codes, WINDOW)
    return np.ascontiguousarray(rows).view(np.uint64)[:, 0]
