"""The dispatcher benchmark: which rate counts, and what was the limit."""

from dataclasses import replace

import pytest

from bench.dispatch import Busy, Spread, Step, outcome

GOOD = Step(
    rate=100.0,
    calls=500,
    failed=0,
    retransmitted=0,
    late_ms=1.0,
    invite_ms=Spread(1.0, 2.0, 3.0),
    dispatcher_percent=10.0,
    cpu_ms_per_call=1.0,
    load=Busy(cpu_percent=20.0, caller_percent=10.0, redis_percent=2.0),
)
SLOW = replace(GOOD, rate=300.0, invite_ms=Spread(1.0, 51.0, 60.0))


@pytest.mark.parametrize(
    "step", [SLOW, replace(GOOD, failed=1), replace(GOOD, retransmitted=1), replace(GOOD, late_ms=300.0)]
)
def test_a_rate_with_trouble_does_not_count(step: Step) -> None:
    assert not GOOD.trouble
    assert step.trouble


def test_the_last_good_rate_counts() -> None:
    best = replace(GOOD, rate=200.0, cpu_ms_per_call=0.5)
    result = outcome([GOOD, best, SLOW, SLOW])
    assert (result.calls_per_s, result.limited_by, result.cpu_ms_per_call) == (200.0, "dispatcher", 0.5)
    assert result.invite_ms == GOOD.invite_ms
    assert result.reason == "at 300 calls/s p95 of the INVITE was 51 ms"


def test_a_busy_load_is_the_limit_itself() -> None:
    assert outcome([GOOD, replace(SLOW, load=replace(GOOD.load, cpu_percent=95.0))]).limited_by == "load"


def test_a_given_rate_that_is_sustained_says_nothing_of_higher_ones() -> None:
    assert outcome([GOOD, replace(GOOD, rate=500.0)]).limited_by == "rate"
