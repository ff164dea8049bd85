"""A recording puts what was said and what was heard on one time axis."""

from pathlib import Path

import numpy as np

from simulator.phone.recording import Recording, read_tracks


def test_what_is_said_stands_beside_what_is_heard_at_that_time(tmp_path: Path) -> None:
    recording = Recording()
    recording.hear(np.zeros(100, dtype=np.int16))
    recording.hear(np.arange(100, dtype=np.int16))
    recording.say(50, np.full(20, 7, dtype=np.int16))
    recording.write(tmp_path / "call.wav")
    said, heard = read_tracks(tmp_path / "call.wav")
    assert np.flatnonzero(said).tolist() == list(range(50, 70))
    assert heard[100:].tolist() == list(range(100))


def test_what_was_still_to_be_said_at_the_end_is_cut_off() -> None:
    recording = Recording()
    recording.say(50, np.full(20, 7, dtype=np.int16))
    assert np.flatnonzero(recording.said(60)).tolist() == list(range(50, 60))
    assert recording.said(40).tolist() == [0] * 40


def test_a_stretch_of_what_was_heard_is_cut_at_the_ends_of_the_call() -> None:
    recording = Recording()
    recording.hear(np.arange(100, dtype=np.int16))
    assert recording.heard(90, 200).tolist() == list(range(90, 100))
    assert recording.heard(-5, 3).tolist() == [0, 1, 2]


def test_a_call_without_media_has_an_empty_recording() -> None:
    assert len(Recording().heard()) == 0
