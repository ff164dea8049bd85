"""A pool from the project's Compose file, under a name of its own, with what a test does to it.

Whether what it does is right, the tests say.
"""

import json
import os
import select
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.compose.engine import ROOT, Engine

UP_S = 120.0
HEALTHY_S = 120.0
CALL_S = 90.0

NO_ENV_FILE = f"--env-file={Path(__file__).with_name('nothing.env')}"

ANY_PORTS = dict.fromkeys(("SIP_PORT", "ADMIN_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT", "LOG_PORT"), "0")
"""The machine may have a pool of its own on the usual ones."""


@dataclass(frozen=True, slots=True)
class Container:
    """One container of the stack."""

    id: str
    address: str
    """On the stack's network."""
    pid: int
    """Of its first process, as the machine sees it."""
    healthy: bool

    @property
    def pod(self) -> str:
        """What the pool calls it: the container's host name."""
        return self.id[:12]


@dataclass(frozen=True, slots=True)
class Stack:
    """A Compose project. `running_stack` makes one."""

    engine: Engine
    project: str
    env: Mapping[str, str] = field(default_factory=dict)
    files: Sequence[Path] = (ROOT / "docker-compose.yml",)

    def compose(self, *arguments: str, timeout_s: float = UP_S) -> str:
        """Returns what a Compose command says on stdout."""
        return self.engine.run(self._argv(*arguments), self._env, timeout_s).stdout

    def attempt(self, *arguments: str, timeout_s: float = UP_S) -> subprocess.CompletedProcess[str]:
        """Runs a Compose command that may fail."""
        return self.engine.attempt(self._argv(*arguments), self._env, timeout_s)

    def up(self, *services: str, **scale: int) -> None:
        """Brings services up, in so many containers each, and returns when all of them are healthy."""
        scaled = [f"--scale={service}={count}" for service, count in scale.items()]
        self.compose("up", "--detach", "--no-build", *scaled, *services, *scale)
        for service, count in {**dict.fromkeys(services, 1), **scale}.items():
            self.await_healthy(service, count)

    def await_healthy(self, service: str, count: int) -> None:
        """Returns when so many containers of a service are there and every one of them is healthy."""
        deadline = time.monotonic() + HEALTHY_S
        with self._health_events() as changes:
            while not (len(seen := self.containers(service)) == count and all(each.healthy for each in seen)):
                left = deadline - time.monotonic()
                if left < 0:
                    raise AssertionError(f"{service} is not healthy: {seen}\n{self.logs(service)}")
                if select.select([changes], [], [], left)[0]:
                    os.read(changes.fileno(), 65536)

    def containers(self, service: str) -> list[Container]:
        """Returns the containers of a service that run, the oldest first."""
        ids = self.engine.docker(
            "ps",
            "--quiet",
            "--no-trunc",
            f"--filter={self._label}",
            f"--filter=label=com.docker.compose.service={service}",
        ).split()
        seen = json.loads(self.engine.docker("inspect", *ids)) if ids else []
        return [_container(each) for each in sorted(seen, key=lambda each: str(each["Created"]))]

    def voicepool(self, *arguments: str) -> Any:
        """Returns what an operator's command with --json says, typed in the admin container."""
        return json.loads(self.compose("exec", "-T", "admin", "voicepool", *arguments, "--json"))

    def logs(self, service: str) -> str:
        """Returns the last lines that the containers of a service have written."""
        return self.compose("logs", "--tail=60", service)

    def log_of(self, container: Container, into: Path) -> Path:
        """Writes all that a container has said, in all its lives, into a file there, and returns that."""
        file = into / f"{container.pod}.log"
        with file.open("wb") as log:
            command = ["docker", "logs", container.id]
            subprocess.run(command, env=self.engine.env, stdout=log, stderr=log, timeout=UP_S, check=True)
        return file

    def left_over(self) -> str:
        """Returns the ids of all containers, volumes and networks of the project."""
        return "".join(
            self.engine.docker(*kind, "ls", "--quiet", f"--filter={self._label}")
            for kind in (("container",), ("volume",), ("network",))
        )

    @property
    def _label(self) -> str:
        return f"label=com.docker.compose.project={self.project}"

    @property
    def _env(self) -> dict[str, str]:
        return {**ANY_PORTS, **self.env}

    def _argv(self, *arguments: str) -> list[str]:
        files = [f"--file={file}" for file in self.files]
        return [*self.engine.compose, NO_ENV_FILE, f"--project-name={self.project}", *files, *arguments]

    @contextmanager
    def _health_events(self) -> Iterator[Any]:
        command = ["docker", "events", f"--filter={self._label}", "--filter=event=health_status"]
        with subprocess.Popen(command, env=self.engine.env, stdout=subprocess.PIPE) as events:
            try:
                yield events.stdout
            finally:
                events.terminate()


@contextmanager
def running_stack(stack: Stack) -> Iterator[Stack]:
    """Yields a stack to bring up; leaving takes it down and checks that nothing of it is left."""
    try:
        yield stack
    finally:
        stack.compose(
            "--profile=observability", "--profile=azure", "down", "--volumes", "--remove-orphans", "--timeout=5"
        )
    assert stack.left_over() == ""


def images() -> dict[str, str]:
    """Returns the image of each service that is not built here."""
    files = [ROOT / "docker-compose.yml", ROOT / "docker/compose/common.yml"]
    services = [service for file in files for service in yaml.safe_load(file.read_text())["services"].items()]
    return {name: service["image"] for name, service in services if "image" in service and "build" not in service}


def _container(inspected: Mapping[str, Any]) -> Container:
    state = inspected["State"]
    [network] = inspected["NetworkSettings"]["Networks"].values()
    healthy = state["Health"]["Status"] == "healthy" if "Health" in state else bool(state["Running"])
    return Container(str(inspected["Id"]), str(network["IPAddress"]), int(state["Pid"]), healthy)
