"""The worker's resources: which are cut off, how they come back, and what the budgets are told."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from azure.core.credentials import AzureKeyCredential

from shared.control.quotas import Quotas
from shared.errors import ControlUnavailable, UpstreamError
from worker import circuit, resources
from worker.resources import Resources
from worker.voicelive.connection import Connection, Resource
from worker.voicelive.events import SessionCreated, SessionInfo

PATIENCE_S = 10.0
LOST = UpstreamError("cannot connect")
WRONG_KEY = UpstreamError("handshake refused with 401", status=401)


class Service:
    """A resource that answers as it is told, and notes who asks."""

    def __init__(self) -> None:
        self.error: UpstreamError | None = None
        self.silent = False
        self.opened = asyncio.Semaphore(0)
        self.attempts = 0
        self.closed = 0

    @asynccontextmanager
    async def __call__(self, resource: Resource) -> AsyncIterator[Connection]:
        self.attempts += 1
        self.opened.release()
        if self.silent:
            await asyncio.Event().wait()
        if self.error:
            raise self.error
        try:
            yield cast(Connection, self)
        finally:
            self.closed += 1

    async def events(self) -> AsyncIterator[SessionCreated]:
        yield SessionCreated(session=SessionInfo(id="probe"))


class Budgets:
    """What was told of the budgets."""

    def __init__(self) -> None:
        self.spent: list[tuple[str, int, int]] = []
        self.throttlings: list[tuple[str, float | None]] = []
        self.away = False
        self.told = asyncio.Semaphore(0)

    async def spend(self, resource: str, *, connections: int = 0, tokens: int = 0) -> None:
        self.told.release()
        if self.away:
            raise ControlUnavailable("away")
        self.spent.append((resource, connections, tokens))

    async def throttled(self, resource: str, retry_after_s: float | None) -> None:
        self.throttlings.append((resource, retry_after_s))
        self.told.release()


class Known:
    """The agents' resources."""

    def __init__(self) -> None:
        self.names = {"east", "west"}

    def resources(self) -> frozenset[str]:
        return frozenset(self.names)

    def resource(self, name: str) -> Resource:
        assert name in self.names
        return Resource(f"wss://{name}", AzureKeyCredential("any"))


class Stage:
    """Resources over a service, budgets and agents that the test holds."""

    def __init__(self) -> None:
        self.service, self.budgets, self.known = Service(), Budgets(), Known()
        self.changes = asyncio.Semaphore(0)
        quotas: Any = self.budgets
        self.resources = Resources(self.known, cast(Quotas, quotas), 0.2, self.changes.release, self.service)

    async def connect(self, name: str = "east", *, paid: bool = True) -> None:
        async with self.resources.open(name, self.known.resource(name), paid=paid):
            pass

    async def fail(self, error: UpstreamError, times: int = 1, name: str = "east") -> None:
        self.service.error = error
        for _ in range(times):
            with pytest.raises(UpstreamError):
                await self.connect(name)


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(circuit, "PROBE_FIRST_S", 0.01)
    monkeypatch.setattr(resources, "SPEND_INTERVAL_S", 0.01)
    yield


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    running = asyncio.create_task(stage.resources.run())
    async with asyncio.timeout(PATIENCE_S):
        yield stage
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_resource_that_fails_again_and_again_is_cut_off_and_no_other(stage: Stage) -> None:
    await stage.fail(LOST, circuit.FAILURES_MAX - 1)
    assert stage.resources.cut_off == []
    await stage.fail(LOST)
    assert stage.resources.cut_off == ["east"]
    await stage.changes.acquire()


async def test_the_worker_itself_finds_out_that_a_resource_is_back(stage: Stage) -> None:
    await stage.fail(WRONG_KEY)
    await stage.changes.acquire()
    for _ in range(3):  # the call's attempt, and two probes that fail
        await stage.service.opened.acquire()
    stage.service.error = None
    await stage.changes.acquire()
    assert stage.resources.cut_off == []
    assert stage.service.closed == 1


async def test_a_resource_that_does_not_answer_is_cut_off_too(stage: Stage) -> None:
    stage.service.silent = True
    for _ in range(circuit.FAILURES_MAX):
        with pytest.raises(UpstreamError):
            await stage.connect()
    assert stage.resources.cut_off == ["east"]


async def test_a_call_that_gets_through_closes_the_circuit(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(circuit, "PROBE_FIRST_S", PATIENCE_S)
    await stage.fail(WRONG_KEY)
    stage.service.error = None
    await stage.connect()
    assert stage.resources.cut_off == []


async def test_a_resource_that_no_agent_uses_any_more_is_forgotten(stage: Stage) -> None:
    await stage.fail(WRONG_KEY)
    await stage.changes.acquire()
    stage.known.names.remove("east")
    await stage.changes.acquire()
    assert stage.resources.cut_off == []


async def test_each_resource_is_probed_while_another_one_does_not_answer(stage: Stage) -> None:
    await stage.fail(WRONG_KEY, name="east")
    stage.service.silent = True
    await stage.service.opened.acquire()
    await stage.service.opened.acquire()  # the probe of east hangs
    stage.service.silent = False
    await stage.fail(WRONG_KEY, name="west")
    stage.service.error = None
    while stage.resources.cut_off:
        await stage.changes.acquire()


async def test_connections_beyond_the_lease_and_tokens_are_told_together(stage: Stage) -> None:
    await stage.connect(paid=True)
    await stage.connect(paid=False)
    stage.resources.spend("east", 100)
    stage.resources.spend("east", 20)
    stage.resources.spend("west", 3)
    await stage.budgets.told.acquire()
    await stage.budgets.told.acquire()
    assert sorted(stage.budgets.spent) == [("east", 1, 120), ("west", 0, 3)]


async def test_probes_are_told_as_connections(stage: Stage) -> None:
    await stage.fail(WRONG_KEY)
    stage.service.error = None
    await stage.budgets.told.acquire()
    assert stage.budgets.spent[0][:2] == ("east", 1)


async def test_what_could_not_be_told_is_told_later(stage: Stage) -> None:
    stage.budgets.away = True
    stage.resources.spend("east", 100)
    await stage.budgets.told.acquire()
    stage.resources.spend("east", 20)
    stage.budgets.away = False
    while not stage.budgets.spent:
        await stage.budgets.told.acquire()
    assert stage.budgets.spent == [("east", 0, 120)]


async def test_a_429_is_told_at_once_and_cuts_nothing_off(stage: Stage) -> None:
    await stage.fail(UpstreamError("refused", status=429, retry_after_s=7.0), 5)
    await stage.budgets.told.acquire()
    assert ("east", 7.0) in stage.budgets.throttlings
    assert stage.resources.cut_off == []
