"""The agents of a running worker: read from the agent file or the settings, and made ready before a call may have them.

It does not know what is in an agent (`shared/agents/`), nor what makes one ready (`worker/staff.py`).
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from shared.agents import file
from shared.agents.book import Book
from shared.agents.file import Agents
from shared.agents.secrets import process_secrets
from shared.settings import WorkerSettings

Prepare = Callable[[Agents], Awaitable[None]]
"""Makes ready what agents need before a call may have them; its ConfigError refuses them."""


class AgentBook(Book[Agents]):
    """Who answers the next call."""

    def __init__(self, settings: WorkerSettings, prepare: Prepare) -> None:
        super().__init__(settings)
        self._below = file.base(settings)
        self._secrets_dir = settings.secrets_dir
        self._prepare = prepare

    async def _without_file(self) -> Agents:
        return await self._ready(file.from_settings(self._below))

    async def _from_file(self, content: bytes, path: Path) -> Agents:
        secrets = process_secrets(self._secrets_dir)
        return await self._ready(await asyncio.to_thread(file.parse, content, path, self._below, secrets))

    async def _ready(self, agents: Agents) -> Agents:
        await self._prepare(agents)
        return agents
