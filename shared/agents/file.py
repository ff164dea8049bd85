"""Reads the agent file: all agents with their defaults, routes and resources, or every problem in it at once.

It watches nothing (`worker/agents.py`), and asks nobody whether a model or a voice exists.
"""

import fnmatch
import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from shared.agents.conduct import DIRECTORY
from shared.agents.facts import CallFacts
from shared.agents.merging import merged
from shared.agents.model import Agent, AgentFile, Price, Resource, Route
from shared.agents.parts import SECRETS
from shared.agents.problems import Found, found
from shared.agents.secrets import Secrets
from shared.agents.source import values
from shared.errors import ConfigError
from shared.settings import WorkerSettings


@dataclass(frozen=True)
class Base:
    """What lies below the file: the settings VOICE_LIVE_* and AZURE_VOICELIVE_*."""

    agent: Mapping[str, Any]
    """Part of an agent, as it would stand in the file."""
    resource: Resource


@dataclass(frozen=True)
class Agents:
    """Everybody who may answer, and who answers which call."""

    agents: Mapping[str, Agent]
    resources: Mapping[str, Resource]
    """By name; that of the settings is named "" ."""
    default: str
    """Who answers what no route fits."""
    routes: tuple[Route, ...] = ()
    prices: Mapping[str, Price] = field(default_factory=dict)
    """By model; "*" is any other."""
    currency: str = "USD"

    def choose(self, facts: CallFacts) -> tuple[str, Agent]:
        """Returns the name and the agent that answers this call: of the first route that fits, or the default."""
        index = self.route(facts)
        name = self.default if index is None else self.routes[index].agent
        return name, self.agents[name]

    def route(self, facts: CallFacts) -> int | None:
        """Returns the index of the first route that fits, as one that asks for nothing always does; None without."""
        return next((index for index, route in enumerate(self.routes) if not misses(route, facts)), None)


def misses(route: Route, facts: CallFacts) -> list[str]:
    """Returns what of a route is not true of the call, by its keys; none when the route fits."""
    header = [
        f"header.{name}"
        for name, glob in route.header.items()
        if not fnmatch.fnmatchcase(facts.headers.get(name.lower(), ""), glob) or name.lower() not in facts.headers
    ]
    conditions = {
        "called": _one_fits(route.called, facts.called),
        "caller": _one_fits(route.caller, facts.caller),
        "trunk": _within(route.trunk, facts.trunk),
    }
    return [key for key, true in conditions.items() if not true] + header


def base(settings: WorkerSettings) -> Base:
    """Returns what the settings say of agents."""
    agent: dict[str, Any] = {
        "model": settings.voice_live_model,
        "voice": settings.voice_live_voice,
        "instructions": settings.voice_live_instructions,
        "audio_format": settings.voice_live_audio_format.value,
        "uplink_ms": settings.voice_live_uplink_ms,
        "turn_detection": {"auto_truncate": settings.voice_live_auto_truncate},
        "max_output_tokens": settings.voice_live_max_response_output_tokens,
    }
    if settings.voice_live_proactive_greeting_enabled and settings.voice_live_proactive_greeting:
        agent["greeting"] = {"text": settings.voice_live_proactive_greeting}
    return Base(agent, Resource(endpoint=settings.voicelive_endpoint, api_key=settings.voicelive_api_key))


def single(agent: Agent, resource: Resource) -> Agents:
    """Returns the agents of a pool in which one answers everything."""
    return Agents({agent.name: agent}, {"": resource}, agent.name)


def from_settings(below: Base) -> Agents:
    """Returns the agents of a pool without a file; raises ConfigError when the settings make no agent."""
    agent, problems = _agent("default", below.agent)
    if agent is None:
        raise ConfigError([f"VOICE_LIVE_*: {_line(problem)}" for problem in problems])
    return single(agent, below.resource)


def load(path: Path, below: Base, secrets: Secrets) -> Agents:
    """Returns the agents in a file; raises ConfigError with every problem, one line each.

    `below` is put under the file's own defaults. Relative paths in the file begin at its directory.
    """
    return parse(read(path), path, below, secrets)


