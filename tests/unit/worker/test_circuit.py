"""The circuit of a resource: what opens it, what closes it, and when it is probed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import UpstreamError
from worker.circuit import FAILURES_MAX, JITTER, PROBE_FIRST_S, PROBE_MAX_S, STAYING, Circuit

LOST = UpstreamError("cannot connect")
THROTTLED = UpstreamError("refused", status=429)


def circuit() -> Circuit:
    return Circuit(chance=lambda: 0.5)


def test_three_failures_in_a_row_open_it() -> None:
    tried = circuit()
    seen = []
    for _ in range(FAILURES_MAX):
        tried.failed(LOST)
        seen.append(tried.open)
    assert seen == [False, False, True]


def test_a_success_in_between_starts_the_count_anew() -> None:
    tried = circuit()
    for error in (LOST, LOST, None, LOST, LOST):
        tried.failed(error) if error else tried.succeeded()
    assert not tried.open


@pytest.mark.parametrize("status", sorted(STAYING))
def test_a_status_that_stays_opens_it_at_once(status: int) -> None:
    tried = circuit()
    tried.failed(UpstreamError("refused", status=status))
    assert tried.open


def test_being_throttled_never_opens_it() -> None:
    tried = circuit()
    for _ in range(100):
        tried.failed(THROTTLED)
    tried.failed(LOST)
    assert not tried.open


def test_one_success_closes_it() -> None:
    tried = circuit()
    tried.failed(UpstreamError("refused", status=401))
    tried.succeeded()
    assert not tried.open


def test_probes_are_further_apart_each_time_up_to_a_limit_and_begin_anew_after_a_success() -> None:
    tried = circuit()
    waits = [tried.next_probe_s() for _ in range(6)]
    assert waits == [2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    tried.succeeded()
    assert tried.next_probe_s() == PROBE_FIRST_S


def test_a_probe_waits_as_long_as_the_service_asks() -> None:
    assert circuit().next_probe_s(20.0) == 20.0


@given(st.floats(0, 1), st.integers(0, 3000))
def test_a_probe_is_never_long_in_coming(chance: float, before: int) -> None:
    tried = Circuit(lambda: chance)
    for _ in range(before):
        tried.next_probe_s()
    assert PROBE_FIRST_S * (1 - JITTER) <= tried.next_probe_s() <= PROBE_MAX_S * (1 + JITTER)


@given(st.lists(st.sampled_from(["failed", "throttled", "succeeded"])))
def test_it_is_open_exactly_after_failures_in_a_row_with_no_success_since(events: list[str]) -> None:
    tried, in_a_row, was_open = circuit(), 0, False
    for event in events:
        match event:
            case "failed":
                tried.failed(LOST)
                in_a_row += 1
            case "throttled":
                tried.failed(THROTTLED)
            case _:
                tried.succeeded()
                in_a_row = 0
        was_open = in_a_row >= FAILURES_MAX
        assert tried.open == was_open
