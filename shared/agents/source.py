"""The agent file as plain values: YAML without its surprises.

Only true and false are boolean, only decimal numbers are numbers, a key stands once, and aliases cannot blow it up.
It knows nothing of agents.
"""

import re
from collections.abc import Iterator
from typing import Any

import yaml

from shared.errors import ConfigError

FILE_MAX_BYTES = 1024 * 1024
"""Longest file that is read."""

VALUES_MAX = 50_000
"""Values in a file, with every alias written out: what a few lines of aliases can otherwise become is without limit."""

DEPTH_MAX = 40
"""Mappings and lists within each other; argument schemas are the deepest there is."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with fewer implicit types, and with duplicate keys refused."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012, that is how PyYAML has it

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key_node, yaml.ScalarNode) and key_node.tag != "tag:yaml.org,2002:merge":
                if key_node.value in seen:
                    text = f"the key {key_node.value} is there twice"
                    raise yaml.constructor.ConstructorError(None, None, text, key_node.start_mark)
                seen.add(key_node.value)
        return super().construct_mapping(node, deep)


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"-?(0|[1-9][0-9]*)", "-0123456789"),  # no sign and no zeros in front: those are telephone numbers
    ("float", r"-?[0-9]+\.[0-9]+", "-0123456789"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


def values(content: bytes) -> dict[Any, Any]:
    """Returns the mapping that a YAML file is; raises ConfigError that says in which line it is not YAML."""
    if len(content) > FILE_MAX_BYTES:
        raise ConfigError([f"is longer than {FILE_MAX_BYTES} bytes"])
    try:
        loaded = yaml.load(content.decode("utf-8-sig"), _Loader)
        too_many = any(number > VALUES_MAX for number, _ in enumerate(_every(loaded, DEPTH_MAX), 1))
    except UnicodeDecodeError as error:
        raise ConfigError(["is not UTF-8"]) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError([_trouble(error)]) from error
    if too_many:
        raise ConfigError([f"has more than {VALUES_MAX} values, aliases written out"])
    if not isinstance(loaded, dict):
        raise ConfigError(["must be a mapping with the key agents"])
    return loaded


def _every(value: Any, depth: int) -> Iterator[Any]:
    if depth < 0:
        raise ValueError("nested too deeply")
    yield value
    if isinstance(value, dict):
        for inner in value.values():
            yield from _every(inner, depth - 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _every(inner, depth - 1)


def _trouble(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        problem = error.problem or error.context or ""
        of_alias = problem.startswith("found undefined alias") or error.context == "while scanning an alias"
        hint = " (quote texts that begin with *)" if of_alias else ""
        return f"line {mark.line + 1}, column {mark.column + 1}: {problem}{hint}"
    if isinstance(error, yaml.reader.ReaderError):
        return f"character {error.position}: {error.reason}"
    return "is nested too deeply" if isinstance(error, RecursionError) else str(error)
