"""One worker process: its SIP endpoint, its registration in Redis, and the calls it carries.

It does not restart itself; `worker/supervisor.py` watches it. It ends when it is told to go (SIGTERM, the supervisor's
Drain, or no supervisor any more) and the last call is over, or when one of its side tasks dies. An operator who drains
it ends nothing: it stays, without new calls, until it is undrained or told to go.
"""

import asyncio
import faulthandler
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection as Pipe

import structlog
import uvloop

from shared import garbage, logs
from shared.clock import now_ms
from shared.control.commands import Commands
from shared.control.connection import connect
from shared.control.dispatchers import Dispatchers
from shared.control.leases import Leases
from shared.control.quotas import Quotas
from shared.control.workers import Workers
from shared.ending import CallEnd
from shared.errors import CommandFailed, ConfigError
from shared.ids import CallId, LeaseId, WorkerId, new_worker_id
from shared.messages import WorkerHealth, WorkerRecord
from shared.settings import WorkerSettings
from shared.states import WORKER_TRANSITIONS, WorkerEvent, WorkerState, advance
from worker import ipc
from worker.admission import Admission
from worker.boot import BOOT_ERROR
from worker.call import Call, Services
from worker.commands import CommandLoop
from worker.copies import copying
from worker.health import Health
from worker.pjsip.endpoint import EndpointSettings, SipEndpoint
from worker.pjsip.leg import Leg
from worker.registration import Registration
from worker.resources import Resources
from worker.staff import Staff
from worker.telemetry import Telemetry

log = structlog.get_logger()


