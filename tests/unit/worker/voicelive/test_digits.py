"""Digits become entries."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.voicelive.digits import Collector, Entry

KEYS = "0123456789*#ABCD"


def collector(max_digits: int = 4, terminator: str = "#") -> Collector:
    return Collector(Entry(max_digits, terminator, inter_digit_s=3.0))


def test_an_entry_is_complete_at_its_most_digits() -> None:
    keys = collector(max_digits=2)
    assert (keys.press("1"), keys.press("2")) == (None, "12")


def test_an_entry_is_complete_at_the_terminator_which_does_not_belong_to_it() -> None:
    keys = collector()
    assert (keys.press("1"), keys.press("#")) == (None, "1")


def test_a_terminator_alone_is_an_empty_entry() -> None:
    assert collector().press("#") == ""


def test_without_a_terminator_every_key_is_a_digit() -> None:
    keys = collector(max_digits=2, terminator="")
    assert (keys.press("#"), keys.press("*")) == (None, "#*")


def test_an_entry_that_is_taken_begins_anew() -> None:
    keys = collector()
    keys.press("1")
    assert keys.begun and keys.take() == "1"
    assert not keys.begun and keys.take() == ""


def test_the_pause_is_that_of_the_entry() -> None:
    assert collector().pause_s == 3.0


@given(typed=st.text(KEYS, max_size=60), max_digits=st.integers(1, 10), terminator=st.sampled_from(["", *KEYS]))
def test_every_key_ends_up_in_one_entry_and_none_is_too_long(typed: str, max_digits: int, terminator: str) -> None:
    keys = collector(max_digits, terminator)
    entries = [entry for key in typed if (entry := keys.press(key)) is not None] + [keys.take()]
    assert "".join(entries) == (typed.replace(terminator, "") if terminator else typed)
    assert max(map(len, entries)) <= max_digits


@pytest.mark.parametrize("key", KEYS)
def test_every_key_can_be_the_terminator(key: str) -> None:
    assert collector(terminator=key).press(key) == ""
