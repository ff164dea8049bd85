"""What a dispatcher does for the pool beside calls: it says that it is there, reaps, says BYE for the dead, obeys.

Any number of dispatchers do so at once; each thing is done by one of them. It handles no SIP itself.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, NoReturn, Protocol

import structlog
from redis.asyncio import Redis

from dispatcher.agents import AgentDirectory
from dispatcher.sip.actions import Address
from shared.clock import now_ms
from shared.control import keys
from shared.control.commands import Commands
from shared.control.dispatchers import Dispatchers
from shared.control.events import EventName, Events
from shared.control.leases import Leases
from shared.control.orphans import Orphans
from shared.errors import ControlUnavailable
from shared.ids import CallId, new_dispatcher_id
from shared.messages import CommandName, CommandReply, CommandState, DispatcherRecord, Lease
from shared.settings import DispatcherSettings

REFUSALS_MAX = 1_000
"""Refused calls that wait to be told as events; in a flood the newest are not told."""

log = structlog.get_logger()


class Replica(Protocol):
    """The dispatcher this is the upkeep of: `dispatcher.app.Dispatcher`."""

    listening: asyncio.Future[Address]

    @property
    def draining(self) -> bool:
        """Whether new calls are refused."""

    def drain(self, draining: bool) -> None:
        """Refuses new calls, or takes them again."""

    def hang_up(self, lease: Lease) -> None:
        """Says BYE to the caller of a dead worker's call."""


class Upkeep:
    """The duties of one dispatcher."""

    def __init__(self, settings: DispatcherSettings, redis: Redis, agents: AgentDirectory) -> None:
        self.leases = Leases(redis, record_retention_s=settings.record_retention_h * 3600)
        self.dispatcher_id = new_dispatcher_id(settings.pod)
        self._agents = agents
        self._dispatchers = Dispatchers(redis)
        self._orphans = Orphans(redis)
        self._commands = Commands(redis)
        self._events = Events(redis)
        self._refusals: deque[tuple[CallId, int, str]] = deque()
        self._settled: deque[CallId] = deque()
        self._news = asyncio.Event()
        self._started_at_ms = now_ms()

    async def run(self, replica: Replica) -> None:
        """Does the duties until it is cancelled, and takes the dispatcher out of the table then."""
        address = await replica.listening
        try:
            async with asyncio.TaskGroup() as duties:
                duties.create_task(_over_and_over(lambda: self._say_alive(replica, address), keys.HEARTBEAT_INTERVAL_S))
                duties.create_task(_over_and_over(lambda: self._reap(replica), keys.REAP_INTERVAL_S))
                duties.create_task(self._tell_news())
                duties.create_task(self._obey(replica))
        finally:
            with suppress(ControlUnavailable):
                await self._dispatchers.leave(self.dispatcher_id)

    def refused(self, call_id: CallId, status: int, reason: str) -> None:
        """Has an event told of a call that was not placed."""
        if len(self._refusals) < REFUSALS_MAX:
            self._refusals.append((call_id, status, reason))
            self._news.set()

    def settled(self, call_id: CallId) -> None:
        """Has an orphan forgotten: its caller knows, or cannot be told."""
        self._settled.append(call_id)
        self._news.set()

    async def _say_alive(self, replica: Replica, address: Address) -> None:
        record = DispatcherRecord(
            dispatcher_id=self.dispatcher_id,
            pid=os.getpid(),
            sip_host=address.host,
            sip_port=address.port,
            draining=replica.draining,
            started_at_ms=self._started_at_ms,
        )
        await self._dispatchers.heartbeat(record, self._agents.current.resources.values())

    async def _reap(self, replica: Replica) -> None:
        for lease in await self.leases.reap():
            log.warning("lease.reaped", call_id=lease.call_id, trace_id=lease.trace_id, worker_id=lease.worker_id)
        for lease in await self._orphans.take():
            log.warning("call.orphaned", call_id=lease.call_id, trace_id=lease.trace_id, worker_id=lease.worker_id)
            replica.hang_up(lease)

    async def _tell_news(self) -> NoReturn:
        while True:
            await self._news.wait()
            self._news.clear()
            with suppress(ControlUnavailable):
                while self._settled:
                    await self._orphans.settle(self._settled.popleft())
                while self._refusals:
                    call_id, status, reason = self._refusals.popleft()
                    about: dict[str, str | int] = {"call_id": call_id, "status": status, "reason": reason}
                    await self._events.tell(EventName.CALL_REFUSED, about)

    async def _obey(self, replica: Replica) -> None:
        async for command in self._commands.listen(self.dispatcher_id):
            state, detail = _obeyed(command.name, replica)
            log.info("command.carried_out", command=command.name, state=state)
            with suppress(ControlUnavailable):  # who asked is told that nobody answers
                await self._commands.answer(CommandReply(command_id=command.command_id, state=state, detail=detail))


def _obeyed(name: str, replica: Replica) -> tuple[CommandState, str]:
    if name not in (CommandName.DRAIN, CommandName.UNDRAIN):
        return CommandState.FAILED, "a dispatcher knows drain and undrain only"
    replica.drain(name == CommandName.DRAIN)
    return CommandState.DONE, "draining" if replica.draining else "taking calls"


async def _over_and_over(duty: Callable[[], Coroutine[Any, Any, None]], interval_s: float) -> NoReturn:
    """Does it every now and then, also when Redis was away; that it was, the worker table says."""
    while True:
        with suppress(ControlUnavailable):
            await duty()
        await asyncio.sleep(interval_s)
