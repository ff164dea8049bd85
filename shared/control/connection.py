"""The way to Redis: a client with deadlines, and the one place where its exceptions become ControlUnavailable.

It knows no keys and no scripts.

What is tried again, and what is not:

- Making a connection is. A pooled one that the server has closed, or that has been idle and does not answer a PING in
  time, is replaced before it is used: a failover, a restart or a firewall that forgot it costs no command. Behind
  Sentinels one to a server that is the master no more is replaced as well.
- A command never is. It may have run although its answer was lost, so that only the caller knows whether a second try
  is harmless. What was under way when the connection broke is ControlUnavailable. redis-py's retry, which repeats
  commands, is off.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from time import perf_counter
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis, Sentinel, SSLConnection
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, SentinelConnectionPool, SentinelManagedConnection
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from shared.control.address import RedisAddress
from shared.errors import ControlUnavailable

_FAILURES = (RedisError, OSError, RuntimeError)
"""What a command or a connection fails with. RuntimeError is uvloop's, for writing to what has just been reset."""

CONNECTIONS_MAX = 16
"""Connections of one process. Commands take far less than a millisecond, so that more would only wait inside Redis."""

PROBE_AFTER_S = 15.0
"""A connection idle for longer is tried with a PING before it is used: a firewall may have dropped it silently."""

MASTER_LOOK_S = 1.0
"""How often the Sentinels are asked which server is the master."""

PROBE_SHARE = 0.25
"""Share of the deadline that the answer to that PING may take; the rest is for a new connection and the command."""


class Outcome(StrEnum):
    """How asking Redis for something ended."""

    OK = "ok"
    TIMEOUT = "timeout"
    """No answer within the deadline."""
    FAILED = "failed"
    """No connection, a broken one, or an error for an answer."""


Observe = Callable[[str, Outcome, float], None]
"""Is told what each operation was (a script's name, or a command's in lower case), how it ended, and how many seconds
its caller waited. It is called on the event loop: it has to be quick, and raises nothing."""


def connect(
    where: RedisAddress | str,
    *,
    timeout_s: float = 1.0,
    client_name: str = "voicepool",
    observe: Observe | None = None,
) -> Redis:
    """Returns a client; the caller closes it with `aclose()`. A string is the URL of an address that has nothing else.

    It connects at the first command, and again whenever it has to. Every command made through `answering` ends within
    `timeout_s`, connecting included, and is told to `observe`. `client_name` is what CLIENT LIST shows. Raises
    ValueError for bad TLS files.
    """
    address = RedisAddress(where) if isinstance(where, str) else where
    tls = address.tls_context()
    connecting: dict[str, Any] = {
        # `answering` holds the deadline. redis-py's own, on each write, would use asyncio.wait_for, which on
        # Python 3.11 swallows a cancellation that arrives while its inner task ends: tasks would not stop.
        "socket_timeout": None,
        "socket_connect_timeout": timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "client_name": client_name,
        "driver_info": None,  # CLIENT SETINFO came with Redis 7.2: before, no ACL can permit it
        "protocol": 2,  # what the scripts answer has no maps, and RESP2 spares a new connection the HELLO
    }
    pooling: dict[str, Any] = {
        **parse_url(address.url),
        **connecting,
        "max_connections": CONNECTIONS_MAX,
        "timeout": timeout_s,
        "health_check_interval": PROBE_AFTER_S,
    }
    if tls:
        pooling |= {"connection_class": _TlsConnection, "tls": tls}
    pool: _Pool
    if address.sentinels:
        pooling["connection_class"] = _MasterTlsConnection if tls else SentinelManagedConnection
        sentinels = _Sentinels(address, connecting, tls)
        pool = _MasterPool(address.sentinel_service, sentinels, **pooling)  # type: ignore[no-untyped-call]
    else:
        pool = _Pool(**pooling)
    pool.observe = observe
    return Redis.from_pool(pool)


