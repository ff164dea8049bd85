"""Who answers this worker's calls, and what they need for it: agents with their tools, clips and credentials.

All of it is made ready before a call may have it: when the worker starts, and whenever the agent file changes. A file
with an agent that cannot be made ready is refused as a whole.
"""

from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import NoReturn, Self

import structlog

from shared.agents import template
from shared.agents.facts import CallFacts
from shared.agents.file import Agents
from shared.agents.model import Agent
from shared.errors import ConfigError
from shared.settings import WorkerSettings
from worker import clips
from worker.agents import AgentBook
from worker.clips import Clips
from worker.media.formats import WireFormat
from worker.tools import functions
from worker.tools.catalogue import Catalogue
from worker.tools.runner import ToolRunner
from worker.voicelive.connection import Resource
from worker.voicelive.credentials import Credentials
from worker.voicelive.rules.state import SessionOptions

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Answerer:
    """The agent that answers one call, with everything it was given when its file was read."""

    agents: Agents
    agent: Agent
    resource_name: str
    """Which of the agent's resources its session is opened at; empty is that of the settings."""
    resource: Resource
    catalogue: Catalogue
    _clips: Clips

    def session_options(self, wire: WireFormat, facts: CallFacts) -> SessionOptions:
        """Returns what the call's session is set up with: the agent's texts are filled in with what is known of it."""
        agent = self.agent
        return SessionOptions(
            agent=agent,
            instructions=_filled(agent.instructions, agent, facts, otherwise=agent.instructions),
            greeting=_filled(agent.greeting.text, agent, facts, otherwise="") if agent.greeting else "",
            encoding=wire.encoding,
            rate=wire.rate,
            tools=self.catalogue,
        )

    def filler(self, wire: WireFormat) -> bytes:
        """Returns what the caller hears while an answer is long in coming."""
        return self._clips.get(clips.filler(self.agent), wire)

    def apology(self, wire: WireFormat) -> bytes:
        """Returns what the caller hears when there is no session and will be none; empty is nothing."""
        source = clips.apology(self.agent)
        return b"" if source is None else self._clips.get(source, wire)


class Staff:
    """All agents of a worker, as a context manager; raises ConfigError on entering when there can be none."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._functions = functions.discover()
        self._book = AgentBook(settings, self._prepare)
        self._clips = Clips()
        self._credentials = Credentials()
        self._catalogues: dict[str, tuple[Agent, Catalogue]] = {}
        self._stack = AsyncExitStack()
        self.tools = ToolRunner(self._functions)

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._credentials)
        await self._book.open()
        await self.tools.start()
        self._stack.push_async_callback(self.tools.stop)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def watch(self) -> NoReturn:
        """Takes changes of the agent file, for as long as it runs."""
        await self._book.watch()

    def answerer(self, facts: CallFacts, resource: str | None = None) -> Answerer:
        """Returns who answers this call, at the resource that the call was given, else at the agent's preferred one.

        A resource that is not one of the agent's is passed over: the dispatcher may have read another file.
        """
        agents = self._book.current
        _, agent = agents.choose(facts)
        known, catalogue = self._catalogues[agent.name]
        if known is not agent:  # another file is being made ready in this very moment
            catalogue = Catalogue(agent, self._functions)
        name = resource if resource is not None and resource in agent.resource else agent.resource[0]
        return Answerer(
            agents=agents,
            agent=agent,
            resource_name=name,
            resource=self._connectable(agents, agent, name),
            catalogue=catalogue,
            _clips=self._clips,
        )

    def resources(self) -> frozenset[str]:
        """Returns the names of all resources that agents use; empty is that of the settings."""
        return frozenset(name for agent in self._book.current.agents.values() for name in agent.resource)

    def resource(self, name: str) -> Resource:
        """Returns a resource in use as one of its agents connects to it; raises KeyError when no agent uses it."""
        agents = self._book.current
        agent = next((agent for agent in agents.agents.values() if name in agent.resource), None)
        if agent is None:
            raise KeyError(name)
        return self._connectable(agents, agent, name)

    def _connectable(self, agents: Agents, agent: Agent, name: str) -> Resource:
        resource = agents.resources[name]
        return Resource(
            endpoint=resource.endpoint,
            credential=self._credentials.of(resource),
            model=agent.model,
            foundry_agent=agent.foundry_agent,
        )

    async def _prepare(self, agents: Agents) -> None:
        catalogues: dict[str, tuple[Agent, Catalogue]] = {}
        problems: list[str] = []
        for name, agent in agents.agents.items():
            try:
                catalogues[name] = agent, Catalogue(agent, self._functions)
            except ConfigError as error:
                problems += error.problems
        if problems:
            raise ConfigError(problems)
        await self._clips.prepare(agents.agents.values())
        for agent in agents.agents.values():
            for name in agent.resource:
                await self._credentials.prepare(agents.resources[name])
        self._catalogues |= catalogues  # beside those of agents that are still in use


def _filled(text: str, agent: Agent, facts: CallFacts, *, otherwise: str) -> str:
    try:
        return template.render(text, facts, agent.timezone)
    except template.TemplateError as error:
        log.warning("agent.text_not_filled_in", agent=agent.name, reason=str(error))
        return otherwise
