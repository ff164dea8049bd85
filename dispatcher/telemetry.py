"""A dispatcher's telemetry: what happens is noted on the event loop, and handed to the SDK in small portions.

It decides nothing about calls. Where nobody is to be shown anything, nothing is noted, and no exporter even loaded.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, Protocol

from dispatcher.placing import Left, Refused
from dispatcher.sip.actions import Address, Dispatched, Offer, Place, Report
from dispatcher.sip.trace import CallTrace
from shared.control.connection import Outcome
from shared.lag import LoopLag
from shared.settings import DispatcherSettings
from shared.systemd import Unit
from shared.telemetry import catalogue
from shared.telemetry.recorder import Recorder
from shared.telemetry.trace import Span

if TYPE_CHECKING:  # what exports takes 15 MB, and is loaded only where there is something to be shown
    from shared.telemetry.export import Exporter
    from shared.telemetry.server import TelemetryServer

HAND_OVER_S = 0.1
"""The SDK takes some 7 µs of the loop for each value of a histogram: at 1,300 calls a second, where there are 2,600 of
them, portions of 2 ms hold up no INVITE. One portion a second would hold up all of them for 20 ms."""

LOOK_S = 1.0
"""How often gauges are read; the lag of the loop is that of so long."""

STUCK_S = 5.0
"""A loop that has not turned for so long is not alive."""

CERTIFICATES_S = 3600.0
"""How often the certificates are read: they may be renewed."""


class Notes:
    """Says of each thing that happens which metrics and spans it is."""

    def __init__(self, recorder: Recorder | None, *, spans: bool = False) -> None:
        """Without a recorder nothing is noted; without `spans` nothing but metrics."""
        self._recorder = recorder
        self._spans = spans

    def asked_redis(self, operation: str, outcome: Outcome, seconds: float) -> None:
        """Redis was asked for something: `shared.control.connection.Observe`."""
        if self._recorder:
            self._recorder.note(catalogue.REDIS_DURATION, seconds, operation=operation, outcome=outcome)

    def reported(self, report: Report) -> None:
        """The SIP side has something to tell."""
        if not self._recorder:
            return
        fields = report.fields
        if report.event == "call.placed" and fields["attempt"] == 1:
            self._recorder.note(catalogue.DISPATCH_DURATION, int(fields["ms"]) / 1000)
        elif report.event == "sip.call_refused":
            self._refused(self._recorder, int(fields["status"]), str(fields["reason"]))

    def dispatched(self, done: Dispatched, now: float) -> None:
        """A call has come to its end here; `now` is by the clock of its `invite_at`."""
        if not self._recorder:
            return
        outcome = _outcome(done)
        if outcome == "refused":
            self._refused(self._recorder, done.status, done.reason)
        elif outcome != "taken":  # it counts where it is answered
            self._recorder.note(catalogue.DISPATCH_CALLS, outcome=outcome)
        if not self._traces(done.trace):
            return
        end_ns = time.time_ns()
        self._recorder.span(
            Span(
                context=done.trace.context,
                parent_id=done.trace.parent_id,
                name="dispatch",
                start_ns=end_ns - round((now - done.invite_at) * 1e9),
                end_ns=end_ns,
                attributes={
                    "call_id": done.call_id,
                    "outcome": outcome,
                    "status": done.status,
                    "reason": done.reason,
                    "attempts": done.attempts,
                    "waited": done.waited,
                },
                failed=done.status >= 500,
                kind="server",
            )
        )

    def leased(self, place: Place, came_of_it: Offer | Left | Refused, start_ns: int) -> None:
        """A question for a worker has its answer; it was asked at `start_ns` (Unix time)."""
        if not self._recorder or not self._traces(place.trace):
            return
        match came_of_it:
            case Refused(reason):
                outcome, provisional = "refused", False
            case Left():
                outcome, reason, provisional = "taken", "", False
            case offer:
                outcome, reason, provisional = "offered", "", offer.lease.provisional
        self._recorder.span(
            Span(
                context=place.trace.context.child(),
                parent_id=place.trace.context.span_id,
                name="lease",
                start_ns=start_ns,
                end_ns=time.time_ns(),
                attributes={
                    "outcome": outcome,
                    "reason": reason,
                    "attempt": place.attempt,
                    "provisional": provisional,
                },
            )
        )

    def orphaned(self) -> None:
        """The caller of a dead worker's call is told BYE."""
        if self._recorder:
            self._recorder.note(catalogue.DISPATCH_ORPHANS)

    def _traces(self, trace: CallTrace) -> bool:
        return self._spans and trace.context.sampled

    def _refused(self, recorder: Recorder, status: int, reason: str) -> None:
        recorder.note(catalogue.DISPATCH_CALLS, outcome="refused")
        recorder.note(catalogue.DISPATCH_REFUSALS, status=str(status), reason=reason)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a dispatcher is doing at one moment."""

    not_ready: str
    """Why no call should be sent to it; empty when some should."""
    draining: bool
    stopping: bool
    """Whether it was told to end, and is on its way there."""
    workers: int
    """Workers that take calls."""
    room: int
    """Slots that are free on them."""
    waiting: int
    """Callers in line for a Voice Live resource."""
    transactions: int
    received: int
    """SIP messages since the start; likewise those sent."""
    sent: int
    redis_answers: bool
    """Whether it did when the worker table was last read."""


class Watched(Protocol):
    """Whose telemetry it is: `dispatcher.app.Dispatcher`."""

    listening: asyncio.Future[Address]

    def standing(self) -> Standing:
        """Returns how it is doing, from the time on at which it listens."""


class Telemetry:
    """What one dispatcher process shows of itself, and when."""

    def __init__(self, settings: DispatcherSettings) -> None:
        """Begins to listen; raises ConfigError when TELEMETRY_PORT is taken."""
        self._settings = settings
        self._recorder = Recorder()
        self._exporter: Exporter | None = None
        self._server: TelemetryServer | None = None
        self._unit = Unit()
        self._received = self._sent = 0
        """SIP messages counted so far."""
        self._turned_at = time.monotonic()
        self._not_ready = "starting"
        if settings.telemetry:
            self._open()
        self.notes = Notes(self._recorder if self._exporter else None, spans=bool(settings.otlp_endpoint))
        """Who is told what happens."""

    def _open(self) -> None:
        from shared.telemetry.export import Exporter
        from shared.telemetry.server import TelemetryServer

        settings = self._settings
        self._exporter = Exporter("dispatcher", settings.pod, settings.otlp_endpoint)
        if settings.telemetry_port is not None:
            where = settings.telemetry_host, settings.telemetry_port
            self._server = TelemetryServer(*where, self._exporter.registry, self._check_live, self._check_ready)

    async def run(self, watched: Watched) -> None:
        """Shows how the dispatcher is doing, until it is cancelled; returns at once when nobody is to be shown."""
        async with asyncio.TaskGroup() as duties:
            if self._unit.listens:
                duties.create_task(self._tell_systemd(watched))
            if self._exporter:
                duties.create_task(self._hand_over(self._exporter))
                duties.create_task(self._look(watched))
                duties.create_task(self._read_certificates())

    def close(self) -> None:
        """Sends what is left, for some seconds at most, and stops listening."""
        if self._exporter:
            self._exporter.record(self._recorder.take())
            self._exporter.close()
        if self._server:
            self._server.close()

    async def _hand_over(self, exporter: "Exporter") -> NoReturn:
        while True:
            self._turned_at = time.monotonic()
            exporter.record(self._recorder.take())
            await asyncio.sleep(HAND_OVER_S)

    async def _look(self, watched: Watched) -> NoReturn:
        await watched.listening
        lag = LoopLag()
        lag.start()
        try:
            while True:
                self._note(watched.standing())
                await asyncio.sleep(LOOK_S)
                for quantile, seconds in zip(("max", "p99"), lag.take(), strict=True):
                    self._recorder.note(catalogue.LOOP_LAG, seconds, quantile=quantile)
        finally:
            lag.stop()

    async def _tell_systemd(self, watched: Watched) -> NoReturn:
        await watched.listening  # that is all it takes to be ready: without workers, callers are owed a 503
        while True:
            standing = watched.standing()
            status = standing.not_ready or f"workers ready: {standing.workers}; slots free: {standing.room}"
            self._unit.turned(time.monotonic(), status, stopping=standing.stopping)
            await asyncio.sleep(LOOK_S)

    def _note(self, standing: Standing) -> None:
        self._not_ready = standing.not_ready
        note = self._recorder.note
        note(catalogue.REDIS_AVAILABLE, float(standing.redis_answers))
        note(catalogue.DISPATCH_DRAINING, float(standing.draining))
        note(catalogue.DISPATCH_WAITING, standing.waiting)
        note(catalogue.DISPATCH_TRANSACTIONS, standing.transactions)
        note(catalogue.SIP_MESSAGES, standing.received - self._received, direction="received")
        note(catalogue.SIP_MESSAGES, standing.sent - self._sent, direction="sent")
        self._received, self._sent = standing.received, standing.sent

    async def _read_certificates(self) -> NoReturn:
        from shared.telemetry.certificates import expiries, of_redis

        files = {**of_redis(self._settings.redis), "sip_tls": self._settings.sip_tls_cert_file}
        while True:
            found = await asyncio.to_thread(expiries, files)
            self._recorder.forget(catalogue.CERTIFICATE_EXPIRY)
            for purpose, ends_at in found.items():
                self._recorder.note(catalogue.CERTIFICATE_EXPIRY, ends_at, purpose=purpose)
            await asyncio.sleep(CERTIFICATES_S)

    def _check_live(self) -> str:
        silent_s = time.monotonic() - self._turned_at
        return f"the event loop has not turned for {silent_s:.0f} s" if silent_s > STUCK_S else ""

    def _check_ready(self) -> str:
        return self._check_live() or self._not_ready


def _outcome(done: Dispatched) -> str:
    """What came of a call: placed, refused, cancelled; taken when another replica answers it."""
    if not done.reason:
        return "placed"
    return {"taken": "taken", "caller_cancelled": "cancelled"}.get(done.reason, "refused")
