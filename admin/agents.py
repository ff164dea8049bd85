"""The agent file as an operator meets it: checked, shown as what it comes to, and described as schema and tables.

It adds no rule and no default; everything comes from `shared/agents/`, and what tools need from the worker's own check,
run as a process.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from admin.agents_sample import SAMPLE
from admin.marked import with_part
from admin.settings import environment_and_file
from shared.agents import file
from shared.agents.facts import CallFacts
from shared.agents.file import Agents
from shared.agents.model import Agent, AgentFile, Resource
from shared.agents.secrets import process_secrets
from shared.errors import ConfigError
from shared.settings import WorkerSettings
from shared.settings import load as load_settings

BEGIN, END = "<!-- agents: written by voicepool agents table -->", "<!-- end of agents -->"
"""Between these lines of a document stands the reference; `voicepool agents table --into FILE` writes it there."""

_STAND_INS = {"LEASE_SECRET": "0123456789abcdef", "AZURE_VOICELIVE_ENDPOINT": "https://example.invalid"}
"""Settings that have to be there for a worker, and not for a look at its agents."""

_OF_SETTINGS = "(settings)"
"""How the resource is shown that has no name in the file."""

_CHECK_S = 30.0
"""Longest wait for the worker's check: it imports the packages that Python tools come from."""


def load(path: Path | None) -> Agents:
    """Returns the agents of this file, or of AGENTS_FILE, or of the settings alone; raises ConfigError."""
    settings = load_settings(WorkerSettings, **_missing())
    below = file.base(settings)
    if path is None:
        path = Path(settings.agents_file) if settings.agents_file else None
    return file.from_settings(below) if path is None else file.load(path, below, process_secrets(settings.secrets_dir))


def check(path: Path) -> list[str]:
    """Returns everything that is wrong with a file; with its tools, once nothing else is."""
    try:
        load(path)
    except ConfigError as error:
        return error.problems
    return _refused_by_workers(path)


def sample() -> str:
    """Returns an agent file with explanations."""
    return SAMPLE


def shown(agents: Agents, name: str | None) -> str:
    """Returns one agent, or all there is, as YAML with everything filled in and secrets masked; raises KeyError."""
    if name is not None:
        return _yaml({"agents": {name: _plain(agents.agents[name])}})
    return _yaml(
        {
            "resources": {key or _OF_SETTINGS: _plain(value) for key, value in agents.resources.items()},
            "currency": agents.currency,
            "prices": {key: _plain(value) for key, value in agents.prices.items()},
            "agents": {key: _plain(value) for key, value in agents.agents.items()},
            "routes": [_plain(route) for route in agents.routing.routes],
            "default": agents.routing.default,
        }
    )


def explained(agents: Agents, facts: CallFacts) -> list[str]:
    """Returns why who answers: one line per route that was looked at, the answer, and what it asks of the pool."""
    routing = agents.routing
    chosen = routing.route(facts)
    looked_at = routing.routes if chosen is None else routing.routes[: chosen + 1]
    lines = []
    for index, route in enumerate(looked_at):
        missed = route.misses(facts)
        lines.append(f"routes.{index} ({route.agent}): " + (f"does not fit: {', '.join(missed)}" if missed else "fits"))
    name, agent = agents.choose(facts)
    lines.append(f"{name} answers" + (", the default: no route fits" if chosen is None else ""))
    return [*lines, *_asked(agent, agents.resources)]


def _asked(agent: Agent, resources: Mapping[str, Resource]) -> Iterator[str]:
    labels = ", ".join(f"{name}={value}" for name, value in agent.labels.items())
    yield f"priority {agent.priority}; " + (f"workers with {labels}" if labels else "any worker")
    for name in agent.resource:
        quota = resources[name].quota
        limits = [f"{limit} {key.replace('_', ' ')}" for key, limit in quota if limit is not None]
        yield f"resource {name or _OF_SETTINGS}: " + (", ".join(limits) or "no limits")


def schema() -> dict[str, Any]:
    """Returns the JSON Schema of the agent file."""
    whole, agent = AgentFile.model_json_schema(), Agent.model_json_schema()
    definitions = {**whole.pop("$defs"), **agent.pop("$defs")}
    del agent["properties"]["name"], agent["required"]
    for key, field in agent["properties"].items():  # pydantic drops it beside a lone $ref
        field.setdefault("description", Agent.model_fields[key].description)
    definitions["Agent"] = agent
    properties = whole["properties"]
    properties["defaults"] = {"$ref": "#/$defs/Agent", "description": properties["defaults"]["description"]}
    [names] = properties["agents"]["patternProperties"]
    properties["agents"]["patternProperties"][names] = {"anyOf": [{"$ref": "#/$defs/Agent"}, {"type": "null"}]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **whole,
        "title": "Agent file of voicepool",
        "$defs": dict(sorted(definitions.items())),
    }


