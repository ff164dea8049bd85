"""What each agent asks of the pool, and which agent answers which call: all that a dispatcher reads of the agent file.

Everything else is passed over, good or bad: a dispatcher has no secrets, tools and sound files. Whole agents are in
`shared/agents/file.py`; both read the file by the same rules, so that both choose the same agent.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, ValidationError

from shared.agents.facts import CallFacts
from shared.agents.outline import Asks, Outline, Quota
from shared.agents.parts import Name, Part
from shared.agents.problems import Found, found
from shared.agents.reading import Draft, line
from shared.agents.routes import Routing
from shared.agents.source import values
from shared.errors import ConfigError
from shared.messages import ResourceQuota
from shared.settings import PoolSettings


@dataclass(frozen=True, slots=True)
class Demands:
    """What a call needs beside a free slot."""

    agent: str
    """Who answers it."""
    labels: Mapping[str, str]
    """A worker must have all of them."""
    priority: int
    """0 to 9; 9 is served first."""
    resources: tuple[ResourceQuota, ...]
    """Where its session may be opened, the preferred one first."""


@dataclass(frozen=True)
class Roster:
    """All agents by what they ask for, and who answers which call."""

    agents: Mapping[str, Demands]
    routing: Routing

    @cached_property
    def resources(self) -> Mapping[str, ResourceQuota]:
        """All resources that any agent may use, by name."""
        return {quota.name: quota for demands in self.agents.values() for quota in demands.resources}

    def choose(self, facts: CallFacts) -> Demands:
        """Returns what this call needs."""
        return self.agents[self.routing.agent(facts)]


class _Resource(Part):
    model_config = ConfigDict(extra="ignore")

    quota: Quota = Field(default_factory=Quota)


class _File(Outline):
    model_config = ConfigDict(extra="ignore")

    resources: dict[Name, _Resource] = Field(default_factory=dict)


def quota_in(settings: PoolSettings) -> Quota:
    """Returns the quota of the resource that the settings name."""
    return Quota(
        connections_per_minute=settings.voice_live_connections_per_minute,
        sessions=settings.voice_live_sessions,
        tokens_per_minute=settings.voice_live_tokens_per_minute,
    )


def from_settings(quota: Quota) -> Roster:
    """Returns the roster of a pool without a file; `quota` is that of the resource of the settings."""
    asks = Asks()
    return Roster({"default": _demands("default", asks, {"": quota})}, Routing("default"))


def parse(content: bytes, path: Path, quota: Quota) -> Roster:
    """Returns what the content of the agent file at `path` asks for; raises ConfigError with every problem of that."""
    try:
        return _roster(Draft(values(content)), quota)
    except ConfigError as error:
        raise ConfigError([f"{path.name}: {problem}" for problem in error.problems]) from error


def _roster(draft: Draft, quota: Quota) -> Roster:
    problems: list[str] = []
    file: _File | None = None
    try:
        file = _File.model_validate(draft.values)
    except ValidationError as error:
        problems += map(line, found(error, draft.values))
    asked, trouble = draft.agents({}, _asks)
    problems += [*trouble, *draft.unknown_names()]
    if problems or file is None:
        raise ConfigError(list(dict.fromkeys(problems)))
    quotas = {"": quota, **{name: resource.quota for name, resource in file.resources.items()}}
    agents = {name: _demands(name, asks, quotas) for name, asks in asked.items()}
    return Roster(agents, Routing(file.default or next(iter(agents)), file.routes))


def _asks(_: str, raw: Mapping[Any, Any]) -> tuple[Asks | None, list[Found]]:
    try:
        return Asks.model_validate({key: raw[key] for key in Asks.model_fields if key in raw}), []
    except ValidationError as error:
        return None, [*found(error, raw)]


def _demands(name: str, asks: Asks, quotas: Mapping[str, Quota]) -> Demands:
    return Demands(name, asks.labels, asks.priority, tuple(_limits(each, quotas[each]) for each in asks.resource))


def _limits(name: str, quota: Quota) -> ResourceQuota:
    return ResourceQuota(name=name, **{key: limit for key, limit in quota if limit is not None})
