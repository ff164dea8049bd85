"""The users of docs/redis.acl: each can do its work, and nothing else."""

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from redis import Redis as SyncRedis
from redis.asyncio import Redis

from admin import top
from admin.operations import act, targets
from admin.operations.shapes import Result
from bench.faults.redis import RedisServer
from shared.control.connection import ask
from shared.control.leases import Leases
from shared.control.workers import Workers
from shared.errors import ControlUnavailable
from shared.ids import CallId, WorkerId
from shared.messages import CommandName
from shared.states import WorkerState
from tests.integration.control.pool import INVITE_AT_MS, worker_record
from tests.integration.redis.drive import (
    Connecting,
    carry,
    command,
    deliver,
    drive,
    leave,
    obeying,
    scripts_not_run,
    watch,
)

ACL = Path(__file__).parents[3] / "docs" / "redis.acl"

USERS = ("voicepool", "voicepool-operator", "voicepool-metrics", "voicepool-webhooks")

DEFAULT_OFF = "user default off"


@pytest.fixture(scope="module")
def whole_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis that has taken the file but for its first line, so that the test can get in without being a user."""
    directory = tmp_path_factory.mktemp("acl")
    text = ACL.read_text("utf-8")
    assert text.startswith(f"{DEFAULT_OFF}\n")
    (directory / "users.acl").write_text(text.replace(DEFAULT_OFF, "user default on nopass ~* &* +@all", 1))
    server = RedisServer(directory, options=["--aclfile", "users.acl", "--enable-debug-command", "yes"])
    yield server
    server.stop()


@pytest.fixture
def server(whole_server: RedisServer) -> RedisServer:
    """The same, empty, and without a script."""
    with SyncRedis.from_url(whole_server.url) as redis:
        redis.flushall()
        redis.script_flush()
    return whole_server


def line_of(user: str) -> str:
    """Returns what the file says of a user."""
    [line] = [line for line in ACL.read_text("utf-8").splitlines() if line.startswith(f"user {user} ")]
    return line


def as_user(server: RedisServer, name: str) -> str:
    """Returns the URL by which that user gets in."""
    [password] = re.findall(r">(\S+)", line_of(name))
    return server.url.replace("://", f"://{name}:{password}@")


async def commands_run(redis: Redis) -> set[str]:
    """Returns the names of all commands since CONFIG RESETSTAT, those inside scripts too."""
    statistics: dict[str, Any] = await redis.info("commandstats")
    return {name.removeprefix("cmdstat_") for name, of in statistics.items() if of["calls"]} - {
        "info", "config|resetstat", "auth",  # those of the test, and the one that needs no permission
    }  # fmt: skip


def commands_allowed(user: str) -> set[str]:
    """Returns the names of the commands that a user is permitted, for whichever key."""
    return set(re.findall(r"\+([a-z|]+)", line_of(user)))


def commands_in_scripts() -> set[str]:
    """Returns what the Lua files call."""
    texts = [file.read_text("utf-8") for file in files("shared.control").iterdir() if file.name.endswith(".lua")]
    return {name.lower() for text in texts for name in re.findall(r"redis\.call\('(\w+)'", text)}


async def test_the_pools_user_can_do_all_that_the_pool_does_and_nothing_else(
    client: Connecting, server: RedisServer
) -> None:
    redis, clock = client(as_user(server, "voicepool")), client(server.url)
    operator = client(as_user(server, "voicepool-operator"))
    await carry(redis, clock)
    await watch(redis)
    await deliver(client(as_user(server, "voicepool-webhooks")), clock)
    await command(operator, redis)
    await leave(redis)
    assert await scripts_not_run(clock) == set()


async def test_no_user_is_permitted_a_command_that_nobody_runs(client: Connecting, server: RedisServer) -> None:
    redis = client(server.url)
    await ask(redis, "CONFIG", "RESETSTAT")
    await drive(redis, redis)
    await ask(redis, "PING")  # of a connection that was idle for long
    run = await commands_run(redis) | commands_in_scripts()
    allowed = {user: commands_allowed(user) for user in USERS}
    assert {user: names - run for user, names in allowed.items()} == {user: set() for user in USERS}
    assert commands_in_scripts() - allowed["voicepool"] == set()


async def test_the_operators_user_reads_and_commands_but_writes_nothing_else(
    client: Connecting, server: RedisServer
) -> None:
    operator, everything = client(as_user(server, "voicepool-operator")), client(server.url)
    await carry(everything, everything)
    await watch(operator)
    await command(operator, everything)
    for key in ("records", "events", "orphans"):
        with pytest.raises(ControlUnavailable, match=r"^NoPermissionError$"):
            await ask(operator, "XADD", f"{{voicepool}}:{key}", "*", "record", "forged")
    with pytest.raises(ControlUnavailable):
        await leave(operator)


async def test_the_command_line_needs_no_more_than_the_operators_user(client: Connecting, server: RedisServer) -> None:
    operator, pool = client(as_user(server, "voicepool-operator")), client(as_user(server, "voicepool"))
    one = WorkerId("pod-0-one")
    await Workers(pool).register(worker_record(one))
    await Workers(pool).heartbeat(one, WorkerState.READY)
    await Leases(pool).claim(await Leases(pool).acquire(CallId("call"), one, invite_at_ms=INVITE_AT_MS))
    assert [call.call_id for call in (await top.see(operator)).calls] == ["call"]
    async with obeying(pool, one) as told:
        for name, chosen, argument in (
            (CommandName.DRAIN, await targets.processes(operator, ["pod-0"]), ""),
            (CommandName.UNDRAIN, await targets.processes(operator, [], everything=True), ""),
            (CommandName.TRANSFER, await targets.calls(operator, ["ca"]), "desk"),
            (CommandName.HANGUP, await targets.calls(operator, [], worker="pod-0"), ""),
        ):
            assert [outcome.result for outcome in await act.run(operator, name, chosen, argument)] == [Result.DONE]
    assert [command.name for command in told] == ["drain", "undrain", "transfer", "hangup"]


async def test_the_senders_user_reads_events_and_keeps_dead_letters_and_nothing_else(
    client: Connecting, server: RedisServer
) -> None:
    sender, everything = client(as_user(server, "voicepool-webhooks")), client(server.url)
    await carry(everything, everything)
    await deliver(sender, everything)
    for refused in (
        "XADD {voicepool}:events * event forged", "XDEL {voicepool}:events 1-0", "XRANGE {voicepool}:records - +",
        "XRANGE {voicepool}:events - +", "XACK {voicepool}:records webhooks 1-0", "HGETALL {voicepool}:registrations",
        "EVALSHA 0123456789012345678901234567890123456789 0", "XADD {voicepool}:commands:one * command forged",
    ):  # fmt: skip
        with pytest.raises(ControlUnavailable, match=r"^NoPermissionError$"):
            await ask(sender, *refused.split())


async def test_the_metrics_user_only_reads(client: Connecting, server: RedisServer) -> None:
    metrics, everything = client(as_user(server, "voicepool-metrics")), client(server.url)
    await carry(everything, everything)
    await watch(metrics)
    with pytest.raises(ControlUnavailable):
        await leave(metrics)
    with pytest.raises(ControlUnavailable, match=r"^NoPermissionError$"):
        await ask(metrics, "XADD", "{voicepool}:commands:one", "*", "command", "forged")


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize(
    "refused",
    [
        "FLUSHALL", "FLUSHDB", "CONFIG GET *", "CONFIG SET maxmemory 1", "KEYS *", "SCAN 0", "SCRIPT FLUSH",
        "DEBUG SLEEP 0", "SHUTDOWN NOSAVE", "MONITOR", "CLIENT LIST", "ACL LIST", "REPLICAOF NO ONE", "EVAL return 0",
        "PUBLISH channel word", "GET other", "SET other 1", "SET voicepool 1", "HGET other field", "XRANGE other - +",
        "HSET {voicepool2}:workers one 1", "ZADD other 1 one",
    ],
)  # fmt: skip
async def test_what_has_no_business_there_is_refused(
    client: Connecting, server: RedisServer, user: str, refused: str
) -> None:
    with pytest.raises(ControlUnavailable, match=r"^NoPermissionError$"):
        await ask(client(as_user(server, user)), *refused.split())


async def test_scripts_reach_no_key_outside_either(client: Connecting, server: RedisServer) -> None:
    redis = client(as_user(server, "voicepool"))
    sha = (await ask(redis, "SCRIPT", "LOAD", "return redis.call('SET', 'other', 1)")).decode()
    with pytest.raises(ControlUnavailable):
        await ask(redis, "EVALSHA", sha, 0)
    with pytest.raises(ControlUnavailable, match=r"^NoPermissionError$"):
        await ask(redis, "EVALSHA", sha, 1, "other")
