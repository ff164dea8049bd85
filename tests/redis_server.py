"""A private redis-server for tests: its own port, its own directory, nothing kept.

It does not decide what a test finds in it; the fixtures in `conftest.py` do.
"""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

STARTS = 3
"""Another process may take the free port between finding it and using it."""

READY_S = 20.0


class RedisServer:
    """One running redis-server process."""

    def __init__(self, directory: Path, port: int | None = None) -> None:
        """Starts it on `port`, or on a free one, and waits until it answers."""
        binary = shutil.which("redis-server")
        if binary is None:
            raise RuntimeError("the tests need redis-server, which is not installed (Debian: redis-server)")
        self._binary = binary
        self._directory = directory
        for _ in range(1 if port else STARTS):
            self.port = port or free_port()
            self._process = self._spawn()
            if self._ready():
                return
            self.stop()
        raise RuntimeError(f"redis-server did not start; see {directory / 'redis.log'}")

    @property
    def url(self) -> str:
        """Where it is reached."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def stop(self) -> None:
        """Ends the process; what it held is gone."""
        self._process.kill()
        self._process.wait()

    def flush(self) -> None:
        """Removes every key."""
        with Redis.from_url(self.url) as redis:
            redis.flushall()

    def _spawn(self) -> "subprocess.Popen[bytes]":
        with (self._directory / "redis.log").open("ab") as log:
            return subprocess.Popen(
                [self._binary, "--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no"],
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _ready(self) -> bool:
        deadline = time.monotonic() + READY_S
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                with Redis.from_url(self.url) as redis:
                    return int(redis.info("server")["process_id"]) == self.pid
            except RedisError:
                time.sleep(0.01)  # there is nothing to await before it listens
        return False


@contextmanager
def running_redis(directory: Path, port: int | None = None) -> Iterator[RedisServer]:
    """Runs a redis-server for the block."""
    server = RedisServer(directory, port)
    try:
        yield server
    finally:
        server.stop()


def free_port() -> int:
    """Returns a TCP port of the loopback address that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
