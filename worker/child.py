"""One worker process: its SIP endpoint, its registration in Redis, and the calls it carries.

It does not restart itself; `worker/supervisor.py` watches it. It ends when it is told to drain and the last call is
over, when the supervisor is gone (as if told to drain), or when one of its side tasks dies.
"""

import asyncio
import faulthandler
import os
import signal
import sys
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection as Pipe

import structlog
import uvloop

from shared import garbage, logs
from shared.clock import now_ms
from shared.control import keys
from shared.control.connection import connect
from shared.control.leases import Leases
from shared.control.workers import Workers
from shared.ending import CallEnd
from shared.errors import ConfigError, ControlUnavailable
from shared.ids import CallId, WorkerId, new_worker_id
from shared.messages import WorkerRecord
from shared.settings import WorkerSettings
from shared.states import WORKER_TRANSITIONS, WorkerEvent, WorkerState, advance
from worker import ipc
from worker.admission import Admission
from worker.call import Call, Services
from worker.health import Health
from worker.pjsip.endpoint import EndpointSettings, SipEndpoint
from worker.pjsip.leg import Leg
from worker.staff import Staff

log = structlog.get_logger()

BOOT_ERROR = 3
"""Exit code of a child that can never start with these settings: starting it again would not help."""

REGISTER_RETRY_S = 1.0


def main(settings: WorkerSettings, index: int, pipe: Pipe) -> None:
    """Runs one worker in this process until it is drained; called by the supervisor in a fresh process."""
    # A Ctrl-C goes to the whole process group, but only the supervisor decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()  # a hung child is sent SIGABRT and leaves its stacks behind
    worker_id = new_worker_id(settings.pod, index)
    logs.configure(settings.log_level, settings.voice_live_log_file, worker=worker_id)
    try:
        uvloop.run(Child(settings, index, pipe, worker_id).run())
    except* ConfigError as errors:
        log.error("worker.cannot_start", problems=[str(error) for error in errors.exceptions])
        sys.exit(BOOT_ERROR)


