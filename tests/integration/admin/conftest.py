"""A client of an empty Redis, and a bare environment for the command line."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from admin.settings import all_settings
from shared.control.connection import connect


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Leaves no setting in the environment and no `.env` in the working directory, which is returned."""
    for name in {setting.name for setting in all_settings()} & os.environ.keys():
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A client that waits long enough for a busy machine."""
    client = connect(redis_url, timeout_s=20.0)
    yield client
    await client.aclose()
