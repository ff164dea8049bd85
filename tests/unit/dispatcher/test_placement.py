"""Placement: a table of cases."""

from collections import Counter
from typing import Any

import pytest

from dispatcher import placement
from shared.choices import PlacementPolicy
from shared.control.workers import WorkerRow
from shared.ids import WorkerId
from shared.messages import WorkerHealth, WorkerRecord
from shared.states import WorkerState

SPREAD, PACK = PlacementPolicy.SPREAD, PlacementPolicy.PACK
A, B, C = WorkerId("a"), WorkerId("b"), WorkerId("c")


def row(
    worker_id: str,
    leased: int = 0,
    capacity: int = 10,
    state: str = "ready",
    age_ms: int = 100,
    health: WorkerHealth | None = None,
    **labels: str,
) -> WorkerRow:
    record = WorkerRecord(
        worker_id=WorkerId(worker_id),
        pod="pod",
        pid=1,
        sip_host="10.0.1.1",
        sip_port=5070,
        capacity=capacity,
        state=WorkerState(state),
        started_at_ms=0,
        labels=labels,
    )
    return WorkerRow(record, leased, age_ms, health or WorkerHealth())


def choose(rows: list[WorkerRow], **how: Any) -> WorkerId | None:
    chosen = placement.choose(rows, **how)
    return chosen.record.worker_id if chosen else None


@pytest.mark.parametrize(
    ("rows", "spread", "pack"),
    [
        ([], None, None),
        ([row("a")], A, A),
        ([row("a", 3), row("b", 2), row("c", 7)], B, C),
        ([row("a", 10), row("b", 9), row("c", 10)], B, B),
        ([row("a", 10), row("b", 10)], None, None),
        ([row("a", 12), row("b", 9)], B, B),
        ([row("a", 2, capacity=4), row("b", 4, capacity=20)], B, A),
        ([row("a", 0, capacity=1), row("b", 1, capacity=20)], A, B),
        ([row("a", state="draining"), row("b", 9)], B, B),
        ([row("a", state="starting"), row("b", state="stopped")], None, None),
        ([row("a", age_ms=3501), row("b", 9, age_ms=3500)], B, B),
        ([row("a", capacity=0)], None, None),
    ],
)
def test_the_worker_with_the_right_load_gets_the_call(
    rows: list[WorkerRow], spread: WorkerId | None, pack: WorkerId | None
) -> None:
    assert choose(rows, policy=SPREAD) == spread
    assert choose(rows, policy=PACK) == pack


def test_excluded_workers_get_nothing() -> None:
    assert choose([row("a"), row("b", 9)], policy=SPREAD, exclude={A}) == B
    assert choose([row("a")], policy=SPREAD, exclude={A}) is None


def test_slots_taken_since_the_table_was_read_count() -> None:
    rows = [row("a", 1), row("b", 2)]
    assert choose(rows, policy=SPREAD, taken={A: 2}) == B
    assert choose(rows, policy=SPREAD, taken={A: 9, B: 8}) is None


def test_slots_given_back_since_the_table_was_read_count() -> None:
    assert choose([row("a", 10)], policy=SPREAD, taken={A: -1}) == A


def test_a_worker_must_have_all_labels() -> None:
    rows = [row("a", 0, zone="eu"), row("b", 5, zone="eu", tier="gold"), row("c", 0, tier="gold")]
    assert choose(rows, policy=SPREAD, labels={"zone": "eu", "tier": "gold"}) == B
    assert choose(rows, policy=SPREAD, labels={"zone": "us"}) is None


def test_a_worker_that_is_late_gets_nothing() -> None:
    late = WorkerHealth(late=True)
    assert choose([row("a", health=late), row("b", 9)], policy=SPREAD) == B
    assert choose([row("a", health=late)], policy=SPREAD) is None


def test_a_worker_must_reach_one_of_the_resources() -> None:
    east, west = WorkerHealth(cut_off=["east"]), WorkerHealth(cut_off=["west"])
    rows = [row("a", health=east), row("b", 5, health=west), row("c", 7)]
    assert choose(rows, policy=SPREAD, resources=["east"]) == B
    assert choose(rows, policy=SPREAD, resources=["west"]) == A
    assert choose(rows, policy=SPREAD, resources=["east", "west"]) == A
    nowhere = [row("a", health=WorkerHealth(cut_off=["east", "west"]))]
    assert choose(nowhere, policy=SPREAD, resources=["west", "east"]) is None
    assert choose(nowhere, policy=SPREAD) == A


def test_equals_get_the_same_share_of_calls() -> None:
    rows = [row(name) for name in "abcd"] + [row("e", 1)]
    shares = Counter(choose(rows, policy=SPREAD, salt=f"call-{number}") for number in range(4000))
    assert set(shares) == {"a", "b", "c", "d"}
    assert min(shares.values()) > 850


def test_the_same_call_gets_the_same_worker_whatever_the_order_of_the_table() -> None:
    rows = [row(name) for name in "abcdef"]
    for number in range(50):
        salt = f"call-{number}"
        assert choose(rows, policy=PACK, salt=salt) == choose(rows[::-1], policy=PACK, salt=salt)
