"""How late an event loop was, as its figures say it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.lag import p99


def test_the_p99_is_of_moments_not_of_lags() -> None:
    assert p99([], 1.0) == 0.0
    assert p99([0.3], 1.0) == pytest.approx(0.29)  # of 1000 moments, 300 waited, 10 of them for longer than that
    assert p99([0.009], 1.0) == 0.0  # fewer than 10 waited at all
    assert p99([0.02, 0.02, 0.001], 1.0) == pytest.approx(0.015)
    assert p99([0.3], 60.0) == 0.0


@given(st.lists(st.floats(0, 0.05), max_size=20))
def test_the_p99_leaves_one_moment_of_a_hundred(lags_s: list[float]) -> None:
    waited_s = p99(lags_s, 1.0)
    beyond_s = sum(max(0.0, lag_s - waited_s) for lag_s in lags_s)
    assert 0 <= waited_s <= max(lags_s, default=0.0)
    assert beyond_s == pytest.approx(min(0.01, sum(lags_s)))
