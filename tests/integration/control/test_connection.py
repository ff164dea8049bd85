"""Redis that is slow, gone, restarted or sees many callers at once."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from shared.control import connection
from shared.control.connection import CONNECTIONS_MAX, Outcome, answering, ask, connect
from shared.control.leases import Leases
from shared.control.records import Records
from shared.control.workers import Workers
from shared.errors import ControlUnavailable
from shared.ids import CallId, LeaseId, WorkerId
from shared.messages import Lease
from shared.states import WorkerState
from tests.integration.control.pool import INVITE_AT_MS, call_record, worker_record
from tests.redis_server import RedisServer, free_port, running_redis

ONE = WorkerId("one")
LEASE = Lease(lease_id=LeaseId("lease"), call_id=CallId("a"), worker_id=ONE, offered_at_ms=1, invite_at_ms=1)

EVERY_METHOD: dict[str, Callable[[Redis], Awaitable[object]]] = {
    "register": lambda redis: Workers(redis).register(worker_record("one"), [LEASE]),
    "heartbeat": lambda redis: Workers(redis).heartbeat(ONE, WorkerState.READY),
    "unregister": lambda redis: Workers(redis).unregister(ONE),
    "table": lambda redis: Workers(redis).table(),
    "acquire": lambda redis: Leases(redis).acquire(CallId("a"), ONE, invite_at_ms=INVITE_AT_MS),
    "replace": lambda redis: Leases(redis).acquire(
        CallId("a"), ONE, invite_at_ms=INVITE_AT_MS, replacing=LeaseId("old")
    ),
    "claim": lambda redis: Leases(redis).claim(LEASE),
    "renew": lambda redis: Leases(redis).renew(ONE, [LEASE]),
    "release": lambda redis: Leases(redis).release(LEASE, call_record(LEASE)),
    "reap": lambda redis: Leases(redis).reap(),
    "read records": lambda redis: Records(redis).read(1),
}


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A redis-server that a test may stop."""
    with running_redis(tmp_path) as server:
        yield server


@pytest.fixture
async def impatient(own_server: RedisServer) -> AsyncIterator[Redis]:
    """A client that waits a short time only."""
    client = connect(own_server.url, timeout_s=0.2)
    yield client
    await client.aclose()


