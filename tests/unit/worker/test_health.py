"""How a worker measures itself, and when it calls itself late."""

import asyncio
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from shared.lag import INTERVAL_S
from worker.health import (
    BAD_PERIODS,
    GOOD_PERIODS,
    LOOP_LATE_MS,
    Health,
    Lateness,
    TakeTicks,
)

PERIOD_TICKS = 50
GOOD = (1.0, PERIOD_TICKS, 0)
BAD = (1.0, PERIOD_TICKS, PERIOD_TICKS)
BLOCKED_S = 0.2

Period = tuple[float, int, int]
PERIODS = st.tuples(st.floats(0, 200), st.integers(0, 100), st.integers(0, 100))


def judged(*periods: Period) -> list[bool]:
    """Returns what is said of a worker after each period."""
    lateness = Lateness()
    return [lateness.judge(*period) for period in periods]


def is_bad(period: Period) -> bool:
    return judged(*BAD_PERIODS * [period])[-1]


def clock(*periods: tuple[int, int, int]) -> TakeTicks:
    """An audio clock that tells these periods, and then that nothing is counted any more."""
    told: Iterator[tuple[int, int, int]] = iter(periods)
    return lambda: next(told, (0, 0, 0))


async def started(take_ticks: TakeTicks) -> Health:
    health = Health(take_ticks)
    health.start()
    await asyncio.sleep(0)
    return health


async def blocked_for(seconds: float) -> None:
    time.sleep(seconds)  # noqa: ASYNC251 (this is what must not happen in a worker)
    for _ in range(2):
        await asyncio.sleep(0)  # the overdue tick comes in


async def test_a_loop_that_was_blocked_shows_it_once() -> None:
    health = await started(clock())
    await blocked_for(BLOCKED_S)
    first, second = health.take(), health.take()
    health.stop()
    assert first.loop_lag_ms >= 1000 * (BLOCKED_S - INTERVAL_S) - 1
    assert second.loop_lag_ms < first.loop_lag_ms
    assert 0 < first.loop_lag_p99_ms < first.loop_lag_ms


async def test_a_block_counts_before_the_loop_has_turned_and_not_again_afterwards() -> None:
    health = await started(clock())
    time.sleep(BLOCKED_S)  # noqa: ASYNC251
    first = health.take()
    await blocked_for(0)
    second = health.take()
    health.stop()
    assert first.loop_lag_p99_ms > LOOP_LATE_MS
    assert second.loop_lag_ms < LOOP_LATE_MS


async def test_a_loop_that_is_never_blocked_is_in_time() -> None:
    health = await started(clock((PERIOD_TICKS, 0, 20_000_000)))
    await asyncio.sleep(5 * INTERVAL_S)
    taken = health.take()
    health.stop()
    assert 0 <= taken.loop_lag_p99_ms <= taken.loop_lag_ms
    assert (taken.late, taken.late_ticks) == (False, 0)


async def test_cpu_time_is_that_of_the_process() -> None:
    health = Health(clock())
    begin = time.process_time()
    while time.process_time() - begin < 0.05:
        pass
    assert health.take().cpu_percent > 0


async def test_who_has_not_begun_to_measure_is_not_late() -> None:
    health = Health(clock())
    time.sleep(2 * LOOP_LATE_MS / 1000)  # noqa: ASYNC251 (starting a worker takes longer than that)
    taken = health.take()
    assert (taken.loop_lag_ms, taken.loop_lag_p99_ms, taken.late) == (0.0, 0.0, False)


async def test_getting_late_and_being_in_time_again_are_one_line_each() -> None:
    slow, slower = (PERIOD_TICKS, 3, 31_000_000), (PERIOD_TICKS, 5, 45_000_000)
    health = Health(clock(slow, slower, slow))
    with capture_logs() as lines:
        late = [health.take().late for _ in range(7)]
    assert late == [False, True, True, True, True, False, False]
    assert [line["event"] for line in lines] == ["worker.late", "worker.in_time"]
    assert (lines[0]["late_ticks"], lines[0]["longest_tick_ms"]) == (5, 45)


@pytest.mark.parametrize("bad", [(LOOP_LATE_MS + 0.1, 0, 0), (1.0, PERIOD_TICKS, 2), (1.0, 500, 11), (90.0, 500, 400)])
def test_two_bad_periods_in_a_row_make_a_worker_late(bad: Period) -> None:
    assert judged(bad, bad) == [False, True]


@pytest.mark.parametrize("fair", [(LOOP_LATE_MS, 0, 0), (1.0, PERIOD_TICKS, 1), (1.0, 500, 10), (1.0, 4, 1)])
def test_a_little_late_is_not_late(fair: Period) -> None:
    assert not any(judged(*10 * [fair]))


def test_a_pause_does_not_take_a_worker_out() -> None:
    pause = (300.0, PERIOD_TICKS, 1)
    assert not any(judged(pause, GOOD, pause, GOOD, GOOD, pause))


def test_a_late_worker_is_in_time_again_after_three_good_periods_in_a_row() -> None:
    assert judged(BAD, BAD, GOOD, GOOD, GOOD, GOOD) == [False, True, True, True, False, False]
    assert judged(BAD, BAD, GOOD, GOOD, BAD, GOOD, GOOD, GOOD) == [False, *6 * [True], False]


@given(st.lists(PERIODS))
def test_late_is_who_had_bad_periods_in_a_row_and_not_enough_good_ones_in_a_row_since(periods: list[Period]) -> None:
    said = judged(*periods)
    bad = [is_bad(period) for period in periods]
    for end in range(1, len(periods) + 1):
        since = max((at for at in range(BAD_PERIODS, end + 1) if all(bad[at - BAD_PERIODS : at])), default=None)
        runs = [] if since is None else [bad[at : at + GOOD_PERIODS] for at in range(since, end - GOOD_PERIODS + 1)]
        assert said[end - 1] == (since is not None and all(any(run) for run in runs))


@given(st.lists(PERIODS), PERIODS, st.floats(0, 100), st.integers(0, 50))
def test_worse_figures_never_make_a_worker_less_late(
    before: list[Period], period: Period, more_ms: float, more_late: int
) -> None:
    lag_ms, ticks, late_ticks = period
    worse = (lag_ms + more_ms, ticks, late_ticks + more_late)
    assert judged(*before, period)[-1] <= judged(*before, worse)[-1]
