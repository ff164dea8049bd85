"""The dispatcher as a process: the SIP core, its socket, the worker table and the leases, joined.

It decides nothing about SIP (`sip/`) or about who gets a call (`placement.py`).
"""

import asyncio
import signal
from functools import partial
from typing import Protocol

import structlog

from dispatcher.notices import Notices
from dispatcher.offers import LeaseStore, Offers
from dispatcher.sip.actions import Address, Place, Release, Report
from dispatcher.sip.proxy import Proxy, ProxySettings
from dispatcher.table import Table, TableSource
from dispatcher.transport import Driver
from shared.choices import DispatchMode
from shared.clock import now_ms
from shared.control.connection import connect
from shared.control.keys import REAP_INTERVAL_S
from shared.control.leases import Leases
from shared.control.workers import Workers
from shared.errors import ConfigError, ControlUnavailable
from shared.messages import Lease
from shared.settings import DispatcherSettings

TABLE_INTERVAL_S = 0.5
"""How often the worker table is read."""

STOP_LIMIT_S = 5.0
"""How long unanswered requests may still take once the dispatcher was told to stop."""

log = structlog.get_logger()


class ReapedLeases(LeaseStore, Protocol):
    """Leases with the duty to free what nobody else will: `shared.control.leases.Leases`."""

    async def reap(self) -> list[Lease]:
        """Frees what dead workers and lost offers left behind; raises ControlUnavailable."""


class Dispatcher:
    """One dispatcher, from its first datagram to its last."""

    def __init__(self, settings: DispatcherSettings, workers: TableSource, leases: ReapedLeases) -> None:
        loop = asyncio.get_running_loop()
        self.listening: asyncio.Future[int] = loop.create_future()
        """The SIP port, once it is open."""
        self._settings = settings
        self._table = Table(workers, loop.time)
        self._leases = leases
        secret = settings.lease_secret.get_secret_value()
        self._offers = Offers(self._table, leases, policy=settings.placement_policy, secret=secret)
        self._notices = Notices()
        self._control_away = False
        self._stopping = asyncio.Event()
        self._all_answered = asyncio.Event()

    def stop(self) -> None:
        """Ends `run` soon: new calls are refused, unanswered ones get a few seconds."""
        self._stopping.set()

    async def refresh(self) -> None:
        """Reads the worker table and lets the SIP side know."""
        await self._read_table()
        self._apply_table()

    async def run(self) -> None:
        """Serves until `stop` is called; raises ConfigError when the SIP port is taken."""
        await self._read_table()
        self._start()
        async with asyncio.TaskGroup() as self._tasks:
            watching = [
                self._tasks.create_task(self._watch_table(), name="worker table"),
                self._tasks.create_task(self._reap(), name="reap"),
            ]
            await self._stopping.wait()
            await self._drain()
            self._driver.close()
            for task in watching:
                task.cancel()
        log.info("dispatcher.stopped")

    def _start(self) -> None:
        settings = self._settings
        self._driver = Driver(self._handle)
        port = self._listen(settings.sip_local_address, settings.sip_port)
        self._proxy = Proxy(
            ProxySettings(
                address=Address("udp", settings.advertised_address, port),
                secret=settings.lease_secret.get_secret_value(),
                peers=settings.sip_allowed_peers,
                invite_rate=settings.sip_invite_rate,
                redirect=settings.dispatch_mode is DispatchMode.REDIRECT,
            )
        )
        self._apply_table()
        self._driver.serve(self._proxy)
        self.listening.set_result(port)
        log.info(
            "dispatcher.listening",
            transport="udp",
            host=settings.sip_local_address,
            port=port,
            advertised=settings.advertised_address,
            mode=settings.dispatch_mode,
            workers=self._table.ready(),
        )

    def _listen(self, host: str, port: int) -> int:
        try:
            return self._driver.listen(host, port)
        except OSError as error:
            raise ConfigError([f"SIP_PORT: cannot listen on {host}:{port}: {error.strerror}"]) from error

    async def _drain(self) -> None:
        self._proxy.draining = True
        log.info("dispatcher.draining", unanswered=self._proxy.unanswered())
        self._note_answered()
        try:
            async with asyncio.timeout(STOP_LIMIT_S):
                await self._all_answered.wait()
        except TimeoutError:
            log.warning("dispatcher.stopped_early", unanswered=self._proxy.unanswered())

    def _note_answered(self) -> None:
        if self._proxy.draining and not self._proxy.unanswered():
            self._all_answered.set()

    def _handle(self, action: Place | Release | Report) -> None:
        """Carries out what the core asks for besides sending."""
        if isinstance(action, Report):
            self._report(action)
        elif isinstance(action, Place):
            self._tasks.create_task(self._place(action), name="place")
        else:
            self._tasks.create_task(self._release(action.lease), name="release")

    async def _place(self, place: Place) -> None:
        """Answers one question of the core, whatever happens on the way."""
        waited_ms = round((asyncio.get_running_loop().time() - place.invite_at) * 1000)
        try:
            offer = await self._offers.make(place, now_ms() - waited_ms)
        except Exception:
            log.exception("dispatcher.placement_failed", call_id=place.call_id)
            offer = None
        self._apply_table()  # placing may have read it anew: the worker's answer must not come from a stranger
        step = partial(self._proxy.placed, place, offer) if offer else partial(self._proxy.no_room, place)
        self._driver.run(step)

    async def _release(self, lease: Lease) -> None:
        try:
            await self._offers.withdraw(lease)
        except Exception:
            log.exception("dispatcher.release_failed", call_id=lease.call_id)

    def _report(self, report: Report) -> None:
        if not report.event.startswith("sip.") or report.event == "sip.incoming_call":
            log.info(report.event, **report.fields)
        elif self._notices.first(report.event, str(report.fields["source"]), asyncio.get_running_loop().time()):
            log.warning(report.event, **report.fields)

    async def _watch_table(self) -> None:
        while True:
            await asyncio.sleep(TABLE_INTERVAL_S)
            await self.refresh()
            for event, source, count in self._notices.counts(asyncio.get_running_loop().time()):
                log.warning(event, source=source, more=count)

    async def _read_table(self) -> None:
        """Reads the table, or goes on with the last one known; each change between the two is logged."""
        was_away, ready = self._control_away, self._table.ready()
        try:
            await self._table.refresh()
        except ControlUnavailable as error:
            self._control_away = True
            if not was_away:
                log.warning("control.unavailable", error=str(error))
            return
        self._control_away = False
        if was_away:
            log.info("control.available")
        if self._table.ready() != ready:
            log.info("dispatcher.workers", ready=self._table.ready(), room=self._table.room())

    def _apply_table(self) -> None:
        self._proxy.workers.update(self._table.addresses(), asyncio.get_running_loop().time())
        self._proxy.open = self._table.room() > 0
        if self._proxy.draining:
            self._note_answered()

    async def _reap(self) -> None:
        while True:
            await asyncio.sleep(REAP_INTERVAL_S)
            try:
                freed = await self._leases.reap()
            except ControlUnavailable:
                continue  # said by the task that reads the table
            for lease in freed:
                log.warning("lease.reaped", call_id=lease.call_id, worker_id=lease.worker_id)


async def serve(settings: DispatcherSettings) -> None:
    """Runs a dispatcher until SIGTERM or SIGINT."""
    redis = connect(settings.redis_url, client_name="voicepool-dispatcher")
    leases = Leases(redis, record_retention_s=settings.record_retention_h * 3600)
    dispatcher = Dispatcher(settings, Workers(redis), leases)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, dispatcher.stop)
    try:
        await dispatcher.run()
    finally:
        await redis.aclose()
