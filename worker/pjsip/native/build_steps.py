"""What every build step needs: progress lines, one log file, errors that say what to do.

Knows nothing of pjproject or of the audio port.
"""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

PROGRESS_INTERVAL_S = 5.0  # a person who sees nothing for longer wonders whether it hangs
POLL_INTERVAL_S = 0.05
LOG_TAIL_LINES = 15

Command = Sequence[str | os.PathLike[str]]


class BuildFailed(Exception):
    """The build cannot go on; the message tells the user what is wrong and what to do."""


def say(text: str) -> None:
    """Print one line at once, also into a pipe."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def sha256_of(path: Path) -> str:
    """The file's SHA-256 as hexadecimal text."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class BuildLog:
    """Runs commands with their output in one file and a progress line every few seconds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")

    def run(
        self,
        what: str,
        *commands: Command,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        progress: Callable[[], str] | None = None,
    ) -> None:
        """Run the commands side by side until all have ended.

        `what` names the step in progress lines and errors, `progress` adds to the line what has been reached.
        Raises BuildFailed with the end of the log if a command fails or is not there.
        """
        say(f"{what} ...")
        began = time.monotonic()
        running = [self._start(command, cwd, env) for command in commands]
        try:
            self._wait(what, running, began, progress)
        finally:
            for process in running:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)  # make, and the compilers it has started
                process.wait()
        if any(process.returncode for process in running):
            raise BuildFailed(f"{what} failed. The end of {self.path}:\n{self._tail()}")

    def _start(self, command: Command, cwd: Path | None, env: Mapping[str, str] | None) -> subprocess.Popen[bytes]:
        with self.path.open("ab") as output:
            output.write(f"\n$ {' '.join(map(str, command))}\n".encode())
            output.flush()
            try:
                return subprocess.Popen(
                    command,
                    cwd=cwd,
                    env={**os.environ, **(env or {})},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    process_group=0,
                )
            except OSError as error:
                raise BuildFailed(f"cannot run {command[0]}: {error}") from error

    def _wait(
        self,
        what: str,
        running: Sequence[subprocess.Popen[bytes]],
        began: float,
        progress: Callable[[], str] | None,
    ) -> None:
        next_line = began + PROGRESS_INTERVAL_S
        while None in (states := [process.poll() for process in running]):
            if any(states):
                return  # one has failed, the rest is of no use
            time.sleep(POLL_INTERVAL_S)
            now = time.monotonic()
            if now >= next_line:
                next_line = now + PROGRESS_INTERVAL_S
                reached = f"{progress()}, " if progress else ""
                say(f"{what} [{reached}{now - began:.0f} s]")

    def _tail(self) -> str:
        lines = self.path.read_text(errors="replace").splitlines()
        return "\n".join(f"    {line[:400]}" for line in lines[-LOG_TAIL_LINES:])
