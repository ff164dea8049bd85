"""Tools that are HTTP requests: what is wrong with one, and what is sent for a call's arguments.

It sends nothing (`http.py` does). Where a request goes is the operator's word, in the tool's URL.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from multidict import CIMultiDict
from pydantic import SecretStr
from yarl import URL

from shared.agents.model import HttpTool
from worker.tools.context import ToolError
from worker.tools.url import UrlTemplate, scalar

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NO_BODY = frozenset({"GET", "DELETE", "HEAD"})


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What is sent."""

    method: str
    url: URL
    headers: Mapping[str, str]
    body: bytes | None = None


def problems(tool: HttpTool) -> list[str]:
    """Returns what is wrong with the tool's URL and headers, beyond what its model can say."""
    found = []
    try:
        template = UrlTemplate.parse(tool.url)
    except ValueError as error:
        found.append(f"url: {error}")
    else:
        properties = tool.parameters.get("properties", {})
        required = tool.parameters.get("required", [])
        found += [
            f"url: {{{name}}} must be a required property of parameters"
            for name in sorted(template.arguments)
            if name not in properties or name not in required
        ]
        found += [
            f"parameters: {name} would be set twice, by the url's query and by the argument"
            for name in sorted(template.query_names & properties.keys() - template.arguments)
            if _in_query(tool)
        ]
    for name, value in tool.headers.items():
        if not _HEADER_NAME.fullmatch(name):
            found.append(f"headers.{name!r}: is no name of a header")
        if re.search(r"[^\t\x20-\x7e]", _plain(value)):
            found.append(f"headers.{name}: has a character that cannot stand in a header")
    return found


def build(tool: HttpTool, arguments: Mapping[str, Any]) -> HttpRequest:
    """Returns the request for these arguments: in the URL where it names them, all others in the query or the body.

    Raises ToolError for what cannot be sent.
    """
    template = UrlTemplate.parse(tool.url)
    rest = {name: value for name, value in arguments.items() if name not in template.arguments}
    headers = CIMultiDict({name: _plain(value) for name, value in tool.headers.items()})
    headers.setdefault("Accept", "application/json, text/*;q=0.5")
    # A compressed answer would be bounded only after it has been unpacked.
    headers["Accept-Encoding"] = "identity"
    try:
        if _in_query(tool):
            if twice := template.query_names & rest.keys():
                raise ToolError(f"{', '.join(sorted(twice))} cannot be set")
            return HttpRequest(tool.method, template.url(arguments, urlencode(_pairs(rest))), headers)
        body, content_type = (
            (json.dumps(rest, ensure_ascii=False).encode(), "application/json")
            if tool.body == "json"
            else (urlencode(_pairs(rest)).encode(), "application/x-www-form-urlencoded")
        )
        headers.setdefault("Content-Type", content_type)
        return HttpRequest(tool.method, template.url(arguments), headers, body)
    except UnicodeEncodeError:
        raise ToolError("the arguments contain a character that cannot be sent") from None


def _in_query(tool: HttpTool) -> bool:
    return tool.method in _NO_BODY or tool.body == "none"


def _pairs(arguments: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Returns the arguments as in a query or a form: a list repeats its name, an object is JSON, null is left out."""
    return [
        (name, json.dumps(item, ensure_ascii=False) if isinstance(item, dict | list) else scalar(name, item))
        for name, value in arguments.items()
        for item in (value if isinstance(value, list) else [value])
        if item is not None
    ]


def _plain(value: str | SecretStr) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else value
