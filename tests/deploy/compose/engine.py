"""A container engine to test with: the one that answers, or a `dockerd` of this test's own, as root on plain Debian.

It starts, asks and stops the engine; which images and containers there are in it, others say.
"""

import os
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]

ASK_S = 60.0
START_S = 60.0
STOP_S = 30.0


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine that answers."""

    host: str
    """What DOCKER_HOST is; empty for the default."""
    compose: Sequence[str]
    """The command that Compose is here: `docker compose`, or Debian's `docker-compose`."""

    def docker(self, *arguments: str, timeout_s: float = ASK_S) -> str:
        """Returns what a docker command says; raises AssertionError with what it complains of."""
        return self.run(["docker", *arguments], {}, timeout_s).stdout

    def run(
        self, argv: Sequence[str], env: Mapping[str, str], timeout_s: float = ASK_S
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command that finds the engine; raises AssertionError when it fails."""
        done = self.attempt(argv, env, timeout_s)
        assert done.returncode == 0, f"{' '.join(argv)}\n{done.stdout}\n{done.stderr}"
        return done

    def attempt(
        self, argv: Sequence[str], env: Mapping[str, str], timeout_s: float = ASK_S
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command that finds the engine, and may fail."""
        return subprocess.run(
            argv, cwd=ROOT, env={**self.env, **env}, capture_output=True, text=True, timeout=timeout_s, check=False
        )

    @property
    def env(self) -> dict[str, str]:
        """The environment for commands that are to find the engine."""
        return {**os.environ, **({"DOCKER_HOST": self.host} if self.host else {})}


@contextmanager
def running_engine(directory: Path) -> Iterator[Engine]:
    """Yields an engine: the one of DOCKER_HOST or the default socket, else one started here with its data there."""
    given = os.environ.get("DOCKER_HOST", "")
    if _answers(given):
        yield Engine(given, _compose())
        return
    host = f"unix://{directory}/docker.sock"
    command = [
        "dockerd",
        f"--host={host}",
        f"--data-root={directory}/data",
        f"--exec-root={directory}/exec",
        f"--pidfile={directory}/pid",
    ]
    with (directory / "dockerd.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as daemon:
        try:
            deadline = time.monotonic() + START_S
            while not _answers(host):
                assert daemon.poll() is None and time.monotonic() < deadline, (directory / "dockerd.log").read_text()
            yield Engine(host, _compose())
        finally:
            daemon.terminate()
            daemon.wait(STOP_S)


def _answers(host: str) -> bool:
    command = ["docker", *([f"--host={host}"] if host else []), "version", "--format", "{{.Server.Version}}"]
    return subprocess.run(command, capture_output=True, timeout=ASK_S, check=False).returncode == 0


def _compose() -> Sequence[str]:
    plugin = ["docker", "compose", "version"]
    if subprocess.run(plugin, capture_output=True, timeout=ASK_S, check=False).returncode == 0:
        return ("docker", "compose")
    return ("docker-compose",)
