"""Puts defaults under what an agent says itself.

Mappings are merged key by key, everything else is replaced whole. Where an agent chooses one of several alternatives,
the others are not inherited.
"""

from collections.abc import Mapping
from typing import Any

_ALTERNATIVES: dict[tuple[str, ...], tuple[tuple[frozenset[str], frozenset[str]], ...]] = {
    (): (
        (
            frozenset({"foundry_agent"}),
            frozenset({"model", "instructions", "tools", "temperature", "max_output_tokens", "reasoning_effort"}),
        ),
        (frozenset({"model"}), frozenset({"foundry_agent"})),
    ),
    ("fallback",): ((frozenset({"say"}), frozenset({"wav"})), (frozenset({"wav"}), frozenset({"say"}))),
}
"""Per mapping: keys which, when an agent has them, keep those others from being inherited."""

_WHOLE = {("dtmf", "menu"), ("transfers",)}
"""Mappings whose entries are inherited or replaced, never mixed."""


def merged(own: Mapping[Any, Any], base: Mapping[Any, Any], at: tuple[str, ...] = ()) -> dict[Any, Any]:
    """Returns `own` with what it does not say itself taken from `base`; `at` is where in an agent they are."""
    if "type" in own and "type" in base and own["type"] != base["type"]:
        return dict(own)
    result = dict(base)
    for ours, theirs in _ALTERNATIVES.get(at, ()):
        if any(own.get(key) is not None for key in ours):
            result = {key: value for key, value in result.items() if key not in theirs}
    for key, value in own.items():
        inherited = result.get(key)
        if isinstance(value, Mapping) and isinstance(inherited, Mapping) and at not in _WHOLE:
            result[key] = merged(value, inherited, (*at, str(key)))
        else:
            result[key] = value
    return result