def schema_text() -> str:
    """Returns the JSON Schema as it stands in docs/agents.schema.json."""
    return json.dumps(schema(), indent=2) + "\n"


def reference() -> str:
    """Returns every key of the agent file as Markdown tables, one per mapping."""
    whole = schema()
    definitions = whole["$defs"]
    parts = list(_section("The file", whole))
    for name in _in_reading_order(whole, definitions):
        parts += _section(name, definitions[name])
    return "\n".join(parts)


def with_reference(document: str) -> str:
    """Returns the document with the reference as it is now between its marker lines; raises ValueError without them."""
    return with_part(document, BEGIN, END, reference())


def _missing() -> dict[str, str]:
    environment = environment_and_file()
    return {name: value for name, value in _STAND_INS.items() if not environment.get(name)}


def _refused_by_workers(path: Path) -> list[str]:
    """Asks the worker's own check (`worker/check.py`), which knows what the tools need."""
    command = [sys.executable, "-m", "worker.check", str(path)]
    environment = {**os.environ, **_missing()}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_CHECK_S, check=True)
        return [str(problem) for problem in json.loads(done.stdout.splitlines()[-1])]
    except subprocess.TimeoutExpired:
        return [f"the tools could not be checked: it took more than {_CHECK_S:g} s"]
    except subprocess.CalledProcessError as error:
        why = (error.stderr.splitlines() or [f"exit code {error.returncode}"])[-1]
        return [f"the tools could not be checked: {why}"]
    except (IndexError, ValueError):
        return ["the tools could not be checked: the check ended without an answer"]


def _plain(part: BaseModel) -> dict[str, Any]:
    values = part.model_dump(mode="json", exclude_none=True)
    return {key: value for key, value in values.items() if not (key == "name" and isinstance(part, Agent))}


def _yaml(values: dict[str, Any]) -> str:
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as such."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def _in_reading_order(schema: dict[str, Any], definitions: dict[str, Any]) -> Iterator[str]:
    """Yields the definitions as somebody meets them who reads from the top and follows what is referred to."""
    seen: dict[str, None] = {}
    waiting = [schema]
    while waiting:
        names = [name for name in _references(waiting.pop(0)) if name not in seen]
        seen |= dict.fromkeys(names)
        waiting += [definitions[name] for name in dict.fromkeys(names)]
    return (name for name in seen if "properties" in definitions[name])


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"].rpartition("/")[2]
        for key, inner in value.items():
            if key not in ("$defs", "discriminator"):
                yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def _section(title: str, part: dict[str, Any]) -> Iterator[str]:
    yield f"### {title}"
    yield ""
    yield " ".join(part["description"].split())
    yield ""
    yield "| key | what it can be | default | what it is |"
    yield "|---|---|---|---|"
    required = part.get("required", ())
    for key, field in part["properties"].items():
        default = "*required*" if key in required else _default(field.get("default"))
        yield f"| `{key}` | {_kind(field)} | {default} | {' '.join(field['description'].split())} |"
    yield ""


def _default(value: Any) -> str:
    return "" if value in (None, "", [], {}) else f"`{json.dumps(value, ensure_ascii=False)}`"


def _kind(field: dict[str, Any]) -> str:
    """Returns in a few words what a field can be."""
    match field:
        case {"$ref": reference}:
            name = reference.rpartition("/")[2]
            return (
                "`soft`"
                if name == "Sound"
                else "`g711`, `pcm16`"
                if name == "AudioFormat"
                else f"[{name}](#{name.lower()})"
            )
        case {"const": value}:
            return f"`{value}`"
        case {"enum": choices}:
            return ", ".join(f"`{choice}`" for choice in choices)
        case {"anyOf": kinds} | {"oneOf": kinds}:
            return " or ".join(dict.fromkeys(_kind(kind) for kind in kinds if kind.get("type") != "null"))
        case {"type": "array", "items": items}:
            return f"list of {_kind(items)}"
        case {"type": "object", "properties": {"secret": _}}:
            return "`{secret: NAME}`"
        case {"type": "object", "additionalProperties": dict() as values}:
            return f"mapping to {_kind(values)}"
        case {"type": "object", "patternProperties": patterns}:
            return f"mapping to {_kind(next(iter(patterns.values())))}"
        case {"type": "object"}:
            return "mapping"
        case _:
            return _WORDS.get(str(field["type"]), str(field["type"])) + _bounds(field)


_WORDS = {"string": "text", "boolean": "true, false", "integer": "whole number"}


def _bounds(field: dict[str, Any]) -> str:
    low, above = field.get("minimum"), field.get("exclusiveMinimum")
    start = f"{low:g} or more" if low is not None else f"more than {above:g}" if above is not None else ""
    end = f"{field['maximum']:g} at most" if "maximum" in field else ""
    both = f"{low:g} to {field['maximum']:g}" if low is not None and end else ", ".join(filter(None, (start, end)))
    return f", {both}" if both else ""
