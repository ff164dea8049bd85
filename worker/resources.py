"""The worker's way to Voice Live: connections for its calls, which resources it can reach, and what it uses of them.

It decides nothing about calls (`worker/voicelive/session.py` does), nor who gets one: placement does, by `cut_off`.
The budgets are in Redis, which is told here what was used without asking.

    open ----> connection              first of a call: paid for by its lease; every further one: spent
      |------> circuit ----> cut_off   probed by the worker itself until it is back
      '- 429 -> Quotas.throttled
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import NoReturn, Protocol

import structlog

from shared.control.quotas import Quotas
from shared.errors import ControlUnavailable, UpstreamError
from worker.circuit import THROTTLED, Circuit
from worker.voicelive.connection import Connection, Resource, open_connection
from worker.voicelive.events import SessionCreated

log = structlog.get_logger()

SPEND_INTERVAL_S = 1.0
"""How often it is told what was used. What could not be told is kept, and dropped with the resource's name."""

HANDSHAKE_SHARE = 0.75
"""Share of the time to connect that the handshake may take. One that takes longer failed: a resource that does not
answer at all has to be noticed before the call that waits for it is given up."""

Opener = Callable[[Resource], AbstractAsyncContextManager[Connection]]


class KnownResources(Protocol):
    """What is asked of the agents (`worker/staff.py`)."""

    def resources(self) -> frozenset[str]: ...
    def resource(self, name: str, /) -> Resource: ...


class Resources:
    """The Voice Live resources of a worker, by name; `run` for as long as there may be calls."""

    def __init__(
        self,
        known: KnownResources,
        quotas: Quotas,
        connect_timeout_s: float,
        on_change: Callable[[], None],
        opener: Opener = open_connection,
    ) -> None:
        """`on_change` is called whenever a resource is cut off, or back."""
        self._known = known
        self._quotas = quotas
        self._connect_timeout_s = connect_timeout_s
        self._on_change = on_change
        self._opener = opener
        self._circuits: dict[str, Circuit] = {}
        self._connections: dict[str, int] = {}
        self._tokens: dict[str, int] = {}
        self._throttled: dict[str, float | None] = {}
        self._refused = asyncio.Event()
        self._opened = asyncio.Event()
        """A circuit has."""
        self._probed: set[str] = set()

    @property
    def cut_off(self) -> list[str]:
        """The names of the resources that cannot be reached, in order."""
        return sorted(name for name, circuit in self._circuits.items() if circuit.open)

    @property
    def circuits(self) -> dict[str, bool]:
        """Whether the circuit is open, of each resource that agents use."""
        cut_off = self.cut_off
        return {name: name in cut_off for name in self._known.resources()}

    async def run(self) -> NoReturn:
        """Tells what is used and refused, and probes what is cut off."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tell_spending(), name="spending")
            group.create_task(self._tell_throttling(), name="throttling")
            group.create_task(self._probe_all(), name="probes")
        raise AssertionError("these tasks do not end")

    @asynccontextmanager
    async def open(self, name: str, resource: Resource, *, paid: bool) -> AsyncIterator[Connection]:
        """Opens a connection and closes it on leaving; raises UpstreamError.

        `paid` says that the lease has taken it from the resource's budget already.
        """
        if not paid:
            self._connections[name] = self._connections.get(name, 0) + 1
        opening = self._opener(resource)
        try:
            connection = await self._handshake(opening)
        except UpstreamError as error:
            self._failed(name, error)
            raise
        try:
            self._succeeded(name)
            yield connection
        finally:
            await opening.__aexit__(None, None, None)

    def spend(self, name: str, tokens: int) -> None:
        """Notes tokens that a response took."""
        self._tokens[name] = self._tokens.get(name, 0) + tokens

    async def _handshake(self, opening: AbstractAsyncContextManager[Connection]) -> Connection:
        try:
            async with asyncio.timeout(HANDSHAKE_SHARE * self._connect_timeout_s):
                return await opening.__aenter__()
        except TimeoutError:
            raise UpstreamError("no answer to the handshake") from None

    def _succeeded(self, name: str) -> None:
        circuit = self._circuits.get(name)
        if circuit is not None:
            was_open = circuit.open
            circuit.succeeded()
            if was_open:
                log.info("voicelive.reached", resource=name)
                self._on_change()

    def _failed(self, name: str, error: UpstreamError) -> None:
        if error.status == THROTTLED:
            self._throttled[name] = error.retry_after_s
            self._refused.set()
        circuit = self._circuits.setdefault(name, Circuit())
        was_open = circuit.open
        circuit.failed(error)
        if circuit.open and not was_open:
            log.warning("voicelive.cut_off", resource=name, reason=str(error), status=error.status)
            self._opened.set()
            self._on_change()

    # --------------------------------------------------------------------------------------------------------- probes

    async def _probe_all(self) -> None:
        """Has every circuit that opens probed, each by a task of its own: one that hangs holds up no other."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._opened.wait()
                self._opened.clear()
                for name in set(self.cut_off) - self._probed:
                    self._probed.add(name)
                    group.create_task(self._probe(name), name=f"probe-{name}")

    async def _probe(self, name: str) -> None:
        circuit = self._circuits[name]
        retry_after_s: float | None = None
        while circuit.open:
            await asyncio.sleep(circuit.next_probe_s(retry_after_s))
            if name not in self._known.resources():  # the agent file has changed
                del self._circuits[name]
                self._on_change()
                break
            if circuit.open:  # otherwise a call was faster
                retry_after_s = await self._try(name)
        self._probed.discard(name)

    async def _try(self, name: str) -> float | None:
        """Opens a session that nobody uses; returns the wait that the service asks for, if it refuses and does."""
        resource = self._known.resource(name)
        self._connections[name] = self._connections.get(name, 0) + 1
        try:
            async with asyncio.timeout(self._connect_timeout_s), self._opener(resource) as connection:
                async for event in connection.events():
                    if isinstance(event, SessionCreated):
                        self._succeeded(name)
                        return None
        except UpstreamError as error:
            self._failed(name, error)
            return error.retry_after_s
        except TimeoutError:
            self._failed(name, UpstreamError("no session in time"))
        return None

    # -------------------------------------------------------------------------------------------------------- budgets

    async def _tell_spending(self) -> None:
        while True:
            await asyncio.sleep(SPEND_INTERVAL_S)
            for name in self._connections.keys() | self._tokens.keys():
                connections, tokens = self._connections.pop(name, 0), self._tokens.pop(name, 0)
                try:
                    await self._quotas.spend(name, connections=connections, tokens=tokens)
                except ControlUnavailable:  # told later, in one: the budget goes no deeper than a minute's worth
                    self._connections[name] = self._connections.get(name, 0) + connections
                    self._tokens[name] = self._tokens.get(name, 0) + tokens
                    break

    async def _tell_throttling(self) -> None:
        while True:
            await self._refused.wait()
            self._refused.clear()
            while self._throttled:
                name, retry_after_s = self._throttled.popitem()
                try:
                    await self._quotas.throttled(name, retry_after_s)
                except ControlUnavailable:
                    log.debug("quota.throttling_untold", resource=name)  # the next call is refused, and tells it
