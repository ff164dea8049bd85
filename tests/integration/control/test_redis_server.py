"""The redis-server that tests are given."""

from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ConnectionError

from tests.redis_server import RedisServer, running_redis


def test_server_is_private_and_ends_with_its_block(tmp_path: Path, redis_server: RedisServer) -> None:
    with running_redis(tmp_path) as server:
        assert server.port != redis_server.port
        with Redis.from_url(server.url) as redis:
            assert redis.dbsize() == 0
    with Redis.from_url(server.url) as redis, pytest.raises(ConnectionError):
        redis.ping()
    assert [file.name for file in tmp_path.iterdir()] == ["redis.log"]


def test_missing_redis_server_is_a_failure_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="redis-server, which is not installed"):
        RedisServer(tmp_path)


def test_server_that_cannot_start_is_a_failure_that_names_its_log(tmp_path: Path, redis_server: RedisServer) -> None:
    with pytest.raises(RuntimeError, match=r"redis\.log"):
        RedisServer(tmp_path, redis_server.port)


def test_each_test_finds_it_empty(redis_url: str) -> None:
    with Redis.from_url(redis_url) as redis:
        assert redis.dbsize() == 0
        redis.set("left", "over")


def test_nothing_is_left_of_the_test_before(redis_url: str) -> None:
    with Redis.from_url(redis_url) as redis:
        assert redis.dbsize() == 0
