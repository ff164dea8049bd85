"""Keeps a pod's worker processes running: a reconcile loop over a process table.

It carries no calls and never talks to Redis: what a dead child leaves there is freed by the dispatchers' reaper.

    signals only queue -> loop: hear children, reap the dead, kill the hung, spawn the missing
"""

import multiprocessing
import os
import signal
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

import structlog

from shared.settings import WorkerSettings
from worker import child, ipc

log = structlog.get_logger()

TICK_S = 0.5
"""The loop wakes at least this often to compare ages."""

BOOT_TIMEOUT_S = 60.0
"""A child that is not ready by then counts as hung; waiting for Redis at start counts too."""

HUNG_AFTER_S = 10.0
"""A ready child whose last beat is older counts as hung: ten beats missed."""

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
    ready: bool = False
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
        self._settings = settings
        self._context = multiprocessing.get_context("spawn")  # pjsip's threads do not survive a fork
        self._rows = [Row(index) for index in range(settings.processes)]
        self._signals: list[int] = []
        self._stopping = False
        self._exit_code = 0

    def run(self) -> int:
        """Supervises until SIGTERM or SIGINT and the end of the last call; returns 0, or BOOT_ERROR's code."""
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda received, _frame: self._signals.append(received))
        while not (self._stopping and not any(row.process for row in self._rows)):
            self._handle_signals()
            self._reap()
            self._kill_hung()
            self._spawn_missing()
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

    def _reap(self) -> None:
        for row in self._rows:
            if row.process is not None and row.process.exitcode is not None:
                self._bury(row, row.process.exitcode)

    def _bury(self, row: Row, exit_code: int) -> None:
        assert row.process is not None and row.pipe is not None
        now = time.monotonic()
        if exit_code == child.BOOT_ERROR:
            log.error("supervisor.child_cannot_start", index=row.index)
            self._exit_code = exit_code
            self._stop()
        elif not (self._stopping and exit_code == 0):
            row.crashes = 1 if now - row.spawned_at > STABLE_AFTER_S else row.crashes + 1
            delay = min(BACKOFF_FIRST_S * 2 ** (row.crashes - 1), BACKOFF_MAX_S)
            row.not_before = now + delay
            log.warning("supervisor.child_died", index=row.index, exit_code=exit_code, restart_in_s=delay)
        row.process.close()
        row.pipe.close()
        row.process = row.pipe = row.aborted_at = None
        row.ready = False

    def _kill_hung(self) -> None:
        now = time.monotonic()
        for row in self._rows:
            if row.process is None or row.process.pid is None:
                continue
            if row.aborted_at is not None:
                if now - row.aborted_at > ABORT_GRACE_S:
                    row.process.kill()
            elif now - row.alive_at > (HUNG_AFTER_S if row.ready else BOOT_TIMEOUT_S):
                log.error("supervisor.child_hung", index=row.index, silent_s=round(now - row.alive_at, 1))
                row.aborted_at = now
                os.kill(row.process.pid, signal.SIGABRT)

    def _spawn_missing(self) -> None:
        if self._stopping:
            return
        for row in self._rows:
            if row.process is None and time.monotonic() >= row.not_before:
                self._spawn(row)

    def _spawn(self, row: Row) -> None:
        row.pipe, theirs = self._context.Pipe()
        row.process = self._context.Process(
            target=child.main, args=(self._settings, row.index, theirs), name=f"worker-{row.index}"
        )
        row.process.start()
        theirs.close()
        row.spawned_at = row.alive_at = time.monotonic()
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

    def _hear(self, row: Row) -> None:
        assert row.pipe is not None
        try:
            message = ipc.receive(row.pipe)
        except (EOFError, OSError):
            return  # the child is dying: its sentinel follows
        row.alive_at = time.monotonic()
        if isinstance(message, ipc.Ready):
            row.ready = True


def _tell(pipe: Connection, message: ipc.Message) -> None:
    try:
        ipc.send(pipe, message)
    except OSError:
        log.debug("supervisor.child_gone")