@asynccontextmanager
async def answering(redis: Redis, operation: str) -> AsyncIterator[None]:
    """Raises ControlUnavailable when what is asked of `redis` inside fails, or takes longer than its timeout.

    `operation` is what the client's observer is told; who is cancelled while he waits is not told of. Also usable as a
    decorator of async functions. The message names the kind of error only, since Redis's own may show addresses and
    arguments.
    """
    pool = redis.connection_pool
    timeout_s: float | None = getattr(pool, "timeout", None)
    observe: Observe | None = getattr(pool, "observe", None)
    began = perf_counter()
    outcome: Outcome | None = None
    try:
        async with asyncio.timeout(timeout_s):
            yield
        outcome = Outcome.OK
    except _FAILURES as error:
        outcome = Outcome.TIMEOUT if isinstance(error, TimeoutError) else Outcome.FAILED
        raise ControlUnavailable(type(error).__name__) from error
    finally:
        if observe and outcome:
            observe(operation, outcome, perf_counter() - began)


async def ask(redis: Redis, *command: str | bytes | int) -> Any:
    """Returns the answer to one plain command, with bytes for strings; raises ControlUnavailable."""
    async with answering(redis, str(command[0]).lower()):
        return await redis.execute_command(*command)  # type: ignore[no-untyped-call]


class _Pool(BlockingConnectionPool):
    """Connections that have answered lately, or are new."""

    observe: Observe | None = None
    """Who is told how long its client waits for answers."""

    async def ensure_connection(self, connection: AbstractConnection) -> None:
        """Makes the connection anew when it is broken; nothing has been asked on it yet, so that this is harmless."""
        if connection.is_connected:
            try:
                async with asyncio.timeout(self.timeout and self.timeout * PROBE_SHARE):
                    await connection.check_health()  # type: ignore[no-untyped-call]
            except _FAILURES:
                await connection.disconnect(nowait=True)
        await super().ensure_connection(connection)


class _TlsConnection(SSLConnection):
    """A connection made with the one TLS context of its client.

    redis-py would make one for each, which takes the event loop 20 ms every time, and trust the system's authorities
    beside those of `ca_file`.
    """

    def __init__(self, *, tls: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self.ssl_context.context = tls


class _MasterTlsConnection(SentinelManagedConnection, _TlsConnection):
    """A TLS connection to the master that the Sentinels name."""


class _MasterPool(SentinelConnectionPool, _Pool):
    """Connections to the master that the Sentinels name; those to a former one are dropped.

    The Sentinels are asked every MASTER_LOOK_S, not only for new connections: after a failover that was ordered, the
    old master goes on to take writes for some ten seconds, and what it takes is lost.
    """

    _look_at = 0.0

    async def ensure_connection(self, connection: AbstractConnection) -> None:
        """Makes the connection anew when it is broken, or is not to the master; nothing has been asked on it yet."""
        if connection.is_connected:
            await self._look()
            if (connection.host, connection.port) != self.master_address:  # type: ignore[attr-defined]
                await connection.disconnect(nowait=True)
        await super().ensure_connection(connection)

    async def _look(self) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._look_at:
            return
        self._look_at = now + MASTER_LOOK_S
        with suppress(*_FAILURES):  # without a Sentinel the master is the one that was
            async with asyncio.timeout(self.timeout and self.timeout * PROBE_SHARE):
                await self.get_master_address()  # type: ignore[no-untyped-call]

    async def aclose(self) -> None:
        """Closes the connections to the master and to the Sentinels."""
        await super().aclose()
        await self.sentinel_manager.aclose()


class _Sentinels(Sentinel):
    """Asks all Sentinels at once: in turn, one that hangs would take the whole deadline every time."""

    def __init__(self, address: RedisAddress, connecting: dict[str, Any], tls: ssl.SSLContext | None) -> None:
        super().__init__([], sentinel_kwargs={})  # type: ignore[no-untyped-call]
        options = {**connecting, "password": address.sentinel_password or None, "max_connections": CONNECTIONS_MAX}
        if tls:
            options |= {"connection_class": _TlsConnection, "tls": tls}
        for host, port in address.sentinels:
            self.sentinels.append(Redis.from_pool(_Pool(host=host, port=port, **options)))

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """Returns the address that the first Sentinel to know a living master gives; raises MasterNotFoundError."""
        asking = [asyncio.create_task(self._master(sentinel, service_name)) for sentinel in self.sentinels]
        try:
            for answer in asyncio.as_completed(asking):
                if master := await answer:
                    return master
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        raise MasterNotFoundError

    async def _master(self, sentinel: Redis, service_name: str) -> tuple[str, int] | None:
        try:
            masters: Any = await sentinel.sentinel_masters()
        except _FAILURES:
            return None
        state = masters.get(service_name)
        if not state or not self.check_master_state(state, service_name):
            return None
        return state["ip"], state["port"]
