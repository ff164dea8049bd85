"""One client of an empty Redis, and the control plane over it."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from shared.control.connection import connect
from shared.control.leases import Leases
from shared.control.reaper import Reaper
from shared.control.workers import Workers


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A client that waits long enough for a busy machine."""
    client = connect(redis_url, timeout_s=20.0)
    yield client
    await client.aclose()


@pytest.fixture
def workers(redis: Redis) -> Workers:
    """The worker table."""
    return Workers(redis)


@pytest.fixture
def leases(redis: Redis) -> Leases:
    """The leases."""
    return Leases(redis)


@pytest.fixture
def reaper(redis: Redis) -> Reaper:
    """The reaper, step by step."""
    return Reaper(redis)
