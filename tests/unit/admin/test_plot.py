"""The picture of a call."""

import wave
from pathlib import Path

import numpy as np
import pytest

from admin.plot import draw, envelope, label_rows
from admin.timeline import merge


def test_labels_with_room_between_them_share_a_row() -> None:
    assert label_rows([(0, 10), (10, 20), (25, 30)]) == [0, 0, 0]


def test_labels_that_would_touch_go_down_like_stairs() -> None:
    assert label_rows([(0, 100), (1, 101), (2, 102)]) == [0, 1, 2]


def test_a_line_never_goes_down_through_an_earlier_label() -> None:
    """The third begins where the first has ended, but the second, one row further down, is still in the way."""
    assert label_rows([(0, 50), (40, 90), (60, 70), (95, 99)]) == [0, 1, 2, 0]


def test_no_two_labels_overlap_and_no_line_crosses_a_label() -> None:
    begins = sorted(np.random.default_rng(7).uniform(0, 1000, 40).tolist())
    spans = [(begin, begin + 80) for begin in begins]
    rows = label_rows(spans)
    for later, (left, _) in enumerate(spans):
        for earlier in range(later):
            in_the_way = spans[earlier][1] > left and rows[earlier] >= rows[later]
            assert not in_the_way


@pytest.mark.parametrize("length", [0, 1, 2999, 3000, 3001, 96_000])
def test_the_envelope_keeps_the_extremes_of_every_length(length: int) -> None:
    signal = np.sin(np.arange(length) / 7.0)
    times, low, high = envelope(signal, 8000)
    assert len(times) == len(low) == len(high) <= 3000
    if length:
        assert high.max() == signal.max()
        assert low.min() == signal.min()


def test_a_picture_is_drawn_of_a_call_with_nothing_but_an_invite_and_a_recording(tmp_path: Path) -> None:
    recording, picture = tmp_path / "call.wav", tmp_path / "call.png"
    with wave.open(str(recording), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(4 * 8000))
    draw(recording, 1_000.0, merge({"invite": 900.0}, None), "test call", picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
