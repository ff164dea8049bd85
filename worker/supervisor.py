"""Keeps a pod's worker processes running: a reconcile loop over a process table.

It carries no calls: what a dead child leaves in Redis is freed by the dispatchers' reaper. Nor does it wait for anybody
but its children; the pod's ports (`ports.py`), what Kubernetes is told (`kubernetes.py`) and what the pod shows of
itself (`pod_telemetry.py`) have threads of their own.

    signals only queue -> loop: hear children, reap the dead, kill the hung, spawn the missing
"""

import multiprocessing
import os
import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

import structlog

from shared.errors import ConfigError
from shared.settings import WorkerSettings
from shared.states import WorkerState
from worker import boot, ipc
from worker.kubernetes import OwnPod, PodAnnotations
from worker.pod_telemetry import PodTelemetry
from worker.ports import PodPorts, write_port

log = structlog.get_logger()

TICK_S = 0.5
"""The loop wakes at least this often to compare ages."""

BOOT_TIMEOUT_S = 60.0
"""A child that is not ready by then counts as hung; waiting for Redis at start counts too."""

HUNG_AFTER_S = 10.0
"""A ready child whose last beat is older counts as hung: ten beats missed."""

HELD_UP_S = 5.0
"""A supervisor that has not looked for so long was stopped itself, or its machine: nobody counts as hung then."""

ABORT_GRACE_S = 2.0
"""Time a hung child gets between SIGABRT, which dumps its stacks, and SIGKILL."""

BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 30.0
"""Delay before a crashed child is replaced: doubles with each crash in a row."""

STABLE_AFTER_S = 30.0
"""A child that lived this long starts the back-off afresh."""


@dataclass(slots=True)
class Row:
    """One place in the process table."""

    index: int
    process: SpawnProcess | None = None
    pipe: Connection | None = None
    state: WorkerState = WorkerState.STOPPED
    """As of the last Beat."""
    calls: int = 0
    """As of the last Beat."""
    alive_at: float = 0.0
    """Monotonic time of spawn, Ready or the last Beat."""
    spawned_at: float = 0.0
    aborted_at: float | None = None
    crashes: int = 0
    not_before: float = 0.0
    """Monotonic time before which no replacement is started."""


