"""Live hearing: when speech began, when it last was there, and what does not count."""

import numpy as np

from simulator.phone.analysis import FRAME, RATE, Signal
from simulator.phone.ear import Ear


def quiet(ms: int) -> Signal:
    return np.zeros(ms * RATE // 1000, dtype=np.int16)


def loud(ms: int) -> Signal:
    return np.asarray(5000 * np.sin(np.arange(ms * RATE // 1000)), dtype=np.int16)


def hearing(*parts: Signal, chunk: int = FRAME) -> Ear:
    ear = Ear()
    signal = np.concatenate(parts)
    for start in range(0, len(signal), chunk):
        ear.hear(signal[start : start + chunk])
    return ear


def test_silence_has_no_onset() -> None:
    ear = hearing(quiet(1000))
    assert ear.onset is None
    assert ear.quiet_ms() == 1000


def test_speech_begins_with_its_first_frame_and_ends_with_its_last() -> None:
    ear = hearing(quiet(500), loud(300), quiet(400))
    assert ear.onset == 4000
    assert ear.last_loud == 6400
    assert ear.quiet_ms() == 400


def test_the_size_of_the_pieces_does_not_matter() -> None:
    parts = quiet(500), loud(300), quiet(400)
    for chunk in (80, 100, 333, 1600):
        ear = hearing(*parts, chunk=chunk)
        assert (ear.onset, ear.last_loud, ear.position) == (4000, 6400, 9600)


def test_a_click_is_not_speech() -> None:
    assert hearing(quiet(500), loud(20), quiet(500)).onset is None


def test_speech_from_before_listening_does_not_count() -> None:
    ear = hearing(loud(500))
    ear.listen(ear.position)
    ear.hear(quiet(500))
    assert ear.onset is None
    assert ear.quiet_ms() == 500
    ear.hear(loud(500))
    assert ear.onset == 8000


def test_listening_may_begin_later_than_what_was_heard_so_far() -> None:
    ear = hearing(quiet(100))
    ear.listen(1600)
    ear.hear(loud(500))
    assert ear.onset == 1600
