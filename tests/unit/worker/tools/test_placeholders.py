"""Digits the model does not get to see."""

from typing import Any

import pytest

from worker.tools.placeholders import concealed, filled, unknown_placeholder

DIGITS = {"<digits-1>": "4111", "<digits-11>": "99"}
SEEN = {"4111": "<digits-1>", "41112222": "<digits-2>", "7": "<digits-3>"}


def test_a_placeholder_is_replaced_wherever_a_text_contains_it() -> None:
    arguments = {"card": "<digits-1>", "notes": ["card <digits-1>/<digits-11>", 5, None], "deep": {"x": "<digits-2>"}}
    assert filled(arguments, DIGITS) == {
        "card": "4111",
        "notes": ["card 4111/99", 5, None],
        "deep": {"x": "<digits-2>"},
    }
    assert arguments["card"] == "<digits-1>"


def test_a_result_shows_placeholders_instead_of_digits() -> None:
    result = {"echo": "card 4111.", "number": 4111, "long": "41112222", "4111": True, "other": [1.5, False]}
    assert concealed(result, SEEN) == {
        "echo": "card <digits-1>.",
        "number": "<digits-1>",
        "long": "<digits-2>",
        "<digits-1>": True,
        "other": [1.5, False],
    }


def test_a_single_digit_is_not_searched_for() -> None:
    assert concealed("7 of 77", SEEN) == "7 of 77"


@pytest.mark.parametrize("value", ["<digits-2>", {"number": "no <digits-2>"}, [{"a": ["<digits-1>", "<digits-2>"]}]])
def test_a_placeholder_behind_which_there_are_no_digits_is_found(value: Any) -> None:
    assert unknown_placeholder(value, {"<digits-1>": "1234"}) == "<digits-2>"


def test_a_placeholder_behind_which_there_are_digits_is_good() -> None:
    assert unknown_placeholder({"number": "<digits-1>", "count": 4}, {"<digits-1>": "1234"}) is None
