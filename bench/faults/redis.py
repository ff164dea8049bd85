"""Private redis-servers that may die: killed, paused, restarted empty; and a set with Sentinels and forced failover.

They keep nothing on disk and listen on loopback only. What is in them is the pool's business.
"""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from redis import Redis, Sentinel
from redis.exceptions import RedisError

from admin.ports import free_tcp_port
from bench.faults.processes import ProcessFault, Target

HOST = "127.0.0.1"

STARTS = 3
"""Another process may take the free port between finding it and using it."""

READY_S = 20.0

FAILOVER_S = 30.0
"""Longest wait for Sentinels to agree, once they know each other, and to have made a new master."""

SENTINELS = 3
QUORUM = 2
DOWN_AFTER_MS = 1000
"""A server that has not answered for this long is down in the eyes of one Sentinel."""

FAILOVER_TIMEOUT_MS = 1000
"""Sentinels wait for twice as long before they try the same master again."""

MASTER_NAME = "voicepool"
"""What the Sentinels call the set."""

_POLL_S = 0.02
_ANSWER_S = 1.0


class RedisServer:
    """One redis-server process, running from the start."""

    def __init__(self, directory: Path, port: int | None = None, options: Sequence[str] = ()) -> None:
        """Starts it on `port`, or on a free one, and waits until it answers; raises RuntimeError when it does not.

        `options` are further ones of redis-server; they hold for restarts too.
        """
        binary = shutil.which("redis-server")
        if binary is None:
            raise RuntimeError("this needs redis-server, which is not installed (Debian: redis-server)")
        self._binary = binary
        self._directory = directory
        self._options = options
        for _ in range(1 if port else STARTS):
            self.port = port or free_tcp_port(HOST)
            if self._start():
                return
        raise RuntimeError(f"redis-server did not start; see {directory / 'redis.log'}")

    @property
    def url(self) -> str:
        """Where it is reached."""
        return f"redis://{HOST}:{self.port}/0"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def stop(self) -> None:
        """Kills the process; what it held is gone."""
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        """Kills it if it still runs, and starts it empty on the same port; raises RuntimeError."""
        self.stop()
        if not self._start():
            raise RuntimeError(f"redis-server did not start again; see {self._directory / 'redis.log'}")

    def pause(self) -> None:
        """Freezes it: connections stay, and nothing is answered."""
        Target.of(self.pid).inject(ProcessFault.FREEZE)

    def resume(self) -> None:
        """Lets a frozen one go on with all it held; its clock has gone on, so that much has expired."""
        Target.of(self.pid).inject(ProcessFault.THAW)

    def flush(self) -> None:
        """Removes every key."""
        with Redis.from_url(self.url) as redis:
            redis.flushall()

    def _start(self) -> bool:
        """Returns whether it came up; nothing is left of it otherwise."""
        self._process = self._spawn()
        if self._ready():
            return True
        self.stop()
        return False

    def _spawn(self) -> "subprocess.Popen[bytes]":
        arguments = ["--bind", HOST, "--port", str(self.port), "--save", "", "--appendonly", "no", *self._options]
        return _spawned([self._binary, *arguments], self._directory)

    def _ready(self) -> bool:
        deadline = time.monotonic() + READY_S
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                with Redis.from_url(self.url, socket_timeout=_ANSWER_S) as redis:
                    return int(redis.info("server")["process_id"]) == self.pid
            except RedisError:
                time.sleep(_POLL_S)  # there is nothing to await before it listens
        return False


