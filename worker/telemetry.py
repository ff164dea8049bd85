"""What a worker measures: noted as plain values, and handed to its supervisor once a second, which exports it.

Nothing of OpenTelemetry is imported here: a worker stays light. What comes of a call is in `worker/call_telemetry.py`.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from multiprocessing.connection import Connection as Pipe
from typing import NoReturn

from shared.control.connection import Outcome
from shared.messages import WorkerHealth
from shared.telemetry import catalogue
from shared.telemetry.recorder import Recorder
from worker import ipc

INTERVAL_S = 1.0
"""How often it is handed over. A supervisor that does not take it gets it later, as far as the recorder has room."""


class Telemetry:
    """One worker's: `recorder` is where it is noted; `run` hands it over, and `flush` the last of it."""

    def __init__(self, pipe: Pipe, *, wanted: bool) -> None:
        """Without `wanted` it is thrown away: nobody has asked for it."""
        self.recorder = Recorder()
        self._pipe = pipe
        self._wanted = wanted
        self._waiting: deque[ipc.Measured] = deque()
        # Prometheus's increase() does not see a series' first value: what alerts look for is there from the start.
        for direction in ("received", "sent"):
            self.recorder.note(catalogue.CALLS_ONE_WAY, 0, missing=direction)
        self.recorder.note(catalogue.AUDIO_UNDERRUNS, 0)

    async def run(self) -> NoReturn:
        """Hands over what is new, for as long as it runs."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            self.flush()

    def flush(self) -> None:
        """Hands over what the pipe takes without being waited for; the rest goes first the next time."""
        if not self._waiting:
            batch = self.recorder.take()
            if self._wanted:
                self._waiting.extend(ipc.pieces(batch))
        try:
            while self._waiting and ipc.writable(self._pipe):
                ipc.send(self._pipe, self._waiting.popleft())
        except OSError:  # the supervisor is gone, which shows as end of file on the pipe
            self._waiting.clear()

    # -------------------------------------------------------------------------------------- what the worker is like

    def load(self, calls: int, slots: int) -> None:
        """The worker carries `calls`, and has room for `slots` in all."""
        self.recorder.note(catalogue.CALLS_ACTIVE, calls)
        self.recorder.note(catalogue.SLOTS, slots)

    def health(self, health: WorkerHealth) -> None:
        """The worker has judged how it has been doing."""
        note = self.recorder.note
        note(catalogue.WORKER_LATE, health.late)
        note(catalogue.CPU_SHARE, health.cpu_percent / 100)
        note(catalogue.LOOP_LAG, health.loop_lag_p99_ms / 1000, quantile="p99")
        note(catalogue.LOOP_LAG, health.loop_lag_ms / 1000, quantile="max")
        note(catalogue.AUDIO_LATE_TICKS, health.late_ticks)

    def circuits(self, circuits: Mapping[str, bool]) -> None:
        """Whether the circuit of each resource is open."""
        self.recorder.forget(catalogue.VOICELIVE_CIRCUIT)
        for resource, is_open in circuits.items():
            self.recorder.note(catalogue.VOICELIVE_CIRCUIT, is_open, resource=resource)

    def redis(self, available: bool) -> None:
        """Whether Redis answered the last time it was asked something that cannot wait."""
        self.recorder.note(catalogue.REDIS_AVAILABLE, available)

    def leases_lost(self, count: int) -> None:
        """Leases of running calls are not the worker's any more."""
        self.recorder.note(catalogue.LEASES, count, outcome="lost")

    def asked_redis(self, operation: str, outcome: Outcome, seconds: float) -> None:
        """Redis was asked something (`shared.control.connection.Observe`)."""
        self.recorder.note(catalogue.REDIS_DURATION, seconds, operation=operation, outcome=outcome.value)
