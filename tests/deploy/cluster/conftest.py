"""The control plane that all tests here share. It is built beforehand; one that is missing fails them."""

from collections.abc import AsyncIterator, Iterator
from itertools import count

import pytest
from redis.asyncio import Redis

from shared.control.connection import connect
from tests.deploy.cluster import definitions
from tests.deploy.cluster.plane import Plane, running_plane
from tests.deploy.cluster.release import Release, namespace

_NUMBERS = count(1)


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """A control plane with three simulated nodes, which knows the kinds of KEDA and of the Prometheus Operator."""
    with running_plane(tmp_path_factory.mktemp("plane")) as running:
        definitions.install(running)
        yield running


@pytest.fixture
def restricted(plane: Plane) -> Iterator[Release]:
    """A namespace whose pods must meet the strictest of the Pod Security Standards."""
    with namespace(plane, f"restricted-{next(_NUMBERS)}", "restricted") as release:
        yield release


@pytest.fixture
def privileged(plane: Plane) -> Iterator[Release]:
    """A namespace whose pods may have the network of their node."""
    with namespace(plane, f"privileged-{next(_NUMBERS)}", "privileged") as release:
        yield release


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A client of the pool's Redis."""
    client = connect(redis_url, timeout_s=20.0)
    yield client
    await client.aclose()