class RedisSet:
    """A master, its replica and three Sentinels: `with RedisSet(directory) as redis_set`. Raises RuntimeError."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = ExitStack()
        self.sentinels: list[tuple[str, int]] = []
        """Where the Sentinels are."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            first = self._server(stack, "first")
            second = self._server(stack, "second", "--replicaof", HOST, str(first.port))
            self.servers = (first, second)
            """Both servers; the master is the first one until there is a failover."""
            _until(lambda: _replicates(second), READY_S, "the replica does not replicate")
            for number in range(SENTINELS):
                self._sentinel(stack, number, first.port)
            self._asker = Sentinel(self.sentinels, socket_timeout=_ANSWER_S)  # type: ignore[no-untyped-call]
            for sentinel in self._asker.sentinels:
                stack.callback(sentinel.close)
            _until(self._acquainted, FAILOVER_S, "the Sentinels do not find each other")
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def master(self) -> RedisServer:
        """The server that the Sentinels say is the master; raises RedisError when they do not know."""
        _, port = self._asker.discover_master(MASTER_NAME)  # type: ignore[no-untyped-call]
        return next(server for server in self.servers if server.port == port)

    def fail_over(self) -> RedisServer:
        """Has the replica made the master, without anything dying, and returns the new master; raises RuntimeError."""
        before = self.master
        # Refused as long as the Sentinel has not heard from the replica that it is fit: it asks every ten seconds.
        _until(self._order_failover, FAILOVER_S, "the Sentinel refuses to make another master")
        return self.await_master(other_than=before)

    def kill_master(self) -> RedisServer:
        """Kills the master and returns the one that took its place; raises RuntimeError when none does in time."""
        before = self.master
        before.stop()
        return self.await_master(other_than=before)

    def await_replication(self) -> None:
        """Returns once the server that is not the master replicates it, and the Sentinels know; raises RuntimeError."""
        [replica] = [server for server in self.servers if server is not self.master]
        _until(lambda: _replicates(replica) and self._acquainted(), FAILOVER_S, "the old master does not replicate")

    def await_master(self, other_than: RedisServer) -> RedisServer:
        """Returns the new master once all Sentinels agree on it and it takes writes; raises RuntimeError."""
        [successor] = [server for server in self.servers if server is not other_than]

        def promoted() -> bool:
            named: list[Any] = [
                sentinel.sentinel_get_master_addr_by_name(MASTER_NAME) for sentinel in self._asker.sentinels
            ]
            with Redis.from_url(successor.url, socket_timeout=_ANSWER_S) as redis:
                master = redis.info("replication")["role"] == "master"
            return master and all(port == successor.port for _, port in named)

        _until(promoted, FAILOVER_S, "the Sentinels have not made another master")
        return successor

    def _order_failover(self) -> bool:
        return bool(self._asker.sentinels[0].sentinel_failover(MASTER_NAME))

    def _server(self, stack: ExitStack, name: str, *options: str) -> RedisServer:
        server = RedisServer(_made(self._directory / name), options=options)
        stack.callback(server.stop)
        return server

    def _sentinel(self, stack: ExitStack, number: int, master_port: int) -> None:
        directory, port = _made(self._directory / f"sentinel-{number}"), free_tcp_port(HOST)
        configuration = directory / "sentinel.conf"
        lines = [
            f"bind {HOST}",
            f"port {port}",
            f"sentinel monitor {MASTER_NAME} {HOST} {master_port} {QUORUM}",
            f"sentinel down-after-milliseconds {MASTER_NAME} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {MASTER_NAME} {FAILOVER_TIMEOUT_MS}",
        ]
        configuration.write_text("\n".join([*lines, ""]))  # the process rewrites it
        process = _spawned(["redis-server", configuration.name, "--sentinel"], directory)
        stack.callback(process.wait)
        stack.callback(process.kill)
        self.sentinels.append((HOST, port))

    def _acquainted(self) -> bool:
        """Whether each Sentinel knows the others and the replica; they learn of them through the master."""
        states: list[Any] = [sentinel.sentinel_master(MASTER_NAME) for sentinel in self._asker.sentinels]
        return all(state["num-other-sentinels"] == SENTINELS - 1 and state["num-slaves"] == 1 for state in states)


@contextmanager
def running_redis(directory: Path, port: int | None = None) -> Iterator[RedisServer]:
    """Runs a redis-server for the block."""
    server = RedisServer(directory, port)
    try:
        yield server
    finally:
        server.stop()


def _replicates(server: RedisServer) -> bool:
    with Redis.from_url(server.url, socket_timeout=_ANSWER_S) as redis:
        return bool(redis.info("replication").get("master_link_status") == "up")


def _spawned(command: Sequence[str], directory: Path) -> "subprocess.Popen[bytes]":
    with (directory / "redis.log").open("ab") as log:
        return subprocess.Popen(command, cwd=directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def _made(directory: Path) -> Path:
    directory.mkdir(exist_ok=True)
    return directory


def _until(happened: Callable[[], bool], timeout_s: float, failure: str) -> None:
    """Asks again and again, for what no process announces; raises RuntimeError when the time is over."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if happened():
                return
        except RedisError:
            pass  # not yet up, or already gone
        if time.monotonic() > deadline:
            raise RuntimeError(failure)
        time.sleep(_POLL_S)
