"""Texts that name what is known of the call: `Hello, you called {{ called.number }}.`

Jinja2 in its sandbox; it is imported only when a text has something to fill in. What comes from outside (numbers and
header values) is bounded and stripped of control characters here, and still may say anything: it is no instruction of
ours, and a model cannot tell (docs/agents.md).
"""

import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from shared.agents.facts import CallFacts

if TYPE_CHECKING:
    from jinja2 import Template

OUTPUT_MAX = 20_000
"""Characters of a filled-in text; the rest is cut off."""

VALUE_MAX = 200
"""Characters of a number or header value."""

_MARKS = ("{{", "{%", "{#")

_STRIPPED = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode categories of what is no visible sign: controls, formats, line and paragraph separators."""

_SAMPLE = CallFacts(
    caller="+493012345", called="100", headers={}, trunk="192.0.2.1", at=datetime(2026, 1, 1, tzinfo=UTC)
)


class TemplateError(ValueError):
    """A text that cannot be filled in. The message says nothing of what it was filled in with."""


def render(text: str, facts: CallFacts, timezone: str) -> str:
    """Returns the text with everything filled in, at most OUTPUT_MAX characters; raises TemplateError.

    `timezone` is the one `time` and `date` are in, for example Europe/Berlin.
    """
    if not _has_marks(text):
        return text
    try:
        return _filled(text, facts, timezone)
    except Exception as error:  # what a template does with a value nobody foresaw: any error of Python
        raise TemplateError(f"cannot be filled in: {type(error).__name__}") from error


def check(text: str) -> str | None:
    """Returns what is wrong with a text, by filling it in for a sample call; None when it is good."""
    if not _has_marks(text):
        return None
    try:
        _filled(text, _SAMPLE, "UTC")
    except Exception as error:  # as above; nothing of a caller is in here
        line = getattr(error, "lineno", None)
        return f"line {line}: {error}" if line else f"{type(error).__name__}: {error}"
    return None


def _has_marks(text: str) -> bool:
    return any(mark in text for mark in _MARKS)


def _filled(text: str, facts: CallFacts, timezone: str) -> str:
    time = facts.at.astimezone(ZoneInfo(timezone))
    pieces: list[str] = []
    length = 0
    values = {
        "caller": {"number": clean(facts.caller)},
        "called": {"number": clean(facts.called)},
        "headers": _Headers(facts.headers),
        "time": time,
        "date": time.date(),
    }
    for piece in _compiled(text).generate(values):
        pieces.append(piece)
        length += len(piece)
        if length > OUTPUT_MAX:
            break
    return "".join(pieces)[:OUTPUT_MAX]


def clean(value: str) -> str:
    """Returns what came from outside on one line, without control characters, at most VALUE_MAX characters."""
    return "".join(sign for sign in value if unicodedata.category(sign) not in _STRIPPED)[:VALUE_MAX]


class _Headers:
    """Header values by name, in any case; one that is missing is empty, and undefined to `| default`."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = headers

    def __getitem__(self, name: str) -> Any:
        value = self._headers.get(name.lower())
        if value is None:
            from jinja2 import Undefined

            return Undefined(name=name)
        return clean(value)

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._headers


@lru_cache(maxsize=256)
def _compiled(text: str) -> "Template":
    from jinja2 import StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    return SandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True).from_string(text)