def main(settings: WorkerSettings, index: int, pipe: Pipe) -> None:
    """Runs one worker in this process until it is told to go; `worker/boot.py` calls it."""
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
        self._telemetry = Telemetry(pipe, wanted=settings.telemetry)
        self._calls: set[Call] = set()
        self._going = asyncio.Event()
        """The process ends when the last call is over."""
        self._drain_limit: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Starts, serves until told to go, and leaves nothing behind; raises ConfigError when it cannot start."""
        settings = self._settings
        observe = self._telemetry.asked_redis
        async with connect(settings.redis, observe=observe) as redis, Staff(settings) as self._staff:
            leases, dispatchers = Leases(redis), Dispatchers(redis)
            self._commands = CommandLoop(self, self._worker_id, Commands(redis))
            self._admission = Admission(
                self._worker_id, settings.worker_capacity, settings.lease_secret.get_secret_value(), leases
            )
            self._resources = Resources(
                self._staff, Quotas(redis), settings.voice_live_connect_timeout_s, lambda: self._registration.announce()
            )
            self._endpoint = SipEndpoint(_endpoint_settings(settings, self._index), self._on_leg)
            self._record = self._worker_record(self._endpoint.start())
            self._registration = Registration(self, self._record, Workers(redis), leases, self._admission)
            self._health = Health(self._endpoint.take_ticks)
            try:
                async with copying(dispatchers, settings.sip_local_address) as self._copies:
                    self._services = Services(
                        staff=self._staff,
                        endpoint=self._endpoint,
                        admission=self._admission,
                        leases=leases,
                        dispatchers=dispatchers,
                        resources=self._resources,
                        copies=self._copies,
                        recorder=self._telemetry.recorder,
                        connect_timeout_s=settings.voice_live_connect_timeout_s,
                        record_file=settings.call_record_file,
                    )
                    await self._serve()
            finally:
                await self._endpoint.stop()

    async def _serve(self) -> None:
        self._listen_to_supervisor()
        async with asyncio.TaskGroup() as side:
            await self._registration.enter()
            side_tasks = [
                side.create_task(self._registration.beat(), name="heartbeat"),
                side.create_task(self._registration.renew(), name="lease-renewal"),
                side.create_task(self._staff.watch(), name="agent-file"),
                side.create_task(self._resources.run(), name="resources"),
                side.create_task(self._copies.run(), name="copies"),
                side.create_task(self._telemetry.run(), name="telemetry"),
            ]
            async with asyncio.TaskGroup() as self._call_tasks:
                self._started()
                self._health.start()
                side_tasks.append(side.create_task(self._commands.run(), name="commands"))
                await self._going.wait()
                self.drain()
            for task in side_tasks:
                task.cancel()
        self._health.stop()
        self._stop_drain_limit()
        self._advance(WorkerEvent.STOP)
        await self._registration.leave()
        self._telemetry.flush()

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
        self._calls.add(call)
        try:
            await call.run()
        finally:
            self._calls.discard(call)

    # ------------------------------------------------------------------------------------- what operators ask for

    def drain(self) -> None:
        """Takes no new calls; those that are left after WORKER_DRAIN_S are ended. The worker stays, to be undrained."""
        if self._state is not WorkerState.READY:
            return
        self._advance(WorkerEvent.DRAIN)
        self._admission.draining = True
        self._registration.announce()
        loop = asyncio.get_running_loop()
        self._drain_limit = loop.call_later(self._settings.worker_drain_s, self._end_calls)

    def undrain(self) -> None:
        """Takes calls again; raises CommandFailed when the process has been told to go."""
        if self._going.is_set():
            raise CommandFailed("the worker has been told to stop")
        if self._state is not WorkerState.DRAINING:
            return
        self._stop_drain_limit()
        self._advance(WorkerEvent.UNDRAIN)
        self._admission.draining = False
        self._registration.announce()

    def call(self, call_id: CallId) -> Call | None:
        """Returns the call of that id, None when there is none, or it is ending."""
        return next((call for call in self._calls if call.lease and call.lease.call_id == call_id), None)

    def _stop_drain_limit(self) -> None:
        if self._drain_limit is not None:
            self._drain_limit.cancel()
            self._drain_limit = None

    def _end_calls(self) -> None:
        log.warning("worker.drain_limit_reached", calls=len(self._calls))
        for call in self._calls:
            call.stop(CallEnd.WORKER_STOPPED)

    # --------------------------------------------------------------------------------------- what the pool is told

    @property
    def state(self) -> WorkerState:
        """What the worker says of itself."""
        return self._state

    @property
    def cut_off(self) -> list[str]:
        """The names of the Voice Live resources that it cannot reach."""
        return self._resources.cut_off

    def health(self) -> WorkerHealth:
        """Returns how the worker has been doing since it was last asked."""
        health = self._health.take()
        self._telemetry.health(health)
        return health

    async def pulse(self) -> None:
        """Returns once a tick has gone event loop -> pjsip -> event loop; raises TimeoutError when it does not."""
        await self._endpoint.probe()
        self._tell(ipc.Beat(len(self._calls), self._state))
        self._measure()

    def _measure(self) -> None:
        self._telemetry.load(len(self._calls), self._settings.worker_capacity)
        self._telemetry.redis(self._registration.available)
        self._telemetry.circuits(self._resources.circuits)

    def lost(self, lease_ids: Sequence[LeaseId]) -> None:
        """Ends the calls of leases that are not ours any more.

        The pool took this worker for dead, has recorded the end of the call and said BYE to its caller; or another
        worker has the call.
        """
        self._telemetry.leases_lost(len(lease_ids))
        for call in self._calls:
            if call.lease and call.lease.lease_id in lease_ids:
                call.stop(CallEnd.WORKER_LOST)

    # ------------------------------------------------------------------------------------------------ the supervisor

    def _listen_to_supervisor(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._going.set)
        loop.add_reader(self._pipe.fileno(), self._on_supervisor)

    def _on_supervisor(self) -> None:
        try:
            ipc.receive(self._pipe)  # Drain is all a supervisor says
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(self._pipe.fileno())
            log.warning("worker.supervisor_gone")
        self._going.set()

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
            labels=dict(self._settings.worker_labels),
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
