"""Child processes of `voicepool run`: started, watched through their log, and ended in order with all they started.

It does not know what the processes are; `pool.py` does. Each is a process group of its own, so that Ctrl-C at the
terminal reaches only us, and we decide who ends when.
"""

import asyncio
import json
import os
import re
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

POLL_S = 0.05
"""How often a log is looked at for the event that is waited for."""

_TROUBLE = ("warning", "error", "critical")

_EXCEPTION = re.compile(r"^[\s|+-]*([\w.]+(?:Error|Exception|Lost|Invalid): .*)$", re.MULTILINE)
"""The line of a traceback that says what it was, in exception groups too."""


class ProcessFailed(Exception):
    """A process ended too early or did not become ready; `log_tail` is what it said last."""

    def __init__(self, reason: str, log_tail: Sequence[str] = ()) -> None:
        super().__init__(reason)
        self.log_tail = list(log_tail)


class Process:
    """One child process whose output goes into `log`."""

    def __init__(self, name: str, popen: asyncio.subprocess.Process, log: Path, grace_s: float) -> None:
        self.name = name
        self.log = log
        self.grace_s = grace_s
        self._popen = popen

    @property
    def pid(self) -> int:
        """Process id, and id of its process group."""
        return self._popen.pid

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._popen.returncode is not None

    def log_tail(self, lines: int = 15) -> list[str]:
        """Returns the last lines of its log."""
        return self.log.read_text("utf-8", "replace").splitlines()[-lines:]

    def events(self, name: str) -> list[dict[str, Any]]:
        """Returns its log events of that name so far, oldest first; lines that are no events are passed over."""
        lines = (line for line in self.log.read_bytes().splitlines() if name.encode() in line)
        return [event for event in map(_parse, lines) if event.get("event") == name]

    def troubles(self, count: int = 5) -> list[str]:
        """Returns its last warnings and errors, one line each: event, attributes, and what the exception says."""
        events = (_parse(line) for line in self.log.read_bytes().splitlines())
        return [_in_one_line(event) for event in events if event.get("level") in _TROUBLE][-count:]

    async def wait_for(self, event: str, *, count: int = 1, timeout_s: float) -> list[dict[str, Any]]:
        """Returns the first `count` events of that name; raises ProcessFailed when it ends or the time is over."""
        try:
            async with asyncio.timeout(timeout_s):
                while len(found := self.events(event)) < count:
                    if self.ended:
                        raise self.failure(f"{self.name} ended with {self.status}")
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise self.failure(f"{self.name} was not ready within {timeout_s:.0f} s") from None
        return found[:count]

    def failure(self, reason: str) -> ProcessFailed:
        """Returns the error that gives `reason` and the end of the log."""
        return ProcessFailed(reason, self.log_tail())

    @property
    def status(self) -> str:
        """How it ended, in words."""
        code = self._popen.returncode
        if code is None:
            return "nothing yet"
        return f"exit code {code}" if code >= 0 else signal.Signals(-code).name

    async def wait(self) -> int:
        """Waits for its end and returns the exit code, negative for a signal."""
        return await self._popen.wait()

    async def stop(self, hurry: asyncio.Event) -> None:
        """Ends it and what it left behind: SIGTERM, then SIGKILL after its grace time or once `hurry` is set."""
        if not self.ended:
            self._popen.terminate()
            impatience = asyncio.create_task(hurry.wait())
            end = asyncio.create_task(self.wait())
            await asyncio.wait({impatience, end}, timeout=self.grace_s, return_when=asyncio.FIRST_COMPLETED)
            impatience.cancel()
        self._kill_group()
        await self.wait()

    def _kill_group(self) -> None:
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # nobody of the group is left, as it should be


class Processes:
    """The children, as an async context manager: leaving it ends them, the last started first."""

    def __init__(self, log_dir: Path) -> None:
        self.hurry = asyncio.Event()
        """Set to end without further grace."""
        self._log_dir = log_dir
        self._running: list[Process] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        while self._running:
            await self._running.pop().stop(self.hurry)

    async def start(
        self, name: str, argv: Sequence[str], *, env: Mapping[str, str] | None = None, grace_s: float = 5.0
    ) -> Process:
        """Starts `argv` with its output in NAME.log; `env` comes on top of our own environment."""
        log = self._log_dir / f"{name}.log"
        with log.open("wb") as output:
            popen = await asyncio.create_subprocess_exec(
                *_dies_with_us(argv),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        process = Process(name, popen, log, grace_s)
        self._running.append(process)
        return process

    @property
    def running(self) -> Sequence[Process]:
        """All that were started and not ended by us, in the order of their start."""
        return tuple(self._running)

    async def end(self, process: Process) -> None:
        """Ends one of them before the others."""
        self._running.remove(process)
        await process.stop(self.hurry)

    async def first_end(self) -> Process:
        """Waits until one of them ends, and returns it."""
        waits = {asyncio.create_task(process.wait()): process for process in self._running}
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waits:
                task.cancel()
        return waits[done.pop()]


def _dies_with_us(argv: Sequence[str]) -> list[str]:
    """Returns `argv` so that Linux sends it SIGTERM when we are killed without a chance to clean up."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", "--", *argv] if setpriv else list(argv)


def _parse(line: bytes) -> dict[str, Any]:
    """Returns the log event, or nothing for a line that is none."""
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def _in_one_line(event: Mapping[str, Any]) -> str:
    hidden = ("timestamp", "level", "event", "exception")
    parts = [str(event["event"]), *(f"{name}={value}" for name, value in event.items() if name not in hidden)]
    said = _EXCEPTION.findall(str(event.get("exception", "")))
    return " ".join([*parts, *said[-1:]])
