"""Hides named arguments of a tool call for the call record.

It does not decide which: each tool's `mask` does.
"""

import json
from collections.abc import Collection
from typing import Any

MASK = "***"


def masked(arguments_json: str, names: Collection[str]) -> str:
    """Returns the arguments with every value under one of these names, at any depth, replaced by `***`.

    What is no JSON is hidden altogether: the model may have put the secret anywhere in it.
    """
    if not names or not arguments_json.strip():
        return arguments_json
    try:
        arguments = json.loads(arguments_json, strict=False)
        text = json.dumps(_masked(arguments, names), ensure_ascii=False)
    except (ValueError, RecursionError):
        return json.dumps(MASK)
    # A lone surrogate is JSON, but no text that could be stored.
    return text.encode(errors="replace").decode()


def _masked(value: Any, names: Collection[str]) -> Any:
    if isinstance(value, dict):
        return {key: MASK if key in names else _masked(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked(item, names) for item in value]
    return value
