"""What the caller has heard of each answer."""

from hypothesis import given
from hypothesis import strategies as st

from worker.media.ledger import CutOff, Ledger

MS = 8
"""Samples."""


def test_an_answer_that_is_being_heard_is_cut_off_where_the_playout_stands() -> None:
    ledger = Ledger()
    ledger.begin(1000 * MS)
    ledger.add("a", 500 * MS, 1000 * MS)
    ledger.add("a", 500 * MS, 1000 * MS)
    assert ledger.cut(1640 * MS + 7) == [CutOff("a", 640)]


def test_an_answer_that_was_heard_to_its_end_is_not_cut_off() -> None:
    ledger = Ledger()
    ledger.begin(0)
    ledger.add("a", 500 * MS, 0)
    assert ledger.cut(500 * MS) == []


def test_answers_behind_the_one_being_heard_were_not_heard_at_all() -> None:
    ledger = Ledger()
    ledger.begin(0)
    for item in ("a", "b", "c"):
        ledger.add(item, 100 * MS, 0)
    assert ledger.cut(150 * MS) == [CutOff("b", 50), CutOff("c", 0)]


def test_what_is_cut_off_once_is_not_cut_off_again() -> None:
    ledger = Ledger()
    ledger.begin(0)
    ledger.add("a", 100 * MS, 0)
    ledger.cut(10 * MS)
    assert ledger.cut(10 * MS) == []
    ledger.add("b", 100 * MS, 10 * MS)
    assert ledger.cut(30 * MS) == [CutOff("b", 20)]


@given(
    lengths=st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4000)), min_size=1, max_size=12),
    begin=st.integers(0, 10**6),
    heard=st.floats(0, 1),
)
def test_never_more_than_there_is_and_nothing_that_ended(
    lengths: list[tuple[str, int]], begin: int, heard: float
) -> None:
    ledger = Ledger()
    ledger.begin(begin)
    runs: list[tuple[str, int]] = []
    for item, samples in lengths:
        ledger.add(item, samples, begin)
        if runs and runs[-1][0] == item:
            runs[-1] = (item, runs[-1][1] + samples)
        else:
            runs.append((item, samples))
    position = begin + int(heard * sum(samples for _, samples in runs))
    cut = ledger.cut(position)
    start, expected = begin, []
    for item, samples in runs:
        if start + samples > position:
            expected.append(CutOff(item, max(0, position - start) // MS))
            assert expected[-1].heard_ms * MS <= samples
        start += samples
    assert cut == expected
