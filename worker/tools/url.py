"""A tool's URL with `{argument}` in its path or query, and the URL that a call's arguments make of it.

It sends nothing. Scheme, host and port are the operator's and literal: no argument can change them, nor leave its path
segment or its value in the query.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from yarl import URL

from worker.tools.context import ToolError

_ARGUMENT = re.compile(r"\{([A-Za-z_][A-Za-z0-9_-]*)\}")
_LITERAL = "!$&'()*+,;=:@/?-._~%"
"""What stays as it is in the operator's own part of path and query."""


@dataclass(frozen=True, slots=True)
class UrlTemplate:
    """A checked template."""

    origin: URL
    """Scheme, host and port."""
    path: str
    query: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads a template; raises ValueError that says what is wrong with it."""
        if re.search(r"[\s\\\x00-\x1f\x7f]", text):
            raise ValueError("must not contain spaces, backslashes or control characters")
        parts = urlsplit(text)
        if parts.scheme not in ("http", "https"):
            raise ValueError("must begin with https:// or http://")
        if "{" in parts.netloc or "}" in parts.netloc:
            raise ValueError("the host must be literal: an argument may stand in the path or the query only")
        if "@" in parts.netloc:
            raise ValueError("must not contain a user name or password: use a header with a secret")
        if parts.fragment or text.endswith("#"):
            raise ValueError("must not contain a fragment (#)")
        if not parts.hostname:
            raise ValueError("has no host")
        for part in (parts.path, parts.query):
            if re.search(r"[{}]", _ARGUMENT.sub("", part)):
                raise ValueError("has a brace that belongs to no {argument}")
        if any(segment in (".", "..") for segment in unquote(parts.path).split("/")):
            raise ValueError("must not contain the path segments . and ..")
        for name, _ in parse_qsl(parts.query, keep_blank_values=True):
            if _ARGUMENT.search(name):
                raise ValueError("an argument may stand for a value in the query, not for a name")
        return cls(URL(f"{parts.scheme}://{parts.netloc}").origin(), parts.path or "/", parts.query)

    @property
    def arguments(self) -> frozenset[str]:
        """The arguments that stand in it."""
        return frozenset(_ARGUMENT.findall(self.path) + _ARGUMENT.findall(self.query))

    @property
    def query_names(self) -> frozenset[str]:
        """The names its query sets, which no further argument may set again."""
        return frozenset(name for name, _ in parse_qsl(self.query, keep_blank_values=True))

    def url(self, arguments: Mapping[str, Any], further: str = "") -> URL:
        """Returns the URL with the arguments in their places and `further`, encoded already, at the end of its query.

        Raises ToolError for a value that cannot stand where it would have to.
        """
        path = "/".join(_segment(segment, arguments) for segment in self.path.split("/"))
        query = "&".join(part for part in (_expanded(self.query, arguments), further) if part)
        url = URL(f"{self.origin}{path}{'?' if query else ''}{query}", encoded=True)
        assert url.origin() == self.origin
        return url


def encoded(value: str) -> str:
    """Returns the value percent-encoded: nothing of it has a meaning in a URL any more."""
    return quote(value, safe="")


def scalar(name: str, value: Any) -> str:
    """Returns a string, number or boolean as it is written in a URL or a form; raises ToolError for anything else."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise ToolError(f"{name} must be a string, a number or a boolean")


def _segment(template: str, arguments: Mapping[str, Any]) -> str:
    segment = _expanded(template, arguments)
    if segment == _literal(template):
        return segment
    # Servers differ in when they decode %2F and %5C; none of them may find a way up, or the whole collection.
    decoded = unquote(segment)
    if not decoded or any(piece in (".", "..") for piece in re.split(r"[/\\]", decoded)):
        names = ", ".join(_ARGUMENT.findall(template))
        raise ToolError(f"{names} must not be empty, nor be or contain a path like . or ..")
    return segment


def _expanded(template: str, arguments: Mapping[str, Any]) -> str:
    # With one group, split() returns literal text and argument names in turn.
    parts = _ARGUMENT.split(template)
    return "".join(
        encoded(scalar(part, arguments.get(part))) if index % 2 else _literal(part) for index, part in enumerate(parts)
    )


def _literal(text: str) -> str:
    return quote(text, safe=_LITERAL)
