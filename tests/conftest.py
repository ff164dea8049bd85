"""Fixtures that several parts of the suite share."""

from collections.abc import Iterator

import hypothesis
import pytest

from tests.redis_server import RedisServer, running_redis

hypothesis.settings.register_profile("voicepool", deadline=None)  # how fast something is, bench/ says
hypothesis.settings.load_profile("voicepool")


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The suite's redis-server, started once."""
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """URL of an empty Redis."""
    redis_server.flush()
    return redis_server.url