class Child:
    """The process's parts, joined: an endpoint, an admission, a registration, and a task group of calls."""

    def __init__(self, settings: WorkerSettings, index: int, pipe: Pipe, worker_id: WorkerId) -> None:
        self._settings = settings
        self._index = index
        self._pipe = pipe
        self._worker_id = worker_id
        self._state = WorkerState.STARTING
        self._calls: dict[CallId, Call] = {}
        self._drain = asyncio.Event()
        self._redis_trouble = ""
        self._health = Health()

    async def run(self) -> None:
        """Starts, serves until drained, and leaves nothing behind; raises ConfigError when it cannot start."""
        settings = self._settings
        async with connect(settings.redis_url) as redis, Staff(settings) as self._staff:
            self._workers, self._leases = Workers(redis), Leases(redis)
            self._admission = Admission(
                self._worker_id, settings.worker_capacity, settings.lease_secret.get_secret_value(), self._leases
            )
            self._endpoint = SipEndpoint(_endpoint_settings(settings, self._index), self._on_leg)
            self._services = Services(
                staff=self._staff,
                endpoint=self._endpoint,
                admission=self._admission,
                leases=self._leases,
                connect_timeout_s=settings.voice_live_connect_timeout_s,
                record_file=settings.call_record_file,
            )
            self._record = self._worker_record(self._endpoint.start())
            try:
                await self._serve()
            finally:
                await self._endpoint.stop()

    async def _serve(self) -> None:
        self._watch_for_drain()
        self._health.start()
        async with asyncio.TaskGroup() as side:
            await self._register()
            side_tasks = [
                side.create_task(self._heartbeat(), name="heartbeat"),
                side.create_task(self._renew_leases(), name="lease-renewal"),
                side.create_task(self._staff.watch(), name="agent-file"),
            ]
            async with asyncio.TaskGroup() as self._call_tasks:
                self._started()
                await self._drain.wait()
                self._advance(WorkerEvent.DRAIN)
                self._admission.draining = True
                side_tasks.append(side.create_task(self._limit_drain(), name="drain-limit"))
            for task in side_tasks:
                task.cancel()
        self._health.stop()
        self._advance(WorkerEvent.STOP)
        with suppress(ControlUnavailable):  # the reaper removes what we cannot
            await self._workers.unregister(self._worker_id)

    def _started(self) -> None:
        self._advance(WorkerEvent.STARTED)
        garbage.settle()
        self._tell(ipc.Ready(self._worker_id))
        record = self._record
        log.info(
            "worker.ready",
            pid=record.pid,
            sip_host=record.sip_host,
            sip_port=record.sip_port,
            capacity=record.capacity,
        )

    def _on_leg(self, leg: Leg) -> None:
        try:
            self._call_tasks.create_task(self._carry(leg), name=f"call-{leg.invite.call_id}")
        except (AttributeError, RuntimeError):  # not started yet, or the last call is over and the process is leaving
            leg.end(CallEnd.NO_CAPACITY.sip_status)

    async def _carry(self, leg: Leg) -> None:
        call = Call(leg, self._services)
        self._calls[leg.invite.call_id] = call
        try:
            await call.run()
        finally:
            if self._calls.get(leg.invite.call_id) is call:
                del self._calls[leg.invite.call_id]

    async def _register(self) -> None:
        while True:
            try:
                await self._workers.register(replace(self._record, state=self._state), self._admission.held)
                return
            except ControlUnavailable as error:
                self._note_redis(str(error))
                await asyncio.sleep(REGISTER_RETRY_S)

    async def _heartbeat(self) -> None:
        """Says that the worker is alive, but only after a tick through the SIP stack and back."""
        while True:
            try:
                await self._endpoint.probe()
                self._tell(ipc.Beat(len(self._calls)))
                if not await self._workers.heartbeat(self._worker_id, self._state, self._health.take()):
                    log.warning("worker.forgotten_by_redis")
                    await self._register()
                self._note_redis("")
            except TimeoutError:
                log.error("worker.sip_stack_stuck")
            except ControlUnavailable as error:
                self._note_redis(str(error))
            await asyncio.sleep(keys.HEARTBEAT_INTERVAL_S)

    def _note_redis(self, trouble: str) -> None:
        """Logs the change only: an outage of a minute is two lines, not sixty."""
        if trouble and not self._redis_trouble:
            log.warning("control.unavailable", reason=trouble)
        elif self._redis_trouble and not trouble:
            log.info("control.available")
        self._redis_trouble = trouble

    async def _renew_leases(self) -> None:
        while True:
            await asyncio.sleep(keys.LEASE_RENEW_INTERVAL_S)
            try:
                lost = await self._leases.renew(self._worker_id, self._admission.held)
            except ControlUnavailable as error:
                self._note_redis(str(error))
                continue
            if lost:
                # The caller is still here and hears us: a lost lease is an operator's concern, not the caller's.
                log.warning("lease.lost", leases=lost)

    def _watch_for_drain(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._drain.set)
        loop.add_reader(self._pipe.fileno(), self._on_supervisor)

    def _on_supervisor(self) -> None:
        try:
            ipc.receive(self._pipe)  # Drain is all a supervisor says
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(self._pipe.fileno())
            log.warning("worker.supervisor_gone")
        self._drain.set()

    async def _limit_drain(self) -> None:
        await asyncio.sleep(self._settings.worker_drain_s)
        log.warning("worker.drain_limit_reached", calls=len(self._calls))
        for call in self._calls.values():
            call.stop(CallEnd.WORKER_STOPPED)

    def _tell(self, message: ipc.Message) -> None:
        with suppress(OSError):  # a supervisor that is gone shows as end of file on the pipe
            ipc.send(self._pipe, message)

    def _worker_record(self, sip_port: int) -> WorkerRecord:
        return WorkerRecord(
            worker_id=self._worker_id,
            pod=self._settings.pod,
            pid=os.getpid(),
            sip_host=self._settings.advertised_address,
            sip_port=sip_port,
            capacity=self._settings.worker_capacity,
            state=self._state,
            started_at_ms=now_ms(),
        )

    def _advance(self, event: WorkerEvent) -> None:
        before, self._state = self._state, advance(WORKER_TRANSITIONS, self._state, event)
        log.info("worker.state", before=before, after=self._state)


def _endpoint_settings(settings: WorkerSettings, index: int) -> EndpointSettings:
    return EndpointSettings(
        bind_address=settings.sip_local_address,
        advertised_address=settings.advertised_address,
        sip_port=settings.worker_sip_port + index if settings.worker_sip_port else 0,
        media_address=settings.offered_media_address,
        media_ports=settings.media_port_range(index),
        srtp=settings.media_srtp,
        capacity=settings.worker_capacity,
    )
