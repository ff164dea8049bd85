"""The one error a client's event can meet, and checks that raise it. Does not send the `error` event."""

from collections.abc import Collection, Mapping
from typing import Any


class Refused(Exception):
    """A client event that is answered with an `error` event; the connection stays up.

    `param` names the offending field with dots (`session.turn_detection.type`), None when no field is to blame.
    """

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param


def text(fields: Mapping[str, Any], name: str, param: str | None = None) -> str:
    """The required string `name`."""
    value = _required(fields, name, param)
    if not isinstance(value, str):
        raise invalid_type(param or name, "a string", value)
    return value


def whole(fields: Mapping[str, Any], name: str, param: str | None = None) -> int:
    """The required integer `name`, zero or more."""
    value = _required(fields, name, param)
    if not isinstance(value, int) or isinstance(value, bool):
        raise invalid_type(param or name, "an integer", value)
    if value < 0:
        message = f"Invalid '{param or name}': integer below minimum value. Expected a value >= 0, but got {value}."
        raise Refused("integer_below_min_value", message, param or name)
    return value


def table(fields: Mapping[str, Any], name: str, param: str | None = None) -> Mapping[str, Any]:
    """The required object `name`."""
    value = _required(fields, name, param)
    if not isinstance(value, dict):
        raise invalid_type(param or name, "an object", value)
    return value


def one_of(value: object, choices: Collection[str], param: str) -> str:
    """`value`, which must be one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise invalid_value(param, value, "one of " + ", ".join(f"'{choice}'" for choice in choices))
    return value


def invalid_value(param: str, value: object, expected: str) -> Refused:
    shown = value if isinstance(value, str | int | float | bool | None) else type(value).__name__
    return Refused("invalid_value", f"Invalid value for '{param}': {shown!r}. Expected {expected}.", param)


def invalid_type(param: str, expected: str, value: object) -> Refused:
    message = f"Invalid type for '{param}': expected {expected}, but got {type(value).__name__} instead."
    return Refused("invalid_type", message, param)


def _required(fields: Mapping[str, Any], name: str, param: str | None) -> object:
    if fields.get(name) is None:
        raise Refused("missing_required_parameter", f"Missing required parameter: '{param or name}'.", param or name)
    return fields[name]
