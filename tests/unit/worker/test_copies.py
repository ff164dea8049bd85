"""Copies of final responses: which are sent, to whom, how often, and when they are not."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from shared.clock import steady_s
from tests.unit.worker.dispatchers import Table
from worker import copies
from worker.copies import ANSWER_COPIES, REFUSALS_MAX, Copies, SipAddress, copying

OURS = ("10.0.0.1", 5060)
SECOND = ("10.0.0.2", 5060)
THIRD = ("10.0.0.3", 5060)
ANSWER = b"SIP/2.0 200 OK\r\n\r\n"
REFUSAL = b"SIP/2.0 503 Service Unavailable\r\n\r\n"
LONG_AGO_S = 60.0
PATIENCE_S = 10.0


class Wire:
    """What was sent, and a way to wait for it."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, SipAddress]] = []
        self._more = asyncio.Event()

    def send(self, data: bytes, address: SipAddress) -> None:
        self.sent.append((data, address))
        self._more.set()

    async def wait(self, count: int) -> list[tuple[bytes, SipAddress]]:
        async with asyncio.timeout(PATIENCE_S):
            while len(self.sent) < count:
                self._more.clear()
                await self._more.wait()
        return sorted(self.sent)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(copies, "ANSWER_AFTER_S", 0.02)
    monkeypatch.setattr(copies, "ANSWER_INTERVAL_S", 0.02)
    monkeypatch.setattr(copies, "REFUSAL_AFTER_S", 0.02)
    yield


async def test_an_answer_that_nobody_acknowledges_goes_to_every_other_living_dispatcher() -> None:
    table, wire = Table(OURS, SECOND, THIRD), Wire()
    table.heard[THIRD] -= LONG_AGO_S
    await Copies(table, wire.send).until_acknowledged(ANSWER, OURS, asyncio.Event())
    assert wire.sent == [(ANSWER, SECOND)] * ANSWER_COPIES


async def test_an_acknowledged_answer_is_not_copied() -> None:
    table, wire, acknowledged = Table(OURS, SECOND), Wire(), asyncio.Event()
    acknowledged.set()
    await Copies(table, wire.send).until_acknowledged(ANSWER, OURS, acknowledged)
    assert (wire.sent, table.reads) == ([], 0)


async def test_an_answer_is_copied_no_more_once_it_is_acknowledged() -> None:
    table, wire, acknowledged = Table(OURS, SECOND), Wire(), asyncio.Event()
    copying_it = asyncio.create_task(Copies(table, wire.send).until_acknowledged(ANSWER, OURS, acknowledged))
    await wire.wait(1)
    acknowledged.set()
    await copying_it
    assert len(wire.sent) < ANSWER_COPIES


async def test_an_answer_is_copied_when_redis_is_back() -> None:
    table, wire = Table(SECOND), Wire()
    table.away = True
    copying_it = asyncio.create_task(Copies(table, wire.send).until_acknowledged(ANSWER, OURS, asyncio.Event()))
    async with asyncio.timeout(PATIENCE_S):
        await table.read.wait()
    table.away = False
    await copying_it
    assert wire.sent[0] == (ANSWER, SECOND)


async def test_a_refusal_is_copied_only_when_its_dispatcher_is_dead() -> None:
    table, wire = Table(OURS, SECOND, THIRD), Wire()
    refusals = Copies(table, wire.send)
    running = asyncio.create_task(refusals.run())
    refusals.refused(b"SIP/2.0 486 Busy Here\r\n\r\n", SECOND)
    refusals.refused(REFUSAL, ("10.0.0.9", 5060))
    assert await wire.wait(3) == [(REFUSAL, OURS), (REFUSAL, SECOND), (REFUSAL, THIRD)]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_refusal_waits_until_a_dead_dispatcher_is_known_to_be() -> None:
    table, wire = Table(SECOND), Wire()
    refusals = Copies(table, wire.send)
    running = asyncio.create_task(refusals.run())
    began = steady_s()
    refusals.refused(REFUSAL, OURS)
    await wire.wait(1)
    assert steady_s() - began >= copies.REFUSAL_AFTER_S
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_refusals_are_kept_up_to_a_bound() -> None:
    table, wire = Table(SECOND), Wire()
    refusals = Copies(table, wire.send)
    for number in range(REFUSALS_MAX + 10):
        refusals.refused(b"%04d" % number, OURS)
    running = asyncio.create_task(refusals.run())
    sent = await wire.wait(REFUSALS_MAX)
    assert [data for data, _ in sent] == [b"%04d" % number for number in range(10, REFUSALS_MAX + 10)]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_copies_leave_from_a_socket_of_their_own() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as dispatcher:
        dispatcher.bind(("127.0.0.1", 0))
        dispatcher.settimeout(PATIENCE_S)
        async with copying(Table(dispatcher.getsockname()), "127.0.0.1") as own:
            await own.until_acknowledged(ANSWER, OURS, asyncio.Event())
        data, (host, _) = await asyncio.to_thread(dispatcher.recvfrom, 4096)
    assert (data, host) == (ANSWER, "127.0.0.1")
