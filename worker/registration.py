"""The worker in the pool's tables: registered, alive with every heartbeat, its leases renewed for as long as calls run.

It decides nothing about calls or states: it tells what the worker says of itself, and passes on what is lost.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NoReturn, Protocol

import structlog

from shared.clock import steady_s
from shared.control import keys
from shared.control.leases import Leases
from shared.control.workers import Workers
from shared.errors import ControlUnavailable
from shared.ids import LeaseId
from shared.messages import WorkerHealth, WorkerRecord
from shared.states import WorkerState
from worker.admission import Admission

log = structlog.get_logger()

REGISTER_RETRY_S = 1.0


class Worker(Protocol):
    """The worker that is registered (`worker/child.py`)."""

    @property
    def state(self) -> WorkerState: ...
    @property
    def cut_off(self) -> list[str]: ...
    def health(self) -> WorkerHealth: ...
    def lost(self, lease_ids: Sequence[LeaseId], /) -> None: ...

    async def pulse(self) -> None:
        """Returns once a tick has gone event loop -> pjsip -> event loop; raises TimeoutError."""
        ...


class Registration:
    """One worker's. `enter` first; then `beat` and `renew` run until it leaves."""

    def __init__(
        self, worker: Worker, record: WorkerRecord, workers: Workers, leases: Leases, admission: Admission
    ) -> None:
        self._worker = worker
        self._record = record
        self._workers = workers
        self._leases = leases
        self._admission = admission
        self._news = asyncio.Event()
        self._trouble = ""

    async def enter(self) -> None:
        """Registers the worker with the leases it holds; returns once Redis has it."""
        while True:
            try:
                record = replace(self._record, state=self._worker.state)
                self._pass_on(await self._workers.register(record, self._admission.held))
                return
            except ControlUnavailable as error:
                self._note(str(error))
                await asyncio.sleep(REGISTER_RETRY_S)

    def announce(self) -> None:
        """Has the pool told at once that the worker's state, or what it is cut off from, has changed."""
        self._news.set()

    @property
    def available(self) -> bool:
        """Whether Redis answered when it was last told something."""
        return not self._trouble

    async def beat(self) -> NoReturn:
        """Says that the worker is alive, but only after a tick through the SIP stack and back."""
        due = steady_s()
        health = WorkerHealth()
        while True:
            if steady_s() >= due:  # otherwise there is news: the period goes on
                health = self._worker.health()
                due = steady_s() + keys.HEARTBEAT_INTERVAL_S
            self._news.clear()
            await self._beat_once(health)
            with suppress(TimeoutError):
                async with asyncio.timeout(due - steady_s()):
                    await self._news.wait()

    async def renew(self) -> NoReturn:
        """Renews the leases of the calls that run."""
        while True:
            await asyncio.sleep(keys.LEASE_RENEW_INTERVAL_S)
            try:
                self._pass_on(await self._leases.renew(self._record.worker_id, self._admission.held))
            except ControlUnavailable as error:
                self._note(str(error))

    async def leave(self) -> None:
        """Takes the worker out of the table; what cannot be taken out is left to the reaper."""
        try:
            await self._workers.unregister(self._record.worker_id)
        except ControlUnavailable as error:
            self._note(str(error))

    async def _beat_once(self, health: WorkerHealth) -> None:
        try:
            await self._worker.pulse()
            told = replace(health, cut_off=self._worker.cut_off)
            if not await self._workers.heartbeat(self._record.worker_id, self._worker.state, told):
                log.warning("worker.forgotten_by_redis")
                await self.enter()
            self._note("")
        except TimeoutError:
            log.error("worker.sip_stack_stuck")
        except ControlUnavailable as error:
            self._note(str(error))

    def _pass_on(self, lost: Sequence[LeaseId]) -> None:
        if lost:
            log.warning("lease.lost", leases=lost)
            self._worker.lost(lost)

    def _note(self, trouble: str) -> None:
        """Logs the change only: an outage of a minute is two lines, not sixty."""
        if trouble and not self._trouble:
            log.warning("control.unavailable", reason=trouble)
        elif self._trouble and not trouble:
            log.info("control.available")
        self._trouble = trouble
