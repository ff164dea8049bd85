"""An empty Redis with its events, and a customer who takes webhooks."""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from shared.control.connection import connect
from shared.control.events import Events
from tests.integration.webhooks.customer import Customer, serving


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A client that waits long enough for a busy machine."""
    client = connect(redis_url, timeout_s=20.0)
    yield client
    await client.aclose()


@pytest.fixture
def events(redis: Redis) -> Events:
    """The events."""
    return Events(redis)


@pytest.fixture
async def customer() -> AsyncIterator[Customer]:
    """A customer who takes everything."""
    async with serving(Customer()) as customer:
        yield customer
