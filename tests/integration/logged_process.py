"""A process that logs a JSON object per line, read while it runs. It starts none; ends it by its own handle."""

import asyncio
import json
import signal
from typing import Any

PATIENCE_S = 40.0
"""Longest wait for what happens at once, on a machine that has other things to do."""


class LoggedProcess:
    """A running process and what it logged."""

    patience_s = PATIENCE_S

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[dict[str, Any]] = []

    async def event(self, name: str) -> dict[str, Any]:
        """Returns the next log line of this event."""
        assert self.process.stdout
        async with asyncio.timeout(self.patience_s):
            while line := await self.process.stdout.readline():
                self.lines.append(json.loads(line))
                if self.lines[-1]["event"] == name:
                    return self.lines[-1]
        raise AssertionError(f"it ended without {name}: {self.lines}")

    async def stop(self) -> int:
        """Sends SIGTERM, reads the rest of the log, returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return await self.end()

    async def kill(self) -> None:
        """Kills it."""
        self.process.kill()
        await self.end()

    async def end(self) -> int:
        """Reads the rest of the log and returns the exit code."""
        assert self.process.stdout
        async with asyncio.timeout(self.patience_s):
            self.lines += [json.loads(line) async for line in self.process.stdout]
            return await self.process.wait()
