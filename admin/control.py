"""Asking the control plane from the command line: which Redis, and what is said when it does not answer.

It knows no keys and prints nothing.
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import click

from admin import settings
from shared.errors import ControlUnavailable
from shared.settings import PoolSettings

T = TypeVar("T")


def redis_url() -> str:
    """Returns REDIS_URL of the environment or `.env`, or its default."""
    default: str = PoolSettings.model_fields["redis_url"].default
    return settings.environment_and_file().get("REDIS_URL") or default


def from_redis(query: Coroutine[Any, Any, T]) -> T:
    """Returns what the query returns; a Redis that does not answer ends the command, its password not shown."""
    try:
        return asyncio.run(query)
    except ControlUnavailable as error:
        raise click.ClickException(f"Redis at {settings.mask(redis_url())} does not answer ({error})") from error
