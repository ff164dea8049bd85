"""Checks arguments against a tool's JSON Schema, and says what is wrong with them in words a model can act on.

It fetches nothing: a schema refers to nothing outside itself. Formats (`"format": "date"`) are a hint to the model and
not checked. What it says never repeats a value that was given.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonschema import ValidationError

MAX_COMPLAINTS = 5
"""Things said to be wrong at once; a model corrects the first ones and calls again."""

MAX_EXPECTATION_CHARS = 300
"""Characters of a schema's own words (a list of allowed values, a pattern) in one complaint."""


class Schema:
    """The JSON Schema (draft 2020-12) of a tool's arguments, an object; raises ValueError that says why it is none."""

    def __init__(self, schema: dict[str, Any]) -> None:
        # Imported here: only an agent with tools needs it.
        from jsonschema import Draft202012Validator, SchemaError
        from jsonschema.validators import extend
        from referencing import Registry, Resource
        from referencing.exceptions import Unresolvable
        from referencing.jsonschema import DRAFT202012

        try:
            Draft202012Validator.check_schema(schema)
        except SchemaError as error:
            where = ".".join(str(part) for part in error.absolute_path)
            raise ValueError(_shortened(f"{where}: {error.message}" if where else error.message)) from None
        if schema.get("type") != "object":
            raise ValueError('must have "type": "object"')
        resource: Resource[Any] = Resource.from_contents(schema, default_specification=DRAFT202012)
        registry: Registry[Any] = Registry().with_resource("", resource)
        for reference in _references(schema):
            try:
                if not reference.startswith("#"):
                    raise ValueError(f"refers to something outside itself: {_shortened(reference)}")
                registry.resolver("").lookup(reference)
            except Unresolvable:
                raise ValueError(f"has nothing at {_shortened(reference)}") from None
        # Without a registry of its own the validator would fetch what it does not know.
        validator: type[Any] = extend(Draft202012Validator, {"pattern": _pattern})  # type: ignore[no-untyped-call]
        self._validator = validator(schema, registry=Registry())
        try:
            self.complaints({})
        except RecursionError:
            raise ValueError("refers to itself without end") from None

    def complaints(self, arguments: Any) -> list[str]:
        """Returns what is wrong with these arguments, nothing if they are right; the most important first."""
        errors = sorted(self._validator.iter_errors(arguments), key=lambda error: len(error.absolute_path))
        return [_complaint(error) for error in errors[:MAX_COMPLAINTS]]


def _pattern(_validator: Any, pattern: str, value: Any, _schema: Any) -> Iterator["ValidationError"]:
    """Checks `pattern`, whose $ is the end of the text (ECMA-262), not also the place before a last line break."""
    from jsonschema import ValidationError

    if isinstance(value, str):
        # Escapes and character classes are passed over.
        exact = re.sub(r"(\\.|\[(?:\\.|[^\]\\])*\])|\$", lambda match: match[1] or r"\Z", pattern)
        if not re.search(exact, value):
            yield ValidationError("does not match")


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        for key, value in schema.items():
            if key in ("$ref", "$dynamicRef") and isinstance(value, str):
                yield value
            else:
                yield from _references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value)


def _complaint(error: "ValidationError") -> str:
    where = ".".join(str(part) for part in error.absolute_path) or "the arguments"
    expectation = _EXPECTATIONS.get(str(error.validator), _other)
    return f"{_shortened(where)}: {_shortened(expectation(error))}"


def _missing(error: "ValidationError") -> str:
    # One error per missing name, of which only its message says the name.
    return f"{error.message.partition(' is a required')[0]} is missing"


def _unknown(error: "ValidationError") -> str:
    known = error.schema.get("properties", {}) if isinstance(error.schema, dict) else {}
    return f"{error.message}; known: {_listed(known)}"


def _type(error: "ValidationError") -> str:
    types = error.validator_value
    return "must be of type " + (" or ".join(types) if isinstance(types, list) else str(types))


def _other(error: "ValidationError") -> str:
    return f"does not meet {error.validator}: {json.dumps(error.validator_value, default=str)}"


def _saying(words: str) -> Callable[["ValidationError"], str]:
    return lambda error: f"{words} {error.validator_value}"


_EXPECTATIONS: dict[str, Callable[["ValidationError"], str]] = {
    "required": _missing,
    "additionalProperties": _unknown,
    "type": _type,
    "enum": lambda error: f"must be one of: {_listed(error.validator_value)}",
    "const": lambda error: f"must be {json.dumps(error.validator_value)}",
    "pattern": _saying("must match the regular expression"),
    "minimum": _saying("must be at least"),
    "maximum": _saying("must be at most"),
    "exclusiveMinimum": _saying("must be more than"),
    "exclusiveMaximum": _saying("must be less than"),
    "multipleOf": _saying("must be a multiple of"),
    "minLength": _saying("fewest characters:"),
    "maxLength": _saying("most characters:"),
    "minItems": _saying("fewest items:"),
    "maxItems": _saying("most items:"),
}


def _listed(values: Any) -> str:
    return ", ".join(value if isinstance(value, str) else json.dumps(value) for value in values) or "none"


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_EXPECTATION_CHARS else text[:MAX_EXPECTATION_CHARS] + "..."
