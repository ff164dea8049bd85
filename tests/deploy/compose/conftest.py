"""The engine, the image and the pool that the tests here share. Without an engine they fail: they were asked for."""

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.deploy.compose.engine import ROOT, Engine, running_engine
from tests.deploy.compose.stack import Stack, images, running_stack

BUILD_S = 1800.0
"""From nothing, on two cores that others use as well; pjproject alone takes five minutes."""

BASES_S = 5400.0
"""From nothing, too: collector, Tempo and Loki take a quarter of an hour, and thrice that on a busy machine."""

VERSION = "test"

NOT_MADE = 3
"""Exit code of base_images: the other images are there."""


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine with every image that can be had here."""
    with running_engine(tmp_path_factory.mktemp("engine")) as running:
        bases = [str(ROOT / "tests/deploy/base_images"), "debian:bookworm-slim", *images().values()]
        done = subprocess.run(bases, env=running.env, capture_output=True, text=True, timeout=BASES_S, check=False)
        assert done.returncode in (0, NOT_MADE), done.stdout + done.stderr
        yield running


@pytest.fixture(scope="session")
def image(engine: Engine) -> str:
    """The image, built by the classic builder."""
    name = f"voicepool:{VERSION}"
    engine.run(["docker", "build", "--tag", name, "."], {"DOCKER_BUILDKIT": "0"}, BUILD_S)
    return name


@pytest.fixture(scope="session")
def services(engine: Engine) -> set[str]:
    """The services whose images are there: all, or those that Debian has packages for or that could be built."""
    there = engine.docker("images", "--format", "{{.Repository}}:{{.Tag}}").split()
    return {service for service, name in images().items() if name in there}


@pytest.fixture(scope="module")
def stack(engine: Engine, image: str) -> Iterator[Stack]:
    """A pool from docker-compose.yml with one worker, as it comes: nothing is set."""
    project = f"voicepool-test-{os.getpid()}"
    with running_stack(Stack(engine, project, {"VOICEPOOL_VERSION": VERSION})) as made:
        made.up("redis", "dispatcher", "admin", "simulator", worker=1)
        yield made
