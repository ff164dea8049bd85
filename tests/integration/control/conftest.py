"""One client of an empty Redis, and the control plane over it."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from shared.control.connection import connect
from shared.control.dispatchers import Dispatchers
from shared.control.events import Events
from shared.control.leases import Leases
from shared.control.orphans import Orphans
from shared.control.quotas import Quotas
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
def dispatchers(redis: Redis) -> Dispatchers:
    """The dispatcher table."""
    return Dispatchers(redis)


@pytest.fixture
def leases(redis: Redis) -> Leases:
    """The leases."""
    return Leases(redis)


@pytest.fixture
def quotas(redis: Redis) -> Quotas:
    """The quotas."""
    return Quotas(redis)


@pytest.fixture
def events(redis: Redis) -> Events:
    """The stream of events."""
    return Events(redis)


@pytest.fixture
def orphans(redis: Redis) -> Orphans:
    """The calls whose callers are owed a BYE."""
    return Orphans(redis)


@pytest.fixture
def reaper(redis: Redis) -> Reaper:
    """The reaper, step by step."""
    return Reaper(redis)
