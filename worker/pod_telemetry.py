"""What a pod shows of itself: the metrics and spans of its workers, and whether it lives and is ready.

It runs in the supervisor's process, which outlives its workers: counters go on when one is replaced. Without
TELEMETRY_PORT and without an OTLP endpoint it tells systemd at most, and loads nothing that the rest is done with.
"""

import time
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from shared.settings import WorkerSettings
from shared.states import WorkerState
from shared.systemd import Unit
from shared.telemetry.catalogue import CERTIFICATE_EXPIRY, WORKER_RESTARTS, WORKERS
from shared.telemetry.recorder import Recorder
from worker import ipc

if TYPE_CHECKING:
    from shared.telemetry.export import Exporter
    from shared.telemetry.server import TelemetryServer

STUCK_AFTER_S = 10.0
"""The supervisor counts as dead when its loop has not turned for so long; it does every half second."""

CERTIFICATES_S = 3600.0
"""How often the certificates are read: they may be renewed."""

_POD = "pod"
"""Source of what the supervisor says by itself."""


class PodTelemetry:
    """The pod's; `open` once its ports are known, `close` at the end. Both and all between are the supervisor's."""

    def __init__(self) -> None:
        self._exporter: Exporter | None = None
        self._server: TelemetryServer | None = None
        self._recorder = Recorder()
        self._unit = Unit()
        self._turned_at = time.monotonic()
        self._states: Counter[WorkerState] = Counter()
        self._leaving = False
        self._settings: WorkerSettings | None = None
        self._certificates_at = 0.0
        """When they are read next, by the monotonic clock."""

    def open(self, settings: WorkerSettings) -> None:
        """Begins to show and to send what the settings say; raises ConfigError when the port cannot be had."""
        if not settings.telemetry:
            return
        from shared.telemetry.export import Exporter  # 18 MB, which nobody pays who does not want it
        from shared.telemetry.server import TelemetryServer

        self._settings = settings
        self._exporter = exporter = Exporter("worker", settings.pod, settings.otlp_endpoint)
        for index in range(settings.processes):  # as in `worker/telemetry.py`: an alert looks for the first one
            for cause in ("died", "hung"):
                self._recorder.note(WORKER_RESTARTS, 0, worker=str(index), cause=cause)
        if settings.telemetry_port is not None:
            host, port = settings.telemetry_host, settings.telemetry_port
            self._server = TelemetryServer(host, port, exporter.registry, self._live, self._ready)

    def turned(self, states: Iterable[WorkerState], calls: int, *, leaving: bool) -> None:
        """The supervisor's loop has turned: its workers are in these states, with so many calls.

        `leaving` when the pod is to stop.
        """
        self._turned_at = time.monotonic()
        self._states = states_now = Counter(states)
        self._leaving = leaving
        self._tell_systemd(calls)
        if self._exporter is not None:
            for state in WorkerState:
                self._recorder.note(WORKERS, states_now[state], state=state.value)
            self._read_certificates()
            self._exporter.record(self._recorder.take(), source=_POD)

    def measured(self, index: int, piece: ipc.Measured) -> None:
        """Worker `index` has measured something."""
        if self._exporter is not None:
            self._exporter.record(ipc.batch_in(piece), source=str(index), worker=str(index))

    def gone(self, index: int) -> None:
        """Worker `index` is there no more: its gauges are not, either."""
        if self._exporter is not None:
            self._exporter.forget(str(index))

    def restarted(self, index: int, cause: str) -> None:
        """Worker `index` had to be replaced, because it `died` or was `hung`."""
        self._recorder.note(WORKER_RESTARTS, worker=str(index), cause=cause)

    def close(self) -> None:
        """Sends what is left, for a few seconds at most, and stops listening."""
        if self._exporter is not None:
            self._exporter.close()
        if self._server is not None:
            self._server.close()

    def _tell_systemd(self, calls: int) -> None:
        not_ready = self._ready()
        if self._leaving:
            status = f"draining; calls left: {calls}"
        else:
            workers = f"workers ready: {self._states[WorkerState.READY]} of {self._states.total()}"
            status = f"{not_ready or workers}; calls: {calls}"
        self._unit.turned(self._turned_at, status, ready=not not_ready, stopping=self._leaving)

    def _read_certificates(self) -> None:
        if self._settings is None or self._turned_at < self._certificates_at:
            return
        from shared.telemetry.certificates import expiries, of_redis

        self._certificates_at = self._turned_at + CERTIFICATES_S
        self._recorder.forget(CERTIFICATE_EXPIRY)
        for purpose, ends_at in expiries(of_redis(self._settings.redis)).items():
            self._recorder.note(CERTIFICATE_EXPIRY, ends_at, purpose=purpose)

    def _live(self) -> str:
        silent_s = time.monotonic() - self._turned_at
        return f"the supervisor has been stuck for {silent_s:.0f} s" if silent_s > STUCK_AFTER_S else ""

    def _ready(self) -> str:
        if self._leaving:
            return "the pod is leaving"
        if self._states[WorkerState.READY]:
            return ""
        return "no worker is ready: " + (", ".join(f"{n} {state}" for state, n in self._states.items()) or "none yet")
