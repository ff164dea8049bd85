"""Redis Cluster: every script of the pool stays in one slot."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis import Redis as SyncRedis

from admin.ports import free_tcp_port
from bench.faults.redis import HOST, READY_S, RedisServer
from shared.control import keys
from shared.control.connection import ask
from shared.control.workers import Workers
from shared.errors import ControlUnavailable
from tests.integration.redis.drive import Connecting, drive

SLOTS = 16384


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[RedisServer]]:
    """Two nodes of a cluster: the first one has the pool's slot and those before it, the second one the others."""
    running: list[RedisServer] = []
    try:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            bus_port = free_tcp_port(HOST)
            options = ["--cluster-enabled", "yes", "--cluster-port", str(bus_port)]
            running.append(RedisServer(tmp_path / name, options=options))
        first, second = (SyncRedis.from_url(node.url) for node in running)
        share_slots(first, second, HOST, running[1].port, bus_port)
        yield running
    finally:
        for node in running:
            node.stop()


def share_slots(first: Any, second: Any, *address: str | int) -> None:
    """Makes two nodes a cluster, `address` being the second one's, and waits until both know that they are."""
    with first, second:
        last = int(first.execute_command("CLUSTER KEYSLOT", keys.workers()))
        first.execute_command("CLUSTER ADDSLOTSRANGE", 0, last)
        second.execute_command("CLUSTER ADDSLOTSRANGE", last + 1, SLOTS - 1)
        first.execute_command("CLUSTER MEET", *address)
        deadline = time.monotonic() + READY_S
        while any(node.execute_command("CLUSTER INFO")["cluster_state"] != "ok" for node in (first, second)):
            assert time.monotonic() < deadline, "the nodes do not find each other"
            time.sleep(0.02)  # nothing announces it


async def test_every_script_runs_on_the_node_that_has_the_pools_slot(
    client: Connecting, nodes: list[RedisServer]
) -> None:
    first, second = (client(node.url) for node in nodes)
    await drive(first, first)
    assert await ask(first, "DBSIZE") > 0
    assert await ask(second, "DBSIZE") == 0


async def test_another_node_is_unavailable_and_not_followed(client: Connecting, nodes: list[RedisServer]) -> None:
    with pytest.raises(ControlUnavailable, match=r"^MovedError$"):
        await Workers(client(nodes[1].url)).table()
