"""Sensitive digits: the model knows only a placeholder, the tool gets the digits.

It does not make placeholders; the session does. What it fills in is never what is recorded.

    arguments of the model --- filled ---> tool ---> its result --- concealed ---> model, call record
"""

import re
from collections.abc import Mapping
from typing import Any

_PLACEHOLDER = re.compile(r"<digits-\d+>")

SHORTEST_CONCEALED = 3
"""Characters. Anything shorter stands in half of all results by accident, and replacing it would only spoil them."""


def filled(value: Any, digits: Mapping[str, str]) -> Any:
    """Returns a copy of a JSON value in which every string has its placeholders replaced by the digits."""
    return _replaced(value, digits) if digits else value


def unknown_placeholder(value: Any, digits: Mapping[str, str]) -> str | None:
    """Returns a placeholder in a JSON value behind which there are no digits: the model has made it up."""
    if isinstance(value, str):
        return next((found for found in _PLACEHOLDER.findall(value) if found not in digits), None)
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return next((found for item in value if (found := unknown_placeholder(item, digits))), None)
    return None


def concealed(value: Any, names: Mapping[str, str]) -> Any:
    """Returns a copy of a JSON value in which what must not be seen is replaced by its name in `names`.

    `names` maps the hidden text to what stands for it. Keys are replaced too, and numbers that contain it become text.
    """
    hidden = {text: name for text, name in names.items() if len(text) >= SHORTEST_CONCEALED}
    # The longest first: one hidden text may be a part of another.
    return _replaced(value, dict(sorted(hidden.items(), key=lambda item: -len(item[0])))) if hidden else value


def _replaced(value: Any, replacements: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return _text_replaced(value, replacements)
    if isinstance(value, dict):
        return {_text_replaced(key, replacements): _replaced(item, replacements) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, replacements) for item in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        text = _text_replaced(str(value), replacements)
        return value if text == str(value) else text
    return value


def _text_replaced(text: str, replacements: Mapping[str, str]) -> str:
    for old, new in replacements.items():
        text = text.replace(old, new)
    return text
