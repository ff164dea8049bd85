"""A master that changes under way, found through Sentinels that may hang or be gone."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from redis.asyncio import Redis

from admin.ports import free_tcp_port
from bench.faults.redis import HOST, MASTER_NAME, RedisServer, RedisSet
from shared.control.address import RedisAddress
from shared.control.connection import CONNECTIONS_MAX, ask, connect
from shared.control.workers import Workers
from shared.errors import ConfigError, ControlUnavailable
from shared.ids import WorkerId
from shared.settings import RedisSettings, load
from shared.states import WorkerState
from tests.integration.control.pool import worker_record
from tests.integration.redis.conftest import PATIENCE_S, Authority

ONE = WorkerId("one")

FOUND_S = 20.0
"""Longest wait for a client to leave the old master: Sentinels take some seconds to make it a replica."""


@pytest.fixture
def redis_set(tmp_path: Path) -> Iterator[RedisSet]:
    """A master, a replica and three Sentinels."""
    with RedisSet(tmp_path) as running:
        yield running


def address_of(sentinels: list[tuple[str, int]]) -> RedisAddress:
    """Returns the address of the master that they name. The host in the URL is nobody's."""
    return RedisAddress("redis://192.0.2.1:1/0", sentinels=tuple(sentinels), sentinel_service=MASTER_NAME)


@asynccontextmanager
async def client_of(address: RedisAddress, timeout_s: float = PATIENCE_S) -> AsyncIterator[Redis]:
    """Connects for the block."""
    async with connect(address, timeout_s=timeout_s) as redis:
        yield redis


async def master_port(redis: Redis) -> int | None:
    """Returns the port of the server that answers, None when it is not a master."""
    role = await ask(redis, "ROLE")
    return int((await ask(redis, "CONFIG", "GET", "port"))[1]) if role[0] == b"master" else None


async def until_served_by(port: int, redis: Redis) -> None:
    """Sends heartbeats until that master takes them, registering where it has to: as every worker does."""
    workers = Workers(redis)
    async with asyncio.timeout(FOUND_S):
        while True:
            try:
                known = await workers.heartbeat(ONE, WorkerState.READY)
                if not known:
                    await workers.register(worker_record(ONE))
                elif await master_port(redis) == port:
                    return
            except ControlUnavailable:
                pass
            await asyncio.sleep(0.05)


async def test_scripts_run_on_the_new_master_after_the_old_one_was_demoted(redis_set: RedisSet) -> None:
    async with client_of(address_of(redis_set.sentinels)) as redis:
        before = redis_set.master
        await until_served_by(before.port, redis)
        await asyncio.gather(*(ask(redis, "PING") for _ in range(CONNECTIONS_MAX)))
        after = await asyncio.to_thread(redis_set.fail_over)
        assert after.port != before.port
        await until_served_by(after.port, redis)
        ports = await asyncio.gather(*(master_port(redis) for _ in range(4 * CONNECTIONS_MAX)))
        assert set(ports) == {after.port}
        assert [row.record.worker_id for row in await Workers(redis).table()] == [ONE]


async def test_scripts_run_on_the_new_master_after_the_old_one_was_killed(redis_set: RedisSet) -> None:
    async with client_of(address_of(redis_set.sentinels), timeout_s=1.0) as redis:
        await until_served_by(redis_set.master.port, redis)
        after = await asyncio.to_thread(redis_set.kill_master)
        await until_served_by(after.port, redis)
        assert [row.record.worker_id for row in await Workers(redis).table()] == [ONE]


async def test_sentinels_that_hang_or_are_gone_cost_nothing(redis_set: RedisSet) -> None:
    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silence, "127.0.0.1", 0) as server:
        hanging = ("127.0.0.1", int(server.sockets[0].getsockname()[1]))
        gone = ("127.0.0.1", free_tcp_port(HOST))
        async with client_of(address_of([hanging, gone, redis_set.sentinels[0]])) as redis, asyncio.timeout(5):
            assert await master_port(redis) == redis_set.master.port


