"""Asking the control plane from the command line: which Redis, and how the command exits when something is wrong.

It knows no keys and prints nothing.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import click
from redis.asyncio import Redis

from admin import settings
from admin.operations.finding import Ambiguous, NotFound
from shared.control.address import RedisAddress
from shared.control.connection import connect
from shared.errors import ConfigError, ControlUnavailable
from shared.settings import RedisSettings, load

T = TypeVar("T")

EXIT_CODES = """\b
Exit codes:
  0  done
  1  refused or failed; the reason is on stderr
  2  wrong usage or settings
  3  there is nothing with that id, or more than one thing
  4  Redis does not answer
"""
"""For the end of a command's help; click breaks no lines after \\b."""


class BadSettings(click.ClickException):
    """The REDIS_ settings are no good."""

    exit_code = 2


class NoSuchId(click.ClickException):
    """An id is nothing's, or not one's alone."""

    exit_code = 3


class NoAnswer(click.ClickException):
    """Redis does not answer."""

    exit_code = 4


def redis_address() -> RedisAddress:
    """Returns where the REDIS_ settings of the environment and `.env` say that Redis is."""
    try:
        return load(RedisSettings).redis
    except ConfigError as error:
        raise BadSettings(str(error)) from error


def from_redis(query: Callable[[Redis], Coroutine[Any, Any, T]]) -> T:
    """Returns what the query returns that is made with a client; what goes wrong ends the command with its code."""
    address = redis_address()
    try:
        return asyncio.run(_with_client(address, query))
    except (NotFound, Ambiguous) as error:
        raise NoSuchId(str(error)) from error
    except ControlUnavailable as error:
        raise NoAnswer(f"Redis at {settings.mask(address.url)} does not answer ({error})") from error


async def _with_client(address: RedisAddress, query: Callable[[Redis], Coroutine[Any, Any, T]]) -> T:
    client = connect(address, client_name="voicepool-cli")
    try:
        return await query(client)
    finally:
        await client.aclose()
