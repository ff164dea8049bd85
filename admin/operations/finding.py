"""Finding one thing by its id or how that begins, and the errors when it is nothing's or not one's alone.

VoicePoolError (`shared/errors.py`)
+-- NotFound    nothing has this id, or one that begins so
+-- Ambiguous   several ids begin so
"""

from collections.abc import Mapping
from typing import TypeVar

from shared.errors import VoicePoolError

T = TypeVar("T")

_NAMED = 10
"""Ids that a message names."""


class NotFound(VoicePoolError):
    """Nothing has this id, or one that begins so."""


class Ambiguous(VoicePoolError):
    """Several ids begin so; the message names the first of them."""


def only(what: str, prefix: str, known: Mapping[str, T]) -> T:
    """Returns what has this id, or the one thing whose id begins so; raises NotFound and Ambiguous."""
    if prefix in known:
        return known[prefix]
    if not prefix:
        raise NotFound(f"there is no {what} without an id")
    ids = [each for each in known if each.startswith(prefix)]
    if not ids:
        raise NotFound(f"there is no {what} {prefix}")
    if len(ids) > 1:
        more = ", ..." if len(ids) > _NAMED else ""
        raise Ambiguous(f"{len(ids)} begin with {prefix}: {', '.join(ids[:_NAMED])}{more}")
    return known[ids[0]]