@pytest.fixture
def guarded(authority: Authority, tmp_path: Path) -> Iterator[RedisAddress]:
    """A master and one Sentinel that speak TLS only, to who shows a certificate; the Sentinel wants a password too."""
    certificate, key = authority.issue("redis", "IP:127.0.0.1")
    port, sentinel_port = free_tcp_port(HOST), free_tcp_port(HOST)
    files = {"cert-file": certificate, "key-file": key, "ca-cert-file": authority.certificate}
    options = [word for name, path in files.items() for word in (f"--tls-{name}", str(path))]
    server = RedisServer(tmp_path, options=["--tls-port", str(port), *options])
    lines = [
        f"bind {HOST}", "port 0", f"tls-port {sentinel_port}", "tls-replication yes", "requirepass of-the-sentinel",
        *(f"tls-{name} {path}" for name, path in files.items()), f"sentinel monitor guarded {HOST} {port} 1",
    ]  # fmt: skip
    configuration = tmp_path / "sentinel.conf"
    configuration.write_text("\n".join([*lines, ""]))
    command = ["redis-server", str(configuration), "--sentinel"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) as process:
        yield RedisAddress(
            "rediss://ignored/0",
            sentinels=((HOST, sentinel_port),),
            sentinel_service="guarded",
            sentinel_password="of-the-sentinel",
            ca_file=str(authority.certificate),
            cert_file=str(certificate),
            key_file=str(key),
        )
        process.kill()
    server.stop()


async def test_sentinels_are_spoken_to_with_tls_and_their_own_password(guarded: RedisAddress) -> None:
    async with client_of(guarded) as redis:
        await until_known(redis)
        assert await Workers(redis).table() == []
    async with client_of(replace(guarded, sentinel_password="wrong")) as redis:
        with pytest.raises(ControlUnavailable, match=r"^MasterNotFoundError$"):
            await ask(redis, "PING")


async def until_known(redis: Redis) -> None:
    """Waits until the Sentinel has started and found the master."""
    async with asyncio.timeout(FOUND_S):
        while True:
            try:
                await ask(redis, "PING")
                return
            except ControlUnavailable:
                await asyncio.sleep(0.05)


async def test_no_sentinel_is_unavailable_within_the_deadline() -> None:
    nobody = ("127.0.0.1", free_tcp_port(HOST))
    async with client_of(address_of([nobody]), timeout_s=0.5) as redis:
        with pytest.raises(ControlUnavailable, match=r"^MasterNotFoundError$"):
            await ask(redis, "PING")


async def test_sentinels_that_do_not_know_the_name_are_unavailable(redis_set: RedisSet) -> None:
    address = RedisAddress("redis://", sentinels=tuple(redis_set.sentinels), sentinel_service="another")
    async with client_of(address) as redis:
        with pytest.raises(ControlUnavailable, match=r"^MasterNotFoundError$"):
            await ask(redis, "PING")


async def test_a_replica_in_place_of_the_master_is_left_for_the_master(redis_set: RedisSet) -> None:
    """Its connection was made while it was the master; nobody closed it."""
    master, replica = redis_set.servers
    async with client_of(address_of(redis_set.sentinels)) as redis, connect(master.url) as operator:
        assert await master_port(redis) == master.port
        await ask(operator, "REPLICAOF", "127.0.0.1", replica.port)
        try:
            with pytest.raises(ControlUnavailable):
                await Workers(redis).register(worker_record(ONE))
            assert not [c for c in redis.connection_pool._available_connections if c.is_connected]
        finally:
            await ask(operator, "REPLICAOF", "NO", "ONE")


def test_sentinels_are_hosts_and_ports_with_commas() -> None:
    settings = load(
        RedisSettings,
        REDIS_URL="redis://pool:secret@ignored/2",
        REDIS_SENTINELS="one.example:1, two.example ,[2001:db8::1]:3",
        REDIS_SENTINEL_PASSWORD="hidden",
    )
    assert settings.redis.sentinels == (("one.example", 1), ("two.example", 26379), ("2001:db8::1", 3))
    assert settings.redis.sentinel_service == "mymaster"
    assert settings.redis.sentinel_password == "hidden"
    assert "hidden" not in repr(settings) + repr(settings.redis)


@pytest.mark.parametrize("text", ["one:port", ":1", "redis://one:1", "one:1/0", "user@one:1", "one:99999"])
def test_sentinels_that_are_no_hosts_are_refused_by_the_name_of_the_variable(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^REDIS_SENTINELS: must be host:port, with commas between several$"):
        load(RedisSettings, REDIS_SENTINELS=text)


def test_a_socket_beside_sentinels_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^REDIS_URL: must start with redis:// or rediss:// beside REDIS_SENTINELS$"):
        load(RedisSettings, REDIS_URL="unix:///run/redis.sock", REDIS_SENTINELS="one:1")
