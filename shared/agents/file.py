"""Reads the agent file: all agents with their defaults, routes and resources, or every problem in it at once.

It watches nothing (`shared/agents/book.py`), and asks nobody whether a model or a voice exists.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from shared.agents.conduct import DIRECTORY
from shared.agents.demands import quota_in
from shared.agents.facts import CallFacts
from shared.agents.model import Agent, AgentFile, Price, Resource
from shared.agents.parts import SECRETS
from shared.agents.problems import Found, found
from shared.agents.reading import Draft, line, read
from shared.agents.routes import Routing
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
    routing: Routing
    prices: Mapping[str, Price] = field(default_factory=dict)
    """By model; "*" is any other."""
    currency: str = "USD"

    def choose(self, facts: CallFacts) -> tuple[str, Agent]:
        """Returns the name and the agent that answers this call."""
        name = self.routing.agent(facts)
        return name, self.agents[name]


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
    resource = Resource(
        endpoint=settings.voicelive_endpoint, api_key=settings.voicelive_api_key, quota=quota_in(settings)
    )
    return Base(agent, resource)


def single(agent: Agent, resource: Resource) -> Agents:
    """Returns the agents of a pool in which one answers everything."""
    return Agents({agent.name: agent}, {"": resource}, Routing(agent.name))


def from_settings(below: Base) -> Agents:
    """Returns the agents of a pool without a file; raises ConfigError when the settings make no agent."""
    agent, problems = _agent("default", below.agent)
    if agent is None:
        raise ConfigError([f"VOICE_LIVE_*: {line(problem)}" for problem in problems])
    return single(agent, below.resource)


def load(path: Path, below: Base, secrets: Secrets) -> Agents:
    """Returns the agents in a file; raises ConfigError with every problem, one line each.

    `below` is put under the file's own defaults. Relative paths in the file begin at its directory.
    """
    return parse(read(path), path, below, secrets)


def parse(content: bytes, path: Path, below: Base, secrets: Secrets) -> Agents:
    """Returns the agents in the content of the file at `path`; otherwise as `load`."""
    context = {SECRETS: secrets, DIRECTORY: path.parent.absolute()}
    try:
        return _agents(Draft(values(content)), below, context)
    except ConfigError as error:
        raise ConfigError([f"{path.name}: {problem}" for problem in error.problems]) from error


def _agents(draft: Draft, below: Base, context: dict[str, Any]) -> Agents:
    problems: list[str] = []
    file: AgentFile | None = None
    try:
        file = AgentFile.model_validate(draft.values, context=context)
    except ValidationError as error:
        problems += map(line, found(error, draft.values))
    agents, trouble = draft.agents(below.agent, lambda name, raw: _agent(name, raw, context))
    resources = {**(file.resources if file else {}), "": below.resource}
    problems += [*trouble, *draft.unknown_names(), *_without_entra(agents, resources)]
    if problems or file is None:
        raise ConfigError(list(dict.fromkeys(problems)))
    routing = Routing(file.default or next(iter(agents)), file.routes)
    return Agents(agents, resources, routing, file.prices, file.currency)


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
        for key in agent.resource if agent.foundry_agent is not None else ():
            if key in resources and resources[key].api_key is not None:
                resource = f"resource {key}" if key else "the resource of the settings"
                yield f"agents.{name}.foundry_agent: needs Microsoft Entra, and {resource} has an API key"
