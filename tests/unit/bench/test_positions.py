"""What was heard of recordings, found by the audio itself."""

from pathlib import Path

import numpy as np
import pytest

from bench.load.clips import PCMU, encode
from bench.positions import Recordings, Stretch

RECORDINGS = Recordings([1.0, 0.5], seed=7)
SILENCE = np.full(160, 0xFF, np.uint8)


def codes(tmp_path: Path, number: int) -> np.ndarray:
    """A recording as it is sent: from its WAV file, encoded once."""
    samples = np.frombuffer(RECORDINGS.write(tmp_path)[number].read_bytes()[44:], np.int16)
    return np.frombuffer(encode(samples, PCMU), np.uint8)


def test_a_recording_in_silence_is_found_whole(tmp_path: Path) -> None:
    heard = np.concatenate([SILENCE, codes(tmp_path, 1), SILENCE])
    assert RECORDINGS.find(heard) == [Stretch(recording=1, begin=0, end=4000, at=160)]


def test_a_hole_a_repetition_and_another_recording_are_told_apart(tmp_path: Path) -> None:
    first, second = codes(tmp_path, 0), codes(tmp_path, 1)
    heard = np.concatenate([first[:800], SILENCE, first[960:1600], first[1440:1600], second[:80]])
    assert RECORDINGS.find(heard) == [
        Stretch(0, 0, 800, 0),
        Stretch(0, 960, 1600, 960),
        Stretch(0, 1440, 1600, 1600),
        Stretch(1, 0, 80, 1760),
    ]


@pytest.mark.parametrize("end", [801, 807, 960])
def test_where_it_breaks_off_is_found_to_the_sample(tmp_path: Path, end: int) -> None:
    heard = np.concatenate([codes(tmp_path, 0)[:end], SILENCE])
    assert [stretch.end for stretch in RECORDINGS.find(heard)] == [end]


def test_silence_and_too_little_audio_are_of_no_recording(tmp_path: Path) -> None:
    assert RECORDINGS.find(SILENCE) == []
    assert RECORDINGS.find(codes(tmp_path, 0)[:7]) == []
    assert RECORDINGS.of(bytes(SILENCE)) is None
    assert RECORDINGS.of(b"") is None


def test_audio_is_told_by_how_it_begins(tmp_path: Path) -> None:
    assert RECORDINGS.of(codes(tmp_path, 1).tobytes()) == 1


def test_the_same_seed_makes_the_same_recordings(tmp_path: Path) -> None:
    again = Recordings([1.0, 0.5], seed=7)
    assert again.find(codes(tmp_path, 0)) == [Stretch(0, 0, 8000, 0)]
    assert Recordings([1.0, 0.5], seed=8).find(codes(tmp_path, 0)) == []
