"""Texts that name what is known of the call."""

import subprocess
import sys
from datetime import UTC, datetime

import pytest

from shared.agents.facts import CallFacts
from shared.agents.template import OUTPUT_MAX, VALUE_MAX, TemplateError, check, render

FACTS = CallFacts(
    caller="+49301",
    called="100",
    headers={"x-customer": "C-17", "x-hostile": "a\r\nb\x00c\u202ed\u2028e" + "f" * 1000},
    trunk="192.0.2.1",
    at=datetime(2026, 7, 1, 22, 30, tzinfo=UTC),
)


def filled(text: str, timezone: str = "UTC") -> str:
    assert check(text) is None
    return render(text, FACTS, timezone)


def test_numbers_are_filled_in() -> None:
    assert filled("{{ caller.number }} called {{ called.number }}.") == "+49301 called 100."


def test_headers_are_found_in_any_case() -> None:
    assert filled('{{ headers["X-Customer"] }}{{ headers["x-CUSTOMER"] }}') == "C-17C-17"


def test_a_header_that_is_missing_is_empty_and_can_have_a_default() -> None:
    assert filled('<{{ headers["X-No"] }}>') == "<>"
    assert filled('{{ headers["X-No"] | default("none") }}') == "none"
    assert filled('{% if headers["X-No"] %}yes{% else %}no{% endif %}') == "no"
    assert filled('{% if "X-No" in headers %}yes{% else %}no{% endif %}') == "no"


def test_time_and_date_are_those_of_the_agents_time_zone() -> None:
    text = '{{ time.strftime("%H:%M") }} {{ date.isoformat() }}'
    assert filled(text) == "22:30 2026-07-01"
    assert filled(text, "Europe/Berlin") == "00:30 2026-07-02"


def test_what_comes_from_outside_is_bounded_and_on_one_line() -> None:
    value = filled('{{ headers["X-Hostile"] }}')
    assert value == "abcde" + "f" * (VALUE_MAX - 5)


def test_what_comes_from_outside_is_never_a_template_itself() -> None:
    facts = CallFacts(caller="{{ 7 * 7 }}", called="", headers={}, trunk="", at=FACTS.at)
    assert render("{{ caller.number }}", facts, "UTC") == "{{ 7 * 7 }}"


def test_the_result_is_bounded_however_long_it_would_be() -> None:
    assert len(filled("{% for i in range(99999) %}{{ i }} {% endfor %}")) == OUTPUT_MAX


def test_a_text_without_marks_stays_as_it_is() -> None:
    assert filled("100 % {of} it }}") == "100 % {of} it }}"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{{ caller.nmuber }}", "UndefinedError: 'dict object' has no attribute 'nmuber'"),
        ("{{ user }}", "UndefinedError: 'user' is undefined"),
        ("a\n{% if %}", "line 2: "),
        ("{{ time.strftime(1) }}", "TypeError: "),
        ("{{ ''.__class__.__mro__ }}", "SecurityError: "),
        ("{% include '/etc/passwd' %}", "TypeError: no loader for this environment specified"),
    ],
)
def test_what_cannot_be_filled_in_is_known_beforehand(text: str, problem: str) -> None:
    found = check(text)
    assert found is not None
    assert found.startswith(problem)


def test_an_error_while_filling_in_says_nothing_of_the_call() -> None:
    with pytest.raises(TemplateError) as caught:
        render('{{ headers["X-Customer"] | int / 0 }}', FACTS, "UTC")
    assert str(caught.value) == "cannot be filled in: ZeroDivisionError"


def test_jinja_is_imported_only_when_there_is_something_to_fill_in() -> None:
    script = """
import sys
from shared.agents.model import Agent
Agent(name="a", model="m", instructions="Be brief.")
assert "jinja2" not in sys.modules
Agent(name="a", model="m", instructions="{{ date }}")
assert "jinja2" in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