class Supervisor:
    """Runs `settings.processes` children; `run()` returns the exit code of the pod."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings: WorkerSettings | None = None
        """Those the children get: with the pod's own ports, once it has some."""
        self._ports = PodPorts(settings)
        self._port_file = settings.telemetry_port_file
        self._annotations = PodAnnotations(OwnPod.of(settings)) if settings.pod_deletion_cost else None
        self._telemetry = PodTelemetry()
        self._context = multiprocessing.get_context("spawn")  # pjsip's threads do not survive a fork
        self._rows = [Row(index) for index in range(settings.processes)]
        self._signals: list[int] = []
        self._stopping = False
        self._exit_code = 0
        self._looked_at = time.monotonic()
        """When hung children were last looked for."""

    def run(self) -> int:
        """Supervises until SIGTERM or SIGINT and the end of the last call; returns 0, or BOOT_ERROR's code."""
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda received, _frame: self._signals.append(received))
        with ExitStack() as beside:
            write_port(self._port_file, None)
            beside.enter_context(self._ports)
            if self._annotations:
                beside.enter_context(self._annotations)
            beside.callback(self._telemetry.close)
            while not (self._stopping and not any(row.process for row in self._rows)):
                self._handle_signals()
                self._take_ports()
                self._reap()
                self._kill_hung()
                self._spawn_missing()
                self._annotate()
                self._telemetry.turned((row.state for row in self._rows), self._calls(), leaving=self._stopping)
                self._listen(wake_read)
        log.info("supervisor.stopped", exit_code=self._exit_code)
        return self._exit_code

    def _handle_signals(self) -> None:
        while self._signals:
            name = signal.Signals(self._signals.pop(0)).name
            log.info("supervisor.signal", signal=name, already_stopping=self._stopping)
            self._stop()

    def _stop(self) -> None:
        if self._stopping:
            return
        self._stopping = True
        for row in self._rows:
            if row.pipe is not None:
                _tell(row.pipe, ipc.Drain())

    def _take_ports(self) -> None:
        if self._ports.failed and not self._stopping:
            self._exit_code = boot.BOOT_ERROR
            self._stop()
        elif self._settings is None and self._ports.settings is not None:
            self._settings = self._ports.settings
            self._open_telemetry(self._settings)
            write_port(self._port_file, self._settings.telemetry_port)

    def _open_telemetry(self, settings: WorkerSettings) -> None:
        try:
            self._telemetry.open(settings)
        except ConfigError as error:
            log.error("supervisor.cannot_start", problems=error.problems)
            self._exit_code = boot.BOOT_ERROR
            self._stop()

    def _calls(self) -> int:
        return sum(row.calls for row in self._rows)

    def _annotate(self) -> None:
        if self._annotations and self._settings:
            self._annotations.note(self._calls(), self._settings.telemetry_port)

    def _reap(self) -> None:
        for row in self._rows:
            if row.process is not None and row.process.exitcode is not None:
                self._bury(row, row.process.exitcode)

    def _bury(self, row: Row, exit_code: int) -> None:
        assert row.process is not None and row.pipe is not None
        now = time.monotonic()
        if exit_code == boot.BOOT_ERROR:
            log.error("supervisor.child_cannot_start", index=row.index)
            self._exit_code = exit_code
            self._stop()
        elif not (self._stopping and exit_code == 0):
            row.crashes = 1 if now - row.spawned_at > STABLE_AFTER_S else row.crashes + 1
            delay = min(BACKOFF_FIRST_S * 2 ** (row.crashes - 1), BACKOFF_MAX_S)
            row.not_before = now + delay
            log.warning("supervisor.child_died", index=row.index, exit_code=exit_code, restart_in_s=delay)
            self._telemetry.restarted(row.index, "died" if row.aborted_at is None else "hung")
        while row.pipe.poll() and self._hear(row):  # what it measured until its end
            pass
        self._telemetry.gone(row.index)
        row.process.close()
        row.pipe.close()
        row.process = row.pipe = row.aborted_at = None
        row.state = WorkerState.STOPPED
        row.calls = 0

    def _kill_hung(self) -> None:
        now = time.monotonic()
        held_up, self._looked_at = now - self._looked_at > HELD_UP_S, now
        for row in self._rows:
            if row.process is None or row.process.pid is None:
                continue
            if row.aborted_at is not None:
                if now - row.aborted_at > ABORT_GRACE_S:
                    row.process.kill()
            elif held_up:
                row.alive_at = now
            elif now - row.alive_at > (BOOT_TIMEOUT_S if row.state is WorkerState.STARTING else HUNG_AFTER_S):
                log.error("supervisor.child_hung", index=row.index, silent_s=round(now - row.alive_at, 1))
                row.aborted_at = now
                os.kill(row.process.pid, signal.SIGABRT)

    def _spawn_missing(self) -> None:
        if self._stopping or self._settings is None:
            return
        for row in self._rows:
            if row.process is None and time.monotonic() >= row.not_before:
                self._spawn(row, self._settings)

    def _spawn(self, row: Row, settings: WorkerSettings) -> None:
        row.pipe, theirs = self._context.Pipe()
        row.process = self._context.Process(
            target=boot.main, args=(settings, row.index, theirs), name=f"worker-{row.index}"
        )
        row.process.start()
        theirs.close()
        row.spawned_at = row.alive_at = time.monotonic()
        row.state = WorkerState.STARTING
        log.info("supervisor.child_started", index=row.index, pid=row.process.pid)

    def _listen(self, wake_fd: int) -> None:
        """Sleeps until a child speaks or dies, a signal arrives, or a tick has passed."""
        pipes = {row.pipe: row for row in self._rows if row.pipe is not None}
        sentinels = [row.process.sentinel for row in self._rows if row.process is not None]
        for ready in wait([*pipes, *sentinels, wake_fd], TICK_S):
            if ready == wake_fd:
                os.read(wake_fd, 64)
            elif isinstance(ready, Connection):
                self._hear(pipes[ready])

    def _hear(self, row: Row) -> bool:
        """Takes in one message; says whether there may be more. At its end of file the child's sentinel follows."""
        assert row.pipe is not None
        try:
            message = ipc.receive(row.pipe)
        except (EOFError, OSError):
            return False
        match message:
            case ipc.Ready():
                row.state = WorkerState.READY
                row.alive_at = time.monotonic()
            case ipc.Beat():
                row.state, row.calls = WorkerState(message.state), message.calls
                row.alive_at = time.monotonic()
            case ipc.Measured():  # no sign of life: it has not gone through the SIP stack
                self._telemetry.measured(row.index, message)
        return True


def _tell(pipe: Connection, message: ipc.Message) -> None:
    try:
        ipc.send(pipe, message)
    except OSError:
        log.debug("supervisor.child_gone")
