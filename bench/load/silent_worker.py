"""A worker without media: all it says to the dispatcher and to Redis is real, but nobody speaks.

It registers and beats, verifies the token of each call, claims its lease, answers, and writes the call's record. It
does not renew leases: its calls are shorter than a lease.
"""

import asyncio
import os
from contextlib import suppress

from bench.load.sdp import offer
from bench.load.sip import AnsweredCall, SipAnswerer
from shared.clock import now_ms
from shared.control.keys import HEARTBEAT_INTERVAL_S
from shared.control.leases import Leases
from shared.control.workers import Workers
from shared.ending import CallEnd
from shared.errors import ControlUnavailable, LeaseLost, NoCapacity, TokenInvalid
from shared.ids import call_id_for, new_worker_id
from shared.messages import CallRecord, Lease, WorkerRecord
from shared.states import WorkerState
from shared.token import HEADER
from worker.admission import Admission


class SilentWorker:
    """A worker without media: everything it says to the dispatcher and to Redis is real."""

    def __init__(
        self,
        host: str,
        number: int,
        capacity: int,
        workers: Workers,
        leases: Leases,
        secret: str,
        tasks: asyncio.TaskGroup,
    ) -> None:
        """Opens its socket; `tasks` runs what it does besides, until `close`."""
        self.invite_ns: dict[str, int] = {}
        """When the INVITE of each SIP Call-ID came, Unix time in ns."""
        self._capacity = capacity
        self._worker_id = new_worker_id("silent", number)
        self._workers = workers
        self._leases = leases
        self._tasks = tasks
        self._admission = Admission(self._worker_id, capacity, secret, leases)
        self._admitted: dict[str, Lease] = {}
        self._sip = SipAnswerer(host, offer(host, 40_000), self._invited, self._hung_up)

    async def register(self) -> None:
        """Enters the worker table, and beats from now on."""
        record = WorkerRecord(
            worker_id=self._worker_id,
            pod="silent",
            pid=os.getpid(),
            sip_host=self._sip.host,
            sip_port=self._sip.port,
            capacity=self._capacity,
            state=WorkerState.READY,
            started_at_ms=now_ms(),
        )
        await self._workers.register(record)
        self._beating = self._tasks.create_task(self._beat())

    def close(self) -> None:
        """Stops beating and answering."""
        self._beating.cancel()
        self._sip.close()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_INTERVAL_S)
            with suppress(ControlUnavailable):  # overloaded: the next one may come through
                await self._workers.heartbeat(self._worker_id, WorkerState.READY)

    def _invited(self, call: AnsweredCall, received_ns: int) -> None:
        self.invite_ns[call.invite.call_id] = received_ns
        self._tasks.create_task(self._admit(call))

    def _hung_up(self, call: AnsweredCall) -> None:
        if lease := self._admitted.pop(call.invite.call_id, None):
            end = CallEnd.CALLER_HANGUP if call.status == 200 else CallEnd.CALLER_CANCELLED
            self._tasks.create_task(self._release(lease, end))

    async def _admit(self, call: AnsweredCall) -> None:
        call_id = call_id_for(call.invite.call_id, call.invite.from_tag)
        try:
            lease = await self._admission.admit(call_id, call.invite.first(HEADER.lower()))
        except (TokenInvalid, LeaseLost):
            self._sip.answer(call, 403)
        except NoCapacity:
            self._sip.answer(call, 503)
        else:
            self._admitted[call.invite.call_id] = lease
            self._sip.answer(call, 200)
            if call.status != 200:  # cancelled meanwhile
                self._hung_up(call)

    async def _release(self, lease: Lease, end: CallEnd) -> None:
        record = CallRecord(
            call_id=lease.call_id,
            lease_id=lease.lease_id,
            worker_id=lease.worker_id,
            result=end.result,
            reason=end,
            invite_at_ms=lease.invite_at_ms,
            ended_at_ms=now_ms(),
        )
        self._admission.forget(lease)
        with suppress(ControlUnavailable):  # overloaded: the lease lapses
            await self._leases.release(lease, record)
