"""Medians of several runs."""

from bench.medians import median_of


def test_numbers_are_medians_and_the_worst_run_counts_where_a_median_would_hide_it() -> None:
    runs = [
        {"cost": cost, "spacing": {"p99": 20.0 + cost, "max": 20.0 + 10 * cost}, "underruns": under, "format": "g711"}
        for cost, under in ((3.0, 0), (1.0, 7), (2.0, 0))
    ]
    assert median_of(runs) == {
        "cost": 2.0,
        "spacing": {"p99": 22.0, "max": 50.0},
        "underruns": 7,
        "format": "g711",
    }


def test_what_one_run_lacks_is_left_out() -> None:
    assert median_of([{"a": 1, "b": {"x": 1}}, {"a": 3, "b": {}}]) == {"a": 2, "b": {}}


def test_flags_stay_flags() -> None:
    assert median_of([{"tls": True}, {"tls": True}]) == {"tls": True}
