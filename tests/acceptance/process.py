"""One process of the pool under test: its log events as they happen, and its end by pid.

It does not know what the process is for; `pool.py` does.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.faults.network import Host

ROOT = Path(__file__).resolve().parents[2]

Event = dict[str, Any]

START_S = 40.0
"""Longest wait for a process to be ready: starting takes seconds when other tests keep the cores busy."""

PRIORITY = -10
"""Nice value of the processes under test."""


class ProcessFailed(AssertionError):
    """The process did not do what was waited for; the message ends with the tail of its log."""


class PoolProcess:
    """A running `python -m <module>`; every line it logs is kept and can be waited for."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        env: Mapping[str, str],
        directory: Path,
        host: Host | None = None,
    ) -> None:
        """Starts it, on a host of its own if one is given."""
        self.name = name
        self._lines: list[str] = []
        self._events: list[Event] = []
        self._changed = threading.Condition()
        command = [sys.executable, "-X", "faulthandler", "-m", *arguments]
        self._popen = subprocess.Popen(
            host.command(command) if host else command,
            # Not the repository: a developer's .env there must not reach the pool under test.
            cwd=directory,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        give_priority(self._popen.pid)
        self._reader = threading.Thread(target=self._read, name=f"log of {name}")
        self._reader.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Whether the process is still there."""
        return self._popen.poll() is None

    def events(self, event: str = "") -> list[Event]:
        """Returns what has been logged so far, all of it or one kind of event."""
        with self._changed:
            return [entry for entry in self._events if not event or entry.get("event") == event]

    def lines(self) -> list[str]:
        """Returns every line so far, those that are not JSON too."""
        with self._changed:
            return list(self._lines)

    def wait_for(
        self, event: str, *, count: int = 1, timeout_s: float = 30.0, where: Callable[[Event], bool] = lambda _: True
    ) -> list[Event]:
        """Returns the first `count` events of this kind; raises ProcessFailed when the process ends or time is up."""

        def found() -> list[Event]:
            return [entry for entry in self._events if entry.get("event") == event and where(entry)]

        with self._changed:
            self._changed.wait_for(lambda: len(found()) >= count or not self._reader.is_alive(), timeout_s)
            if len(found()) < count:
                raise ProcessFailed(f"{self.name}: {len(found())} of {count} {event}\n{self.tail()}")
            return found()[:count]

    def tail(self, lines: int = 40) -> str:
        """Returns the end of the log, for failure messages."""
        with self._changed:
            return "\n".join([f"--- {self.name} (pid {self.pid}), last lines:", *self._lines[-lines:]])

    def signal(self, number: int) -> None:
        """Sends a signal to the process."""
        self._popen.send_signal(number)

    def wait(self, timeout_s: float) -> int:
        """Returns the exit code; raises ProcessFailed when the process goes on."""
        try:
            code = self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise ProcessFailed(f"{self.name} goes on after {timeout_s} s\n{self.tail()}") from None
        self._reader.join(5.0)
        return code

    def end(self, timeout_s: float = 15.0) -> None:
        """Ends the process: SIGTERM, and SIGKILL when that does not help, which is a failure."""
        if self.running:
            self._popen.send_signal(signal.SIGCONT)  # a frozen one would not hear the other
            self._popen.terminate()
        try:
            self.wait(timeout_s)
        except ProcessFailed:
            self._popen.kill()
            self._popen.wait()
            raise

    def close(self) -> None:
        """Lets go of the log of a process that has ended, and whose children have."""
        self._reader.join(10.0)
        # Not while the reader is still in it, which would wait for ever: somebody else holds the other end.
        if self._popen.stdout and not self._reader.is_alive():
            self._popen.stdout.close()

    def _read(self) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            with self._changed:
                self._lines.append(line.rstrip())
                self._events += _parsed(line)
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()


def give_priority(pid: int) -> None:
    """Has a process that plays audio go before the machine's other work, where that is allowed.

    A clock that is late by more than the jitter buffer holds is heard, and would be no fault of the pool.
    """
    with suppress(PermissionError, ProcessLookupError):
        os.setpriority(os.PRIO_PROCESS, pid, PRIORITY)


def _parsed(line: str) -> list[Event]:
    try:
        value = json.loads(line)
    except ValueError:
        return []
    return [value] if isinstance(value, dict) else []
