"""Redis servers that die, stop and start empty, and a set whose Sentinels make another master."""

from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ConnectionError, TimeoutError

from bench.faults.redis import MASTER_NAME, RedisServer, RedisSet, running_redis


def client(server: RedisServer) -> "Redis":
    return Redis.from_url(server.url, socket_timeout=0.2)


def test_a_server_restarts_empty_on_the_same_port(tmp_path: Path) -> None:
    with running_redis(tmp_path) as server, client(server) as redis:
        port, pid = server.port, server.pid
        redis.set("key", "value")
        server.restart()
        assert server.port == port and server.pid != pid
        assert redis.get("key") is None


def test_a_paused_server_answers_nothing_and_forgets_nothing(tmp_path: Path) -> None:
    with running_redis(tmp_path) as server, client(server) as redis:
        redis.set("key", "value")
        server.pause()
        with pytest.raises(TimeoutError):
            redis.get("key")
        server.resume()
        assert redis.get("key") == b"value"


def test_a_stopped_server_is_gone(tmp_path: Path) -> None:
    with running_redis(tmp_path) as server, client(server) as redis:
        server.stop()
        with pytest.raises(ConnectionError):
            redis.get("key")


def test_sentinels_make_the_replica_the_master_on_demand_and_after_a_death(tmp_path: Path) -> None:
    with RedisSet(tmp_path) as redis_set:
        assert MASTER_NAME and len(redis_set.sentinels) == 3
        first, second = redis_set.servers
        assert redis_set.master is first
        with client(first) as redis:
            redis.set("key", "value")
            assert redis.wait(1, 5000) == 1
        assert redis_set.fail_over() is second
        with client(second) as redis:
            assert redis.get("key") == b"value"
            redis.set("key", "new")
        redis_set.await_replication()
        assert redis_set.kill_master() is first
        with client(first) as redis:
            assert redis.get("key") == b"new"
