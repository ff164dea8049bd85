"""The agents of a running worker: read at start, and again whenever the agent file has changed.

A new file is taken whole or not at all. A call keeps the agent it began with; what is here is for the next one.
It does not know what is in an agent (`shared/agents/`).
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn

import structlog

from shared.agents import file
from shared.agents.facts import CallFacts
from shared.agents.file import Agents
from shared.agents.model import Agent
from shared.agents.secrets import process_secrets
from shared.errors import ConfigError
from shared.settings import WorkerSettings

log = structlog.get_logger()

Prepare = Callable[[Agents], Awaitable[None]]
"""Makes ready what agents need before a call may have them; its ConfigError refuses them."""


class AgentBook:
    """Who answers the next call. Not usable before `open`."""

    def __init__(self, settings: WorkerSettings, prepare: Prepare | None = None) -> None:
        self._path = Path(settings.agents_file) if settings.agents_file else None
        self._below = file.base(settings)
        self._interval_s = settings.agents_reload_s
        self._secrets_dir = settings.secrets_dir
        self._prepare = prepare
        self._agents: Agents | None = None
        self._seen = b""
        """Digest of what was last in the file, good or bad."""

    @property
    def agents(self) -> Agents:
        """The agents as of now."""
        assert self._agents is not None, "opened first"
        return self._agents

    def choose(self, facts: CallFacts) -> tuple[str, Agent]:
        """Returns the name and the agent that answers this call."""
        return self.agents.choose(facts)

    async def open(self) -> None:
        """Reads the agents for the first time; raises ConfigError with every problem."""
        if self._path is None:
            agents = file.from_settings(self._below)
        else:
            content = await asyncio.to_thread(file.read, self._path)
            self._seen = _digest(content)
            agents = await self._parsed(content, self._path)
        await self._take(agents)

    async def watch(self) -> NoReturn:
        """Looks at the file every AGENTS_RELOAD_S, for as long as it runs.

        The content is compared, not the time or the inode: Kubernetes swaps a symbolic link to change a ConfigMap.
        """
        while True:
            await asyncio.sleep(self._interval_s)
            await self.reload()

    async def reload(self) -> None:
        """Takes the file's agents if it has changed and is good; otherwise says once what is wrong, keeping the old."""
        if self._path is None:
            return
        try:
            content = await asyncio.to_thread(file.read, self._path)
        except ConfigError as error:
            self._refuse(_digest(str(error).encode()), error)
            return
        digest = _digest(content)
        if digest == self._seen:
            return
        try:
            await self._take(await self._parsed(content, self._path))
        except ConfigError as error:
            self._refuse(digest, error)
            return
        self._seen = digest
        log.info("agents.reloaded", agents=len(self.agents.agents))

    async def _parsed(self, content: bytes, path: Path) -> Agents:
        secrets = process_secrets(self._secrets_dir)
        return await asyncio.to_thread(file.parse, content, path, self._below, secrets)

    async def _take(self, agents: Agents) -> None:
        if self._prepare is not None:
            await self._prepare(agents)
        self._agents = agents

    def _refuse(self, digest: bytes, error: ConfigError) -> None:
        if digest != self._seen:
            self._seen = digest
            log.error("agents.refused", problems=error.problems)


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
