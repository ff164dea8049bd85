"""What a dispatcher tells systemd, which started it as `Type=notify`."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_dispatcher_process import dispatcher, worker
from tests.notify_socket import Listener


@pytest.fixture
def address(tmp_path: Path) -> str:
    return str(tmp_path / "notify")


@pytest.fixture
def systemd(address: str) -> Iterator[Listener]:
    listener = Listener(address)
    yield listener
    listener.close()


async def test_it_is_ready_when_it_listens_and_alive_as_long_as_its_loop_turns(
    systemd: Listener, address: str, tmp_path: Path, redis_url: str
) -> None:
    async with (
        worker(redis_url),
        dispatcher(tmp_path, redis_url, NOTIFY_SOCKET=address, SIP_STOP_GRACE_S="30") as running,
    ):
        told = ["STATUS=workers ready: 1; slots free: 10", "WATCHDOG=1"]
        assert await systemd.until("READY=1") == ["READY=1", *told]
        assert await systemd.until("WATCHDOG=1") == told
        running.process.terminate()
        assert await systemd.until("STOPPING=1") == ["STOPPING=1", "STATUS=draining", "WATCHDOG=1"]


async def test_it_is_ready_without_redis(systemd: Listener, address: str, tmp_path: Path) -> None:
    async with dispatcher(tmp_path, "redis://127.0.0.1:9", NOTIFY_SOCKET=address):
        assert await systemd.until("READY=1") == ["READY=1", "STATUS=no worker is alive", "WATCHDOG=1"]
