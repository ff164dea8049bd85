"""Python functions as tools: what is read from them, how they are found and called."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from shared.agents.facts import CallFacts
from shared.errors import ConfigError
from worker.tools.context import ToolContext, ToolError
from worker.tools.functions import discover, read

CONTEXT = ToolContext("call-1", CallFacts("1", "2", {}, "", datetime(2026, 1, 1, tzinfo=UTC)))


@dataclass
class Site:
    city: str
    floor: int = 0


def book(
    context: ToolContext,
    day: Annotated[date, Field(description="The day wanted.")],
    schema: Literal["short", "long"] = "short",
    *,
    site: Site | None = None,
) -> list[Any]:
    """Books a visit.

    Only after the caller has agreed.
    """
    return [context.call_id, day, schema, site]


class Order(BaseModel):
    """Not shown."""

    number: int = Field(gt=0)
    note: str = ""


async def cancel(order: Order) -> str:
    """Cancels an order."""
    return f"{order.number} {order.note}"


def no_docstring(day: str) -> str:
    return day


def no_hint(day) -> str:  # type: ignore[no-untyped-def]
    """Has a parameter of no type."""
    return str(day)


def any_number(*days: str) -> str:
    """Takes any number of days."""
    return "".join(days)


def keyword_context(*, context: ToolContext) -> str:
    """Takes the context by name only."""
    return context.call_id


def no_schema(call: Callable[[], None]) -> None:
    """Takes what JSON has not."""
    call()


def test_the_schema_comes_from_the_type_hints() -> None:
    function = read("book", book)
    assert function.description == "Books a visit.\n\nOnly after the caller has agreed."
    assert not function.is_async
    assert function.parameters["required"] == ["day"]
    assert function.parameters["additionalProperties"] is False
    assert function.parameters["properties"] == {
        "day": {"type": "string", "format": "date", "description": "The day wanted."},
        "schema": {"type": "string", "enum": ["short", "long"], "default": "short"},
        "site": {"anyOf": [{"$ref": "#/$defs/Site"}, {"type": "null"}], "default": None},
    }


def test_the_function_gets_the_context_and_typed_values() -> None:
    call = read("book", book).bind({"day": "2026-05-01", "site": {"city": "Bonn"}}, CONTEXT)
    assert call() == ["call-1", date(2026, 5, 1), "short", Site("Bonn")]


async def test_a_single_model_takes_all_arguments() -> None:
    function = read("cancel", cancel)
    assert function.is_async
    assert function.parameters == {
        "type": "object",
        "properties": {
            "number": {"type": "integer", "exclusiveMinimum": 0},
            "note": {"type": "string", "default": ""},
        },
        "required": ["number"],
    }
    assert await function.bind({"number": 5, "note": "x"}, CONTEXT)() == "5 x"


def test_a_function_without_parameters_takes_an_empty_object() -> None:
    def now() -> str:
        """Says the time."""
        return "noon"

    function = read("now", now)
    assert function.parameters == {"type": "object", "properties": {}, "additionalProperties": False}
    assert function.bind({}, CONTEXT)() == "noon"


def test_values_that_do_not_fit_are_refused_without_being_repeated() -> None:
    with pytest.raises(ToolError, match=r"^day: .*; site\.floor: ") as caught:
        read("book", book).bind({"day": "31.12.", "site": {"city": "Bonn", "floor": "4111x"}}, CONTEXT)
    assert "31.12." not in str(caught.value)
    assert "4111x" not in str(caught.value)


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        (Order, "is not a function"),
        (no_docstring, "has no docstring"),
        (no_hint, "parameter day: has no type hint"),
        (any_number, "parameter days: must be one that can be given by name"),
        (keyword_context, "must not be keyword-only"),
        (no_schema, "no JSON Schema"),
    ],
)
def test_what_cannot_be_a_tool_is_refused_with_the_reason(function: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        read("x", function)


class Packages:
    """Installs distributions that do not exist elsewhere, as pip would."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def install(self, name: str, code: str, entry_points: str) -> None:
        (self._directory / f"{name}.py").write_text(code)
        info = self._directory / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[voicepool.tools]\n{entry_points}\n")


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Packages:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    return Packages(tmp_path)


TOOL = '''
from __future__ import annotations

from worker.tools.context import ToolContext


def hours(context: ToolContext, day: str) -> str:
    """Says when we are open."""
    return f"{context.facts.called}: {day} 9 to 5"
'''


def test_installed_functions_are_found_by_their_entry_points(packages: Packages) -> None:
    packages.install("acme_tools", TOOL, "opening_hours = acme_tools:hours")
    packages.install("more_tools", TOOL, "more_hours = more_tools:hours")
    functions = discover()
    assert set(functions) == {"opening_hours", "more_hours"}
    assert functions["opening_hours"].description == "Says when we are open."
    assert functions["opening_hours"].bind({"day": "Monday"}, CONTEXT)() == "2: Monday 9 to 5"


def test_everything_wrong_with_installed_functions_is_said_at_once(packages: Packages) -> None:
    packages.install("broken_tools", "raise OSError('no licence')", "broken = broken_tools:hours")
    packages.install(
        "acme_tools", TOOL, "twice = acme_tools:hours\nlost = acme_tools:nothing\nbare = acme_tools:annotations"
    )
    packages.install("more_tools", TOOL, "twice = more_tools:hours")
    with pytest.raises(ConfigError) as caught:
        discover()
    assert sorted(caught.value.problems)[:3] == [
        "tool bare (acme_tools:annotations): is not a function",
        "tool broken (broken_tools:hours): OSError: no licence",
        "tool lost (acme_tools:nothing): AttributeError: module 'acme_tools' has no attribute 'nothing'",
    ]
    assert sorted(caught.value.problems)[3].endswith("is registered twice")


def test_without_installed_functions_there_are_none() -> None:
    assert discover() == {}
