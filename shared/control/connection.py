"""The way to Redis: a client with deadlines, and the one place where its exceptions become ControlUnavailable.

It knows no keys and no scripts, and never tries again: a script may have run although its answer was lost, so that only
the caller knows whether a second try is harmless.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from shared.errors import ControlUnavailable

CONNECTIONS_MAX = 16
"""Connections of one process. Commands take far less than a millisecond, so that more would only wait inside Redis."""

HEALTH_CHECK_INTERVAL_S = 15.0
"""A connection idle for longer is tried with a PING before it is used: a firewall may have dropped it silently."""


def connect(url: str, *, timeout_s: float = 1.0, client_name: str = "voicepool") -> Redis:
    """Returns a client for `url` (redis://, rediss:// or unix://); the caller closes it with `aclose()`.

    It connects at the first command, and again whenever it has to. Every command made through `answering` ends within
    `timeout_s`, connecting included. `client_name` is what CLIENT LIST shows.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=CONNECTIONS_MAX,
        timeout=timeout_s,
        # `answering` holds the deadline. redis-py's own, on each read and write, would use asyncio.wait_for, which on
        # Python 3.11 swallows a cancellation that arrives while its inner task ends: tasks would not stop.
        socket_timeout=None,
        socket_connect_timeout=timeout_s,
        health_check_interval=HEALTH_CHECK_INTERVAL_S,
        retry=Retry(NoBackoff(), 0),
        client_name=client_name,
        protocol=2,  # what the scripts answer has no maps, and RESP2 spares a new connection the HELLO
    )
    return Redis.from_pool(pool)


@asynccontextmanager
async def answering(redis: Redis) -> AsyncIterator[None]:
    """Raises ControlUnavailable when what is asked of `redis` inside fails, or takes longer than its timeout.

    Also usable as a decorator of async functions. The message names the kind of error only, since Redis's own may show
    addresses and arguments.
    """
    timeout_s: float | None = getattr(redis.connection_pool, "timeout", None)
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except (RedisError, OSError) as error:
        raise ControlUnavailable(type(error).__name__) from error


async def ask(redis: Redis, *command: str | bytes | int) -> Any:
    """Returns the answer to one plain command, with bytes for strings; raises ControlUnavailable."""
    async with answering(redis):
        return await redis.execute_command(*command)  # type: ignore[no-untyped-call]
