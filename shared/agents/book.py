"""The agent file of a running process: read at start, and again whenever its content has changed.

A new file is taken whole or not at all. A call keeps what it began with; what is here is for the next one. What is made
of the file is the business of those who inherit: whole agents in a worker, what they ask for in a dispatcher.
"""

import asyncio
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Generic, NoReturn, Protocol, TypeVar

import structlog

from shared.agents.reading import read
from shared.errors import ConfigError
from shared.settings import PoolSettings

log = structlog.get_logger()


class ByAgent(Protocol):
    """Something of every agent."""

    @property
    def agents(self) -> Mapping[str, object]:
        """By name."""


T = TypeVar("T", bound=ByAgent)


class Book(ABC, Generic[T]):
    """What the agent file comes to. Not usable before `open`."""

    def __init__(self, settings: PoolSettings) -> None:
        self._path = Path(settings.agents_file) if settings.agents_file else None
        self._interval_s = settings.agents_reload_s
        self._current: T | None = None
        self._seen = b""
        """Digest of what was last in the file, good or bad."""

    @abstractmethod
    async def _without_file(self) -> T:
        """Returns what there is without a file; raises ConfigError."""

    @abstractmethod
    async def _from_file(self, content: bytes, path: Path) -> T:
        """Returns what the content of the file at `path` comes to, ready for calls; raises ConfigError."""

    @property
    def current(self) -> T:
        """What it comes to as of now."""
        assert self._current is not None, "opened first"
        return self._current

    async def open(self) -> None:
        """Reads the file for the first time; raises ConfigError with every problem."""
        if self._path is None:
            self._current = await self._without_file()
            return
        content = await asyncio.to_thread(read, self._path)
        self._seen = _digest(content)
        self._current = await self._from_file(content, self._path)

    async def watch(self) -> NoReturn:
        """Looks at the file every AGENTS_RELOAD_S, for as long as it runs.

        The content is compared, not the time or the inode: Kubernetes swaps a symbolic link to change a ConfigMap.
        """
        while True:
            await asyncio.sleep(self._interval_s)
            await self.reload()

    async def reload(self) -> None:
        """Takes the file if it has changed and is good; otherwise says once what is wrong, keeping the old."""
        if self._path is None:
            return
        try:
            content = await asyncio.to_thread(read, self._path)
        except ConfigError as error:
            self._refuse(_digest(str(error).encode()), error)
            return
        digest = _digest(content)
        if digest == self._seen:
            return
        try:
            self._current = await self._from_file(content, self._path)
        except ConfigError as error:
            self._refuse(digest, error)
            return
        self._seen = digest
        log.info("agents.reloaded", agents=len(self._current.agents))

    def _refuse(self, digest: bytes, error: ConfigError) -> None:
        if digest != self._seen:
            self._seen = digest
            log.error("agents.refused", problems=error.problems)


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
