"""Programs that run for a block, each with a log file, and what they need to be waited for.

It ends what it started, by its own handle, and nothing else.
"""

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

END_S = 20.0
"""Longest that a program may take to end after SIGTERM."""

_POLL_S = 0.1


class Failed(Exception):
    """A program ended, or did not become what it should in time; with the end of its log."""


@contextmanager
def running(command: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None = None) -> Iterator["Log"]:
    """Runs a program for the block; what it says goes to `log`."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            env={**os.environ, **(environment or {})}, cwd=log.parent,
        )  # fmt: skip
    try:
        yield Log(process, log)
    finally:
        process.terminate()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Log:
    """A running program, as its log and its end tell of it."""

    def __init__(self, process: "subprocess.Popen[bytes]", path: Path) -> None:
        self._process = process
        self._path = path

    def await_ready(self, ready: Callable[[], bool], timeout_s: float) -> None:
        """Returns once `ready` says so, which is asked again and again: a program that starts announces nothing.

        Raises Failed when the program has ended before, or the time is over.
        """
        deadline = time.monotonic() + timeout_s
        while not ready():
            if self._process.poll() is not None:
                raise Failed(f"{self._path.stem} ended with {self._process.returncode}:\n{self._tail()}")
            if time.monotonic() > deadline:
                raise Failed(f"{self._path.stem} was not ready after {timeout_s:.0f} s:\n{self._tail()}")
            time.sleep(_POLL_S)

    def _tail(self) -> str:
        return self._path.read_text(errors="replace")[-3000:]
