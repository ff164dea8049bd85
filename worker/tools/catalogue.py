"""The tools of an agent: what the model is told of them, and whether what it calls can be run.

It runs nothing. What the tools of the call itself are (hanging up, transferring, digits) and what the model is told of
them is in `builtin.py`.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pydantic import SecretStr

from shared.agents.model import Agent, HttpTool, McpTool, PythonTool, Tool
from shared.errors import ConfigError
from worker.tools import builtin, request
from worker.tools.builtin import BuiltIn
from worker.tools.functions import PythonFunction
from worker.tools.placeholders import filled, unknown_placeholder
from worker.tools.schema import Schema

MAX_ARGUMENTS_BYTES = 32 * 1024
"""Largest arguments that are looked at."""

MAX_MESSAGE_CHARS = 1000
"""Longest `BadCall`: the model reads it again with every turn that follows."""

_NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class BadCall:
    """The model called a tool in a way that cannot be run; `message` tells it what to do better."""

    message: str


@dataclass(frozen=True, slots=True)
class _Function:
    description: str
    parameters: dict[str, Any]
    schema: Schema


class Catalogue:
    """The tools of one agent; raises ConfigError with everything that is wrong with them.

    `functions` are the Python functions there are (`functions.discover`).
    """

    def __init__(self, agent: Agent, functions: Mapping[str, PythonFunction]) -> None:
        self._tools: dict[str, Tool] = {tool.name: tool for tool in agent.tools}
        self._functions: dict[str, _Function] = {}
        problems: list[str] = []
        for tool in agent.tools:
            if isinstance(tool, McpTool):
                continue
            try:
                self._functions[tool.name] = _function(tool, agent, functions)
            except ConfigError as error:
                problems += [f"agents.{agent.name}.tools.{tool.name}.{problem}" for problem in error.problems]
        if problems:
            raise ConfigError(problems)

    def definitions(self) -> list[dict[str, Any]]:
        """Returns the session's `tools`. Those of MCP servers have their secrets in them: they are not for a log."""
        return [
            _mcp(tool)
            if isinstance(tool, McpTool)
            else {
                "type": "function",
                "name": name,
                "description": self._functions[name].description,
                "parameters": self._functions[name].parameters,
            }
            for name, tool in self._tools.items()
        ]

    def kind(self, name: str) -> Tool | None:
        """Returns the tool of that name, as the agent has it."""
        return self._tools.get(name)

    def check(self, name: str, arguments: str, digits: Mapping[str, str] = _NONE) -> dict[str, Any] | BadCall:
        """Returns the arguments of a call (JSON, as the model sent it), or what is wrong with the call.

        `digits` are the sensitive digits behind the placeholders the model may have used: the schema is about them, the
        arguments returned still have the placeholders.
        """
        function = self._functions.get(name)
        if function is None:
            known = ", ".join(self._functions) or "none"
            return _bad(f"There is no tool {name[:64]!r}. Known tools: {known}.")
        if len(arguments.encode(errors="replace")) > MAX_ARGUMENTS_BYTES:
            return _bad(f"The arguments are larger than {MAX_ARGUMENTS_BYTES} bytes.")
        try:
            given = _parsed(arguments)
            if not isinstance(given, dict):
                return _bad("The arguments must be a JSON object.")
            if unknown := unknown_placeholder(given, digits):
                return _bad(f"There are no digits {unknown}: the caller has not typed them.")
            complaints = function.schema.complaints(filled(given, digits))
        except (ValueError, RecursionError) as error:
            return _bad(f"The arguments are not valid JSON: {_why(error)}.")
        return _bad("; ".join(complaints)) if complaints else given


def _function(
    tool: BuiltIn | HttpTool | PythonTool, agent: Agent, functions: Mapping[str, PythonFunction]
) -> _Function:
    """Returns what the model is told of a tool; raises ConfigError with paths within the tool."""
    if isinstance(tool, HttpTool):
        # Arguments nobody has thought of would go out in the query or the body.
        description, parameters = tool.description, {"additionalProperties": False, **tool.parameters}
    elif isinstance(tool, PythonTool):
        if tool.name not in functions:
            raise ConfigError(
                [f"name: no such function is installed; there are: {', '.join(sorted(functions)) or 'none'}"]
            )
        description, parameters = functions[tool.name].description, functions[tool.name].parameters
    else:
        description, parameters = builtin.described(tool, agent)
    try:
        schema = Schema(parameters)
    except ValueError as error:
        raise ConfigError([f"parameters: {error}"]) from None
    if isinstance(tool, HttpTool) and (problems := request.problems(tool)):
        raise ConfigError(problems)
    return _Function(description, parameters, schema)


def _mcp(tool: McpTool) -> dict[str, Any]:
    # Only the worker sees the call's audio; nobody is there to approve a call of the service's.
    definition: dict[str, Any] = {
        "type": "mcp",
        "server_label": tool.label,
        "server_url": tool.url,
        "require_approval": "never",
    }
    if tool.authorization is not None:
        definition["authorization"] = tool.authorization.get_secret_value()
    if tool.headers:
        definition["headers"] = {
            name: value.get_secret_value() if isinstance(value, SecretStr) else value
            for name, value in tool.headers.items()
        }
    if tool.allowed_tools:
        definition["allowed_tools"] = list(tool.allowed_tools)
    return definition


def _parsed(arguments: str) -> Any:
    """Reads JSON as models write it: with odd space around it, line breaks in texts, or nothing at all for {}."""
    text = arguments.strip().strip("\ufeff\x00").strip()
    given = json.loads(text, strict=False, parse_float=_finite, parse_constant=_finite) if text else {}
    json.dumps(given, ensure_ascii=False).encode()  # a lone surrogate is JSON, but no text
    return given


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is no number")
    return number


def _why(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos}"
    if isinstance(error, UnicodeEncodeError):
        return "a \\u escape is half of a character"
    if isinstance(error, RecursionError):
        return "they are nested too deeply"
    return str(error)


def _bad(message: str) -> BadCall:
    return BadCall(message if len(message) <= MAX_MESSAGE_CHARS else message[:MAX_MESSAGE_CHARS] + "...")
