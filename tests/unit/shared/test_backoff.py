"""How long to wait before trying again."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from shared.backoff import delay_s, retry_after_s

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(("failures", "longest"), [(1, 1.0), (2, 2.0), (3, 4.0), (8, 128.0), (9, 200.0), (5000, 200.0)])
def test_it_doubles_up_to_a_bound_and_half_of_it_is_chance(failures: int, longest: float) -> None:
    assert delay_s(failures, first_s=1.0, longest_s=200.0, chance=lambda: 1.0) == longest
    assert delay_s(failures, first_s=1.0, longest_s=200.0, chance=lambda: 0.0) == longest / 2


def test_what_the_other_side_asks_for_is_a_lower_bound_within_the_upper_one() -> None:
    for asked_s, wait in ((0.2, 1.0), (30.0, 30.0), (86_400.0, 200.0)):
        assert delay_s(1, first_s=1.0, longest_s=200.0, asked_s=asked_s, chance=lambda: 1.0) == wait


def test_without_further_ado_chance_has_its_part() -> None:
    waits = {delay_s(1, first_s=1.0, longest_s=2.0) for _ in range(20)}
    assert len(waits) > 1 and all(0.5 <= wait <= 1.0 for wait in waits)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        ("0", 0.0),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90.0),
        ("Thu, 01 Jan 2026 12:01:00 -0000", 60.0),
        (format_datetime(NOW - timedelta(seconds=90), usegmt=True), 0.0),
        ("", 0.0),
        ("soon", 0.0),
        ("-5", 0.0),
        ("1e999", 0.0),
        ("\u00b2", 0.0),
        ("Thu, 99 Foo 2026 12:01:00 GMT", 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float) -> None:
    assert retry_after_s(value, NOW) == seconds