def read(path: Path) -> bytes:
    """Returns what is in the file; raises ConfigError when it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError([f"{path.name}: cannot be read ({type(error).__name__})"]) from error


def parse(content: bytes, path: Path, below: Base, secrets: Secrets) -> Agents:
    """Returns the agents in the content of the file at `path`; otherwise as `load`."""
    try:
        return _Reading(values(content), path.parent.absolute(), below, secrets).agents()
    except ConfigError as error:
        raise ConfigError([f"{path.name}: {problem}" for problem in error.problems]) from error


class _Reading:
    """One file while it is being read."""

    def __init__(self, raw: dict[Any, Any], directory: Path, below: Base, secrets: Secrets) -> None:
        self._raw = raw
        self._context = {SECRETS: secrets, DIRECTORY: directory}
        self._below = below
        agents = raw.get("agents")
        if isinstance(agents, dict):  # an agent that says nothing is one that is as the defaults say
            raw["agents"] = {name: {} if own is None else own for name, own in agents.items()}

    def agents(self) -> Agents:
        problems: list[str] = []
        file: AgentFile | None = None
        try:
            file = AgentFile.model_validate(self._raw, context=self._context)
        except ValidationError as error:
            problems += map(_line, found(error, self._raw))
        agents: dict[str, Agent] = {}
        for name, own in self._mapping("agents").items():
            agent, trouble = self._agent(str(name), own)
            problems += map(_line, trouble)
            if agent is not None:
                agents[agent.name] = agent
        problems += self._unknown_names()
        resources = {**(file.resources if file else {}), "": self._below.resource}
        problems += _without_entra(agents, resources)
        if problems or file is None:
            raise ConfigError(list(dict.fromkeys(problems)))
        default = file.default or next(iter(agents))
        return Agents(agents, resources, default, file.routes, file.prices, file.currency)

    def _agent(self, name: str, own: Any) -> tuple[Agent | None, list[Found]]:
        if not isinstance(own, dict):
            return None, []  # the file as a whole has said so
        here = ("agents", name)
        if "name" in own:
            return None, [Found((*here, "name"), "is not written: the key above is the name")]
        shared = {"transfers": self._mapping("transfers")}
        layers = merged(self._mapping("defaults"), merged(shared, self._below.agent))
        raw = merged(own, layers)
        agent, trouble = _agent(name, raw, self._context)
        resources = self._mapping("resources")
        if isinstance(raw.get("resource", ""), str) and raw.get("resource", "") not in {"", *resources}:
            trouble.append(Found(("resource",), f"{raw['resource']} is not one of resources ({_list(resources)})"))
        return agent, [self._in_file(problem, here, own) for problem in trouble]

    def _unknown_names(self) -> Iterator[str]:
        """Yields what names an agent that there is not; by what is written, so that other mistakes hide none of it."""
        agents, routes, default = self._mapping("agents"), self._raw.get("routes"), self._raw.get("default")
        for index, route in enumerate(routes if isinstance(routes, list) else ()):
            name = route.get("agent") if isinstance(route, dict) else None
            if isinstance(name, str) and name not in agents:
                yield f"routes.{index}.agent: {name} is not one of agents ({_list(agents)})"
        if isinstance(default, str) and default not in agents:
            yield f"default: {default} is not one of agents ({_list(agents)})"
        if default is None and len(agents) > 1:
            yield "default: is missing: who answers calls that no route fits?"

    def _in_file(self, problem: Found, here: tuple[str, ...], own: dict[Any, Any]) -> Found:
        """Says where in the file it is: in the agent, in what it inherits, or, of what does not go together, here."""
        if not problem.involves and not _has(own, problem.path):
            for inherited, where in ((self._mapping("defaults"), ("defaults",)), (self._raw, ())):
                if _has(inherited, problem.path):
                    return problem._replace(path=(*where, *problem.path))
        return problem._replace(path=(*here, *problem.path))

    def _mapping(self, key: str) -> dict[Any, Any]:
        value = self._raw.get(key)
        return value if isinstance(value, dict) else {}


def _agent(
    name: str, raw: Mapping[Any, Any], context: dict[str, Any] | None = None
) -> tuple[Agent | None, list[Found]]:
    """Returns the agent, or everything that is wrong with it, what does not go together included."""
    try:
        return Agent.model_validate({**raw, "name": name}, context=context), []
    except ValidationError as error:
        problems = [problem for problem in found(error, raw) if problem.path]
    bad = {problem.path[0] for problem in problems}
    if any(problem.involves for problem in problems):
        return None, problems
    # Pydantic looks at what goes together only when each field by itself is good: look past those that are not.
    try:
        Agent.model_validate({**{k: v for k, v in raw.items() if k not in bad}, "name": name}, context=context)
    except ValidationError as error:
        problems += [hidden for hidden in found(error, raw) if hidden.involves and not bad & {*hidden.involves}]
    return None, problems


def _without_entra(agents: Mapping[str, Agent], resources: Mapping[str, Resource]) -> Iterator[str]:
    for name, agent in agents.items():
        resource = resources.get(agent.resource)
        if agent.foundry_agent is not None and resource is not None and resource.api_key is not None:
            yield f"agents.{name}.foundry_agent: needs Microsoft Entra, and its resource has an API key"


def _list(names: Mapping[Any, Any]) -> str:
    return ", ".join(map(str, names)) or "there are none"


def _one_fits(globs: tuple[str, ...], value: str) -> bool:
    return not globs or any(fnmatch.fnmatchcase(value, glob) for glob in globs)


def _within(networks: tuple[str, ...], address: str) -> bool:
    if not networks:
        return True
    try:
        return any(ipaddress.ip_address(address) in ipaddress.ip_network(network) for network in networks)
    except ValueError:  # an address that is unknown is in no network
        return False


def _has(mapping: Any, path: tuple[str, ...]) -> bool:
    """Whether the mapping has something at the path, or could have it: its parent is there and not just text."""
    for index, step in enumerate(path):
        inner = mapping[int(step)] if isinstance(mapping, list) else _get(mapping, step)
        if inner is _NOTHING:
            return index > 0 and index == len(path) - 1
        mapping = inner
    return True


_NOTHING = object()


def _get(mapping: Any, step: str) -> Any:
    if isinstance(mapping, dict):
        return next((value for key, value in mapping.items() if str(key) == step), _NOTHING)
    return _NOTHING


def _line(problem: Found) -> str:
    return f"{'.'.join(problem.path)}: {problem.text}" if problem.path else problem.text
