"""The dispatcher as a process: the SIP core, its sockets, the worker table and the leases, joined.

It decides nothing about SIP (`sip/`), about who gets a call (`placement.py`) or about patience (`placing.py`). What a
dispatcher does for the pool beside calls is `upkeep.py`.
"""

import asyncio
import signal
import time
from functools import partial
from typing import Protocol

import structlog

from dispatcher.agents import AgentDirectory
from dispatcher.notices import Notices
from dispatcher.offers import LeaseStore, Offers
from dispatcher.placing import Left, Placing, Refused
from dispatcher.sip.actions import Address, Dispatched, Find, GiveUp, Order, Orphan, Place, Release, Report, Settled
from dispatcher.sip.proxy import Proxy, ProxySettings
from dispatcher.table import Table, TableSource, address_of
from dispatcher.telemetry import Notes, Standing, Telemetry
from dispatcher.transport.driver import Driver
from dispatcher.transport.tls import Tls, TlsFiles
from dispatcher.upkeep import Upkeep
from shared.choices import DispatchMode
from shared.clock import now_ms
from shared.control.connection import connect
from shared.control.workers import Workers
from shared.errors import ConfigError, ControlUnavailable
from shared.ids import CallId
from shared.messages import Lease
from shared.settings import DispatcherSettings

TABLE_INTERVAL_S = 0.5
"""How often the worker table is read."""

STOP_LIMIT_S = 5.0
"""How long unanswered requests may still take once the dispatcher was told to stop."""

log = structlog.get_logger()


class FoundLeases(LeaseStore, Protocol):
    """Leases that can be looked up too: `shared.control.leases.Leases`."""

    async def find(self, call_id: CallId) -> Lease | None:
        """Returns the lease that a call has; raises ControlUnavailable."""


class Listener(Protocol):
    """Who hears what came of calls: `dispatcher.upkeep.Upkeep`."""

    def refused(self, call_id: CallId, status: int, reason: str) -> None:
        """A call has not been placed."""

    def settled(self, call_id: CallId) -> None:
        """An orphan's caller knows, or cannot be told."""