class Forgetful:
    """A firewall before Redis: connections it forgets stay open at both ends, and nothing passes any more."""

    def __init__(self, redis_port: int) -> None:
        self._redis_port = redis_port
        self._remembered: set[asyncio.StreamWriter] = set()
        self._answers = True
        self._writers: list[asyncio.StreamWriter] = []
        self.url = ""

    def forget(self) -> None:
        """Forgets all connections there are; new ones pass."""
        self._remembered.clear()
        self._answers = True

    def swallow_answers(self) -> None:
        """Lets questions through, and nothing back."""
        self._answers = False

    async def join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection."""
        to_read, to_write = await asyncio.open_connection("127.0.0.1", self._redis_port)
        self._remembered |= {writer, to_write}
        self._writers += [writer, to_write]
        async with asyncio.TaskGroup() as both:
            both.create_task(self._pass(reader, to_write, questions=True))
            both.create_task(self._pass(to_read, writer, questions=False))

    def close(self) -> None:
        """Closes all connections, the forgotten ones too."""
        for writer in self._writers:
            writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, questions: bool) -> None:
        while data := await reader.read(65536):
            if writer in self._remembered and (questions or self._answers):
                writer.write(data)


@asynccontextmanager
async def forgetful(redis_port: int) -> AsyncIterator[Forgetful]:
    """Runs one for the block."""
    firewall = Forgetful(redis_port)
    async with await asyncio.start_server(firewall.join, "127.0.0.1", 0) as server:
        firewall.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
        yield firewall
        firewall.close()


@pytest.mark.parametrize("method", EVERY_METHOD)
async def test_redis_that_is_not_there_is_unavailable(method: str) -> None:
    client = connect(f"redis://127.0.0.1:{free_port()}/0", timeout_s=0.2)
    with pytest.raises(ControlUnavailable):
        await EVERY_METHOD[method](client)
    await client.aclose()


async def test_redis_that_does_not_answer_is_unavailable(own_server: RedisServer, impatient: Redis) -> None:
    await ask(impatient, "PING")
    os.kill(own_server.pid, signal.SIGSTOP)
    for method in EVERY_METHOD.values():
        with pytest.raises(ControlUnavailable):
            await method(impatient)
    os.kill(own_server.pid, signal.SIGCONT)
    patient = connect(own_server.url, timeout_s=20)
    assert await Workers(patient).heartbeat(ONE, WorkerState.READY) is not None
    await patient.aclose()


async def test_address_that_accepts_and_says_nothing_is_unavailable() -> None:
    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silence, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client = connect(f"redis://127.0.0.1:{port}/0", timeout_s=0.2)
        with pytest.raises(ControlUnavailable):
            await Workers(client).table()
        await client.aclose()


async def test_redis_that_restarted_empty_serves_on_the_same_client(own_server: RedisServer, tmp_path: Path) -> None:
    client = connect(own_server.url, timeout_s=20)
    workers = Workers(client)
    await workers.register(worker_record("one"), [])
    own_server.stop()
    with pytest.raises(ControlUnavailable):
        await workers.table()
    with running_redis(tmp_path, own_server.port):
        assert not await workers.heartbeat(ONE, WorkerState.READY)
        await workers.register(worker_record("one"), [])
        assert [row.record.worker_id for row in await workers.table()] == [ONE]
        await client.aclose()


async def test_redis_that_lost_its_scripts_gets_them_again(redis: Redis, workers: Workers) -> None:
    await workers.table()
    await ask(redis, "SCRIPT", "FLUSH")
    assert await workers.table() == []


async def test_connections_that_the_server_closed_cost_no_command(redis: Redis, redis_url: str) -> None:
    await asyncio.gather(*(ask(redis, "PING") for _ in range(CONNECTIONS_MAX)))
    async with connect(redis_url, timeout_s=20) as operator:
        assert await ask(operator, "CLIENT", "KILL", "TYPE", "normal") == CONNECTIONS_MAX
    for _ in range(2):
        answers = await asyncio.gather(*(ask(redis, "ECHO", number) for number in range(CONNECTIONS_MAX)))
        assert answers == [str(number).encode() for number in range(CONNECTIONS_MAX)]


async def test_connections_that_a_firewall_forgot_cost_no_command(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PROBE_AFTER_S", 1e-6)  # every idle connection is old enough to be doubted
    async with forgetful(redis_server.port) as firewall, connect(firewall.url, timeout_s=4) as client:
        await asyncio.gather(*(ask(client, "PING") for _ in range(3)))
        firewall.forget()
        assert await ask(client, "ECHO", "still there") == b"still there"
        answers = await asyncio.gather(*(ask(client, "ECHO", number) for number in range(3)))
        assert answers == [b"0", b"1", b"2"]


async def test_a_command_whose_answer_was_lost_is_not_sent_again(redis_server: RedisServer) -> None:
    async with forgetful(redis_server.port) as firewall, connect(firewall.url, timeout_s=0.5) as client:
        await ask(client, "DEL", "counter")
        firewall.swallow_answers()
        with pytest.raises(ControlUnavailable):
            await ask(client, "INCR", "counter")
        firewall.forget()
        assert await ask(client, "GET", "counter") == b"1"


async def test_answer_of_an_abandoned_question_reaches_nobody_else(redis: Redis) -> None:
    for number in range(50):
        asking = asyncio.create_task(ask(redis, "ECHO", "abandoned"))
        for _ in range(number % 10):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        assert await ask(redis, "ECHO", f"{number}") == f"{number}".encode()


async def test_many_callers_share_few_connections(redis: Redis, workers: Workers) -> None:
    await asyncio.gather(*(workers.table() for _ in range(500)))
    clients: list[dict[str, str]] = await redis.client_list()
    ours = [client for client in clients if client["name"] == "voicepool"]
    assert 1 <= len(ours) <= CONNECTIONS_MAX


async def test_error_shows_neither_address_nor_arguments() -> None:
    client = connect(f"redis://user:secret@127.0.0.1:{free_port()}/0", timeout_s=0.2)
    with pytest.raises(ControlUnavailable) as caught:
        await ask(client, "ECHO", "private")
    assert str(caught.value) == "ConnectionError"
    await client.aclose()


async def test_seam_decorates_functions_and_lets_other_errors_pass(redis: Redis) -> None:
    @answering(redis, "fail")
    async def fail(error: Exception) -> None:
        raise error

    with pytest.raises(ControlUnavailable):
        await fail(OSError())
    with pytest.raises(KeyError):
        await fail(KeyError())


async def test_observer_is_told_of_every_operation_how_it_ended_and_how_long_it_took(own_server: RedisServer) -> None:
    told: list[tuple[str, Outcome, float]] = []
    client = connect(own_server.url, timeout_s=0.2, observe=lambda *what: told.append(what))
    await Workers(client).table()
    await ask(client, "ECHO", "private")
    with pytest.raises(ControlUnavailable):
        await ask(client, "GET")  # an error for an answer
    async with asyncio.timeout(10), client.client() as pausing:
        await pausing.client_pause(1_000)
        with pytest.raises(ControlUnavailable):
            await Leases(client).renew(ONE, [LEASE])
    await client.aclose()
    assert [(operation, outcome) for operation, outcome, _ in told] == [
        ("worker_table", Outcome.OK),
        ("echo", Outcome.OK),
        ("get", Outcome.FAILED),
        ("lease_renew", Outcome.TIMEOUT),
    ]
    assert all(0 < seconds < 0.2 for _, _, seconds in told[:3])
    assert 0.2 <= told[3][2] < 5


async def test_observer_is_not_told_of_who_was_cancelled(redis_url: str, redis: Redis) -> None:
    told: list[str] = []
    async with connect(redis_url, observe=lambda operation, *_: told.append(operation)) as client:
        waiting = asyncio.create_task(ask(client, "BLPOP", "nothing", 5))
        async with asyncio.timeout(5):
            while not any(each["cmd"] == "blpop" for each in await redis.client_list()):
                await ask(redis, "PING")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert told == []


async def test_unix_socket_is_an_address_too(tmp_path: Path) -> None:
    client = connect(f"unix://{tmp_path}/nobody.sock", timeout_s=0.2)
    with pytest.raises(ControlUnavailable):
        await Workers(client).table()
    await client.aclose()
