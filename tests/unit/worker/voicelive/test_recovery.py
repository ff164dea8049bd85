"""Whether to try again, and when."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.agents.model import Reconnect
from shared.ending import CallEnd
from shared.errors import UpstreamError
from worker.voicelive.recovery import delay_s, ending, retryable

POLICY = Reconnect(first_delay_s=0.1, max_delay_s=4.0)

chances = st.floats(0, 1, exclude_max=True)
policies = st.tuples(st.floats(0.01, 60), st.floats(0.01, 60)).map(
    lambda delays: Reconnect(first_delay_s=min(delays), max_delay_s=max(delays))
)


def error(status: int | None = None, retry_after_s: float | None = None) -> UpstreamError:
    return UpstreamError("x", status=status, retry_after_s=retry_after_s)


@pytest.mark.parametrize(
    ("status", "again", "end"),
    [
        (400, False, CallEnd.SESSION_REFUSED),
        (401, False, CallEnd.SESSION_UNAUTHORIZED),
        (403, False, CallEnd.SESSION_FORBIDDEN),
        (404, False, CallEnd.SESSION_NOT_FOUND),
        (408, True, CallEnd.SESSION_UNAVAILABLE),
        (425, True, CallEnd.SESSION_UNAVAILABLE),
        (429, True, CallEnd.SESSION_THROTTLED),
        (451, False, CallEnd.SESSION_REFUSED),
        (500, True, CallEnd.SESSION_UNAVAILABLE),
        (503, True, CallEnd.SESSION_UNAVAILABLE),
        (1006, True, CallEnd.SESSION_UNAVAILABLE),
        (None, True, CallEnd.SESSION_UNAVAILABLE),
    ],
)
def test_a_status_says_whether_to_try_again_and_how_the_call_ends_if_not(
    status: int | None, again: bool, end: CallEnd
) -> None:
    assert (retryable(error(status)), ending(error(status))) == (again, end)


@given(policy=policies, chance=chances)
def test_the_first_attempt_comes_soon_and_not_all_at_once(policy: Reconnect, chance: float) -> None:
    assert 0 <= delay_s(0, error(), policy, chance=lambda: chance) <= policy.first_delay_s


@given(attempt=st.integers(1, 10_000), policy=policies, chance=chances)
def test_later_attempts_wait_between_half_and_all_of_a_delay_that_doubles_up_to_its_limit(
    attempt: int, policy: Reconnect, chance: float
) -> None:
    longest = policy.max_delay_s if attempt > 40 else min(policy.first_delay_s * 2 ** (attempt - 1), policy.max_delay_s)
    assert longest / 2 <= delay_s(attempt, error(), policy, chance=lambda: chance) <= longest


@given(attempt=st.integers(0, 50), retry_after_s=st.floats(0, 3600), chance=chances)
def test_no_attempt_is_made_before_the_service_wants_it(attempt: int, retry_after_s: float, chance: float) -> None:
    wait = delay_s(attempt, error(429, retry_after_s), POLICY, chance=lambda: chance)
    assert wait >= retry_after_s
    assert wait <= max(retry_after_s, POLICY.max_delay_s)


def test_without_being_told_delays_differ() -> None:
    assert len({delay_s(3, error(), POLICY) for _ in range(50)}) > 40
