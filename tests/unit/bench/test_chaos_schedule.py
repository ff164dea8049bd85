"""Which faults a seed makes, and what may not come together."""

import itertools
from collections import Counter

import pytest

from bench.chaos.schedule import DEATHS, FIRST_S, FORGETTING, GAP_S, FaultKind, draw

SEEDS = range(50)


def test_the_same_seed_makes_the_same_faults_and_another_seed_others() -> None:
    assert draw(7, 600.0) == draw(7, 600.0)
    assert draw(7, 600.0) != draw(8, 600.0)


def test_a_longer_run_begins_as_a_shorter_one() -> None:
    short, long = draw(3, 60.0), draw(3, 600.0)
    assert 0 < len(short) < len(long)
    assert long[: len(short)] == short


@pytest.mark.parametrize("seed", SEEDS)
def test_there_is_a_fault_at_least_every_eight_seconds_and_all_are_over_in_time(seed: int) -> None:
    faults = draw(seed, 600.0)
    times = [fault.at_s for fault in faults]
    assert times[0] == FIRST_S
    assert all(GAP_S[0] <= later - earlier <= GAP_S[1] <= 8.0 for earlier, later in itertools.pairwise(times))
    assert all(fault.until_s <= 600.0 for fault in faults)
    assert len(faults) >= 600 / 8


@pytest.mark.parametrize("seed", SEEDS)
def test_every_kind_strikes_in_ten_minutes(seed: int) -> None:
    counts = Counter(fault.kind for fault in draw(seed, 600.0))
    assert set(counts) == set(FaultKind)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_death_and_a_loss_of_memory_keep_apart(seed: int) -> None:
    faults = draw(seed, 600.0)
    for earlier, later in itertools.combinations(faults, 2):
        if earlier.kind in DEATHS and later.kind in FORGETTING:
            assert later.at_s >= earlier.at_s + DEATHS[earlier.kind]
        if earlier.kind in FORGETTING and later.kind in DEATHS:
            assert later.at_s >= earlier.until_s + FORGETTING[earlier.kind]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "kinds",
    [
        {FaultKind.EMPTY_REDIS, FaultKind.CUT_REDIS, FaultKind.SLOW_REDIS},
        {FaultKind.DROP_MODEL, FaultKind.REFUSE_MODEL},
    ],
    ids=["Redis", "Voice Live"],
)
def test_what_strikes_the_same_thing_comes_one_after_the_other(seed: int, kinds: set[FaultKind]) -> None:
    same = [fault for fault in draw(seed, 600.0) if fault.kind in kinds]
    assert len(same) > 1
    assert all(later.at_s > earlier.until_s for earlier, later in itertools.pairwise(same))