class Dispatcher:
    """One dispatcher, from its first datagram to its last."""

    def __init__(
        self,
        settings: DispatcherSettings,
        workers: TableSource,
        leases: FoundLeases,
        agents: AgentDirectory,
        listener: Listener,
        notes: Notes,
    ) -> None:
        """`agents` have been opened."""
        loop = asyncio.get_running_loop()
        self.listening: asyncio.Future[Address] = loop.create_future()
        """Where this replica alone is reached, once it is."""
        self._settings = settings
        self._table = Table(workers, loop.time)
        self._leases = leases
        self._agents = agents
        self._listener = listener
        self._notes = notes
        self._offers = Offers(
            self._table,
            leases,
            policy=settings.placement_policy,
            secret=settings.lease_secret.get_secret_value(),
            may_wait=settings.queue_wait_s > 0,
        )
        self._placings: dict[int, Placing] = {}
        self._driver = Driver(self._handle)
        self._notices = Notices()
        self._control_away = False
        self._ready_told = 0
        """Workers that take calls, as last logged: placing reads the table, too."""
        self._stopping = asyncio.Event()
        self._all_answered = asyncio.Event()

    @property
    def draining(self) -> bool:
        """Whether new calls are refused, or soon will be."""
        return self._proxy.draining or self._proxy.leaving

    def standing(self) -> Standing:
        """Returns how it is doing; to be asked once it listens."""
        received, sent = self._proxy.messages
        return Standing(
            not_ready=self._not_ready(),
            draining=self.draining,
            stopping=self._stopping.is_set(),
            workers=self._table.ready(),
            room=self._table.room(),
            waiting=sum(placing.in_line for placing in self._placings.values()),
            transactions=self._proxy.transactions,
            received=received,
            sent=sent,
            redis_answers=not self._control_away,
        )

    def drain(self, draining: bool) -> None:
        """Refuses new calls from now on, or takes them again; one that has been told to stop takes none any more."""
        if draining != self._proxy.draining and not self._stopping.is_set():
            log.info("dispatcher.draining" if draining else "dispatcher.taking_calls")
            self._proxy.draining = draining

    def stop(self) -> None:
        """Ends `run` after SIP_STOP_GRACE_S: then new calls are refused, and unanswered ones get a few seconds."""
        self._stopping.set()

    def hang_up(self, lease: Lease) -> None:
        """Says BYE to the caller of a dead worker's call; the listener hears when it is settled."""
        if lease.dialog is not None:
            orphan = Orphan(lease.call_id, lease.dialog, lease.peer)
            self._notes.orphaned()
            self._driver.run(partial(self._proxy.hang_up, orphan))

    async def refresh(self) -> None:
        """Reads the worker table and lets the SIP side know."""
        await self._read_table()
        self._apply_table()

    async def start(self) -> None:
        """Opens the sockets; raises ConfigError when a port is taken, or a TLS file is no good."""
        self._own, self._streams, self._shared = self._listen()
        await self._read_table()

    async def run(self) -> None:
        """Serves until `stop` is called."""
        async with asyncio.TaskGroup() as self._tasks:
            self._serve()
            watching = self._tasks.create_task(self._watch_table(), name="worker table")
            await self._stopping.wait()
            await self._linger()
            await self._answer_all()
            self._driver.close()
            watching.cancel()
        log.info("dispatcher.stopped")

    def _serve(self) -> None:
        settings, own, streams, shared = self._settings, self._own, self._streams, self._shared
        self._proxy = Proxy(
            ProxySettings(
                address=own,
                streams=streams,
                shared=shared,
                secret=settings.lease_secret.get_secret_value(),
                peers=settings.sip_allowed_peers,
                invite_rate=settings.sip_invite_rate,
                redirect=settings.dispatch_mode is DispatchMode.REDIRECT,
                trace_ratio=settings.trace_ratio,
            )
        )
        self._apply_table()
        self._driver.serve(self._proxy)
        self.listening.set_result(own)
        log.info(
            "dispatcher.listening",
            transports=[each.transport for each in (own, *streams)],
            host=settings.sip_local_address,
            port=self._port,
            tls_port=next((each.port for each in streams if each.transport == "tls"), None),
            advertised=settings.advertised_address,
            own_port=own.port,
            mode=settings.dispatch_mode,
            workers=self._table.ready(),
        )

    def _listen(self) -> tuple[Address, tuple[Address, ...], tuple[Address, ...]]:
        """Opens the sockets; returns where this replica is reached over UDP and over connections, and where all are."""
        settings = self._settings
        host, port, advertised = settings.sip_local_address, settings.sip_port, settings.advertised_address
        try:
            if settings.sip_share_port:
                self._port = self._driver.share(host, port, tcp=settings.sip_tcp)
                own = Address("udp", advertised, self._driver.listen(host, 0))
            else:
                self._port = self._driver.listen(host, port, tcp=settings.sip_tcp)
                own = Address("udp", advertised, self._port)
        except OSError as error:
            raise ConfigError([f"SIP_PORT: cannot listen on {host}:{port}: {error.strerror}"]) from error
        tls_port = self._listen_tls()
        streams = [Address("tcp", advertised, self._port)] if settings.sip_tcp else []
        streams += [Address("tls", advertised, tls_port)] if tls_port is not None else []
        host, port = settings.shared_address or (advertised, self._port)
        shared = (Address("udp", host, port), *(_at(each, host, port) for each in streams))
        return own, tuple(streams), shared

    def _listen_tls(self) -> int | None:
        """Opens the TLS socket, if there is to be one; returns its port."""
        settings = self._settings
        host, port = settings.sip_local_address, settings.sip_tls_port
        if port is None:
            return None
        files = TlsFiles(settings.sip_tls_cert_file, settings.sip_tls_key_file, settings.sip_tls_ca_file)
        if problem := files.problem():
            raise ConfigError([": ".join(problem)])
        try:
            return self._driver.listen_tls(host, port, Tls(files), shared=settings.sip_share_port)
        except OSError as error:
            raise ConfigError([f"SIP_TLS_PORT: cannot listen on {host}:{port}: {error.strerror}"]) from error

    async def _linger(self) -> None:
        """Takes what is still sent here, by a load balancer that has not heard yet that this one is going."""
        self._proxy.leaving = True
        grace_s = self._settings.sip_stop_grace_s
        if grace_s:
            log.info("dispatcher.leaving", grace_s=grace_s)
            await asyncio.sleep(grace_s)

    async def _answer_all(self) -> None:
        self._proxy.draining = True
        self._all_answered.clear()  # there may have been a moment without calls before the last ones came
        log.info("dispatcher.stopping", unanswered=self._proxy.unanswered())
        self._note_answered()
        try:
            async with asyncio.timeout(STOP_LIMIT_S):
                await self._all_answered.wait()
        except TimeoutError:
            log.warning("dispatcher.stopped_early", unanswered=self._proxy.unanswered())

    def _note_answered(self) -> None:
        if self._stopping.is_set() and not self._proxy.unanswered():
            self._all_answered.set()

    def _not_ready(self) -> str:
        # Workers that are full or late are no reason: all dispatchers see the same ones, callers are owed a 503, and
        # running calls somebody who carries on.
        if self.draining:
            return "draining"
        return "" if self._table.living() else "no worker is alive"

    def _handle(self, action: Order) -> None:
        """Carries out what the core asks for besides sending."""
        match action:
            case Report():
                self._report(action)
            case Dispatched():
                self._notes.dispatched(action, asyncio.get_running_loop().time())
            case Place():
                self._tasks.create_task(self._place(action), name="place")
            case GiveUp():
                if placing := self._placings.get(action.number):
                    placing.give_up()
            case Find():
                self._tasks.create_task(self._find(action), name="find")
            case Release():
                self._tasks.create_task(self._release(action.lease), name="release")
            case Settled():
                self._listener.settled(action.call_id)

    async def _place(self, place: Place) -> None:
        """Answers one question of the core, whatever happens on the way."""
        began_ns = time.time_ns()
        waited_ms = round((asyncio.get_running_loop().time() - place.invite_at) * 1000)
        try:
            demands = self._agents.demands(place.request, place.source)
            placing = Placing(self._offers, place, demands, now_ms() - waited_ms)
            self._placings[place.number] = placing
            outcome = await placing.run(
                self._settings.queue_wait_s,
                waiting=lambda: self._driver.run(partial(self._proxy.waiting, place)),
                taken=lambda: self._driver.run(partial(self._proxy.taken, place)),
            )
        except Exception:
            log.exception("dispatcher.placement_failed", call_id=place.call_id, trace_id=place.trace.context.trace_id)
            outcome = Refused("internal_error")
        finally:
            self._placings.pop(place.number, None)
        self._notes.leased(place, outcome, began_ns)
        self._apply_table()  # placing may have read it anew: the worker's answer must not come from a stranger
        match outcome:
            case Refused():
                self._driver.run(partial(self._proxy.no_room, place, reason=outcome.reason))
            case Left():
                self._driver.run(partial(self._proxy.taken, place))
            case offer:
                self._driver.run(partial(self._proxy.placed, place, offer))

    async def _find(self, find: Find) -> None:
        """Looks up where a call is that another replica placed."""
        lease: Lease | None = None
        try:
            lease = await self._leases.find(find.call_id)
        except ControlUnavailable:  # after a second; a caller sends its CANCEL again for 32 s
            log.warning("dispatcher.call_not_looked_up", call_id=find.call_id)
        row = self._table.find(lease.worker_id) if lease else None
        if lease and row:
            self._driver.run(partial(self._proxy.found, find, lease, address_of(row)))
        else:
            self._driver.run(partial(self._proxy.not_found, find))

    async def _release(self, lease: Lease) -> None:
        try:
            await self._offers.withdraw(lease)
        except Exception:
            log.exception("dispatcher.release_failed", call_id=lease.call_id, trace_id=lease.trace_id)

    def _report(self, report: Report) -> None:
        self._notes.reported(report)
        if report.event == "call.refused":
            fields = report.fields
            self._listener.refused(CallId(str(fields["call_id"])), int(fields["status"]), str(fields["reason"]))
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
        was_away = self._control_away
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
        ready = self._table.ready()
        if ready != self._ready_told:
            self._ready_told = ready
            log.info("dispatcher.workers", ready=ready, room=self._table.room())

    def _apply_table(self) -> None:
        self._proxy.workers.update(self._table.addresses(), asyncio.get_running_loop().time())
        self._proxy.open = self._table.room(self._agents.current.resources) > 0
        if self._table.in_touch:
            for row in self._table.take_silent():  # what rings there rings at somebody dead
                if self._table.is_served(address_of(row)):  # by its replacement, whose calls go on
                    self._driver.run(partial(self._proxy.lost, row.record.worker_id))
                else:
                    self._driver.run(partial(self._proxy.unreachable, address_of(row)))
        self._note_answered()


def _at(address: Address, host: str, port: int) -> Address:
    """Returns where all replicas are reached instead: over TLS at the same port, over TCP at the one that UDP has."""
    return address._replace(host=host, port=address.port if address.transport == "tls" else port)


async def serve(settings: DispatcherSettings, telemetry: Telemetry) -> None:
    """Runs a dispatcher until SIGTERM or SIGINT; raises ConfigError when it cannot start."""
    loop = asyncio.get_running_loop()
    agents = AgentDirectory(settings)
    await agents.open()
    observe = telemetry.notes.asked_redis
    async with connect(settings.redis, client_name="voicepool-dispatcher", observe=observe) as redis:
        upkeep = Upkeep(settings, redis, agents)
        dispatcher = Dispatcher(settings, Workers(redis), upkeep.leases, agents, upkeep, telemetry.notes)
        await dispatcher.start()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, dispatcher.stop)
        async with asyncio.TaskGroup() as tasks:
            beside = [
                tasks.create_task(upkeep.run(dispatcher), name="upkeep"),
                tasks.create_task(agents.watch(), name="agent file"),
                tasks.create_task(telemetry.run(dispatcher), name="telemetry"),
            ]
            await dispatcher.run()
            for task in beside:
                task.cancel()
