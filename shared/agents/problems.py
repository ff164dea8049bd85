"""What pydantic found wrong with a file, as lines an operator can act on: where it is in the file, and what is wrong.

No line shows a value: it may be a secret that was written where it does not belong.
"""

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from shared.agents.parts import Part

COMBINATION = "combination"
"""Type of the error that says which fields do not go together; its context has `problems`: rules.Problem each."""


class Found(NamedTuple):
    """One thing that is wrong."""

    path: tuple[str, ...]
    """Keys and list indexes, as in the file."""
    text: str
    involves: tuple[str, ...] = ()
    """For fields that do not go together: which."""


def found(error: ValidationError, values: Any) -> Iterator[Found]:
    """Yields what is wrong with `values`, which is what was validated."""
    for item in error.errors(include_url=False):
        if item["type"] == COMBINATION:
            for problem in item["ctx"]["problems"]:
                yield Found(tuple(problem.path.split(".")), problem.text, problem.involves)
        else:
            yield Found(*_where_and_what(item, values))


def _where_and_what(item: ErrorDetails, values: Any) -> tuple[tuple[str, ...], str]:
    kind, context = item["type"], item.get("ctx", {})
    path = _path(item["loc"], values, missing=kind == "missing")
    match kind:
        case "missing":
            return path, "is missing"
        case "extra_forbidden":
            return path, "is not known" + _suggestion(path[-1])
        case "union_tag_not_found":
            return (*path, "type"), "is missing"
        case "union_tag_invalid":
            return (*path, "type"), f"must be one of {context['expected_tags']}"
        case "string_type" if isinstance(item["input"], int | float):
            return path, "must be text: put it in quotes"
        case "tuple_type":
            return path, "must be a list"
        case "dict_type" | "model_type" | "model_attributes_type":
            return path, "must be a mapping"
        case _:
            text = item["msg"].removeprefix("Value error, ")
            return path, re.sub(r"^[A-Z]\w+ should ", "must ", text)


def _path(location: Sequence[int | str], values: Any, *, missing: bool) -> tuple[str, ...]:
    """Leaves out of pydantic's location what is not in the file: the names of union members and validators."""
    path: list[str] = []
    for index, step in enumerate(location):
        if isinstance(values, Mapping) and (key := _key(values, step)) is not None:
            values = values[key]
        elif isinstance(values, list) and isinstance(step, int) and step < len(values):
            values = values[step]
        elif not (missing and index == len(location) - 1):
            continue
        path.append(str(step))
    return tuple(path)


def _key(values: Mapping[Any, Any], step: int | str) -> Any:
    return next((key for key in values if str(key) == str(step)), None)


def _suggestion(name: str) -> str:
    close = difflib.get_close_matches(name, _known_keys(Part), 1)
    return f"; did you mean {close[0]}?" if close else ""


@cache
def _known_keys(model: type[BaseModel]) -> frozenset[str]:
    return frozenset(model.model_fields).union(*map(_known_keys, model.__subclasses__()))
