"""The webhook sender as a process: takes events from the consumer group and has the receiver take them.

    stream ── read, take_over ──> in hand ──> one task each ──> Receiver.offer ──> done, or DeadEvents.add and done
                                               └── back-off, up to WEBHOOK_ATTEMPTS ──┘

The stream is the queue: what is not in hand waits there, and what is in hand stays there until it is done. A failing
event waits by itself and holds up none behind it, so that their order is not kept. It does no HTTP (`receiver.py`).
"""

import asyncio
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass

import structlog

from admin.webhooks.dead import DeadEvents
from admin.webhooks.receiver import REQUESTS_MAX, Receiver, Refusal, receiver
from admin.webhooks.settings import WebhookSettings
from shared.backoff import delay_s
from shared.control.connection import connect
from shared.control.events import Batch, Event, EventGroup
from shared.errors import ControlUnavailable

GROUP = "webhooks"

BATCH = 100
"""Events read at once."""

IN_HAND_MAX = 2000
"""Events of one sender that are being tried or wait to be tried again; beyond that it reads no more."""

READ_S = 0.2
"""How often new events are looked for, and Redis is tried again. A blocking read would hold a connection."""

KEEP_S = 5.0
"""How often a sender says that it is at work on its events, and looks for those of dead ones."""

SILENT_S = 3.5 * KEEP_S
"""Others take over what a sender has said nothing of for so long."""

FORGET_S = 3600.0
"""A sender silent for this long, without events, will not come back; its name is removed."""

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 300.0
"""Bounds of the wait between two attempts, whatever Retry-After says."""

STOP_LIMIT_S = 5.0
"""How long requests under way may still take once the sender was told to stop."""

log = structlog.get_logger()


@dataclass(slots=True)
class Tally:
    """What has become of events since the sender began."""

    taken: int = 0
    dead: int = 0
    """Put aside."""
    gone: int = 0
    """Trimmed from the stream, and in nobody's hand."""


class Sender:
    """One sender, from the first event it reads to the last it settles."""

    def __init__(self, settings: WebhookSettings, group: EventGroup, dead: DeadEvents, to: Receiver) -> None:
        self._settings = settings
        self._group = group
        self._dead = dead
        self._receiver = to
        self._requests = asyncio.Semaphore(REQUESTS_MAX)
        self._in_hand: dict[str, asyncio.Task[None]] = {}
        self._stopping = asyncio.Event()
        self._control_away = False
        self._failing = False
        self._tally = Tally()

    def stop(self) -> None:
        """Ends `run` soon: nothing new is tried, requests under way get a few seconds."""
        self._stopping.set()

    async def run(self) -> None:
        """Delivers events until `stop` is called; what it has not settled by then is left to the other senders."""
        async with asyncio.TaskGroup() as self._tasks:
            if await self._insist(self._group.open):
                log.info("webhooks.started", events=self._settings.webhook_events)
            loops = [self._tasks.create_task(loop(), name=loop.__name__) for loop in (self._read, self._keep)]
            await self._stopping.wait()
            for task in loops:
                task.cancel()
            if self._in_hand:
                _, late = await asyncio.wait(self._in_hand.values(), timeout=STOP_LIMIT_S)
                for task in late:
                    task.cancel()
        async with self._control():
            self._count_gone(await self._group.hand_back(list(self._in_hand)))
        log.info("webhooks.stopped", left=len(self._in_hand), **asdict(self._tally))

    async def _read(self) -> None:
        while True:
            room = min(BATCH, IN_HAND_MAX - len(self._in_hand))
            batch = Batch([], 0)
            if room:
                async with self._control():
                    batch = await self._group.read(room)
                    await self._take(batch)
            if len(batch.events) < BATCH:
                await asyncio.sleep(READ_S)

    async def _keep(self) -> None:
        """Keeps what is in hand, first of all: after an outage it has been silent itself."""
        while True:
            async with self._control():
                await self._group.keep(list(self._in_hand))
                if room := IN_HAND_MAX - len(self._in_hand):
                    await self._take(await self._group.take_over(min(BATCH, room), SILENT_S))
                await self._group.forget_readers(FORGET_S)
            await asyncio.sleep(KEEP_S)

    async def _take(self, batch: Batch) -> None:
        """Starts on the events that are wanted; the others are done."""
        self._count_gone(batch.gone)
        unwanted = []
        for event in batch.events:
            if not self._settings.wants(event.name):
                unwanted.append(event.position)
            elif event.position not in self._in_hand:
                self._in_hand[event.position] = self._tasks.create_task(self._serve(event), name="webhook")
        await self._group.done(unwanted)

    async def _serve(self, event: Event) -> None:
        """Has one event taken or puts it aside; leaves it in hand when the sender is told to stop before that."""
        for attempt in range(1, self._settings.webhook_attempts + 1):
            async with self._requests:
                if self._stopping.is_set():
                    return
                refusal = await self._receiver.offer(event, attempt)
            self._note(refusal)
            if refusal is None:
                self._tally.taken += 1
                break
            if attempt == self._settings.webhook_attempts or not refusal.passing:
                if not await self._put_aside(event, refusal, attempt):
                    return
                break
            if await self._pause(_delay_s(attempt, refusal)):
                return
        if await self._insist(lambda: self._group.done([event.position])):
            del self._in_hand[event.position]

    async def _put_aside(self, event: Event, refusal: Refusal, attempts: int) -> bool:
        if not await self._insist(lambda: self._dead.add(event, refusal.error, attempts)):
            return False
        self._tally.dead += 1
        log.warning("webhooks.dead", id=event.position, event_name=event.name, error=refusal.error, attempts=attempts)
        return True

    async def _insist(self, step: Callable[[], Awaitable[None]]) -> bool:
        """Does a step in Redis, if need be once it answers again; returns False when the sender stops before that."""
        while True:
            async with self._control():
                await step()
                return True
            if await self._pause(READ_S):
                return False

    async def _pause(self, seconds: float) -> bool:
        """Waits, and returns whether the sender is to stop."""
        try:
            async with asyncio.timeout(seconds):
                return await self._stopping.wait()
        except TimeoutError:
            return False

    @asynccontextmanager
    async def _control(self) -> AsyncIterator[None]:
        """Goes on behind the block when Redis does not answer; each change between the two is logged."""
        try:
            yield
        except ControlUnavailable as error:
            if not self._control_away:
                log.warning("control.unavailable", error=str(error))
            self._control_away = True
            return
        if self._control_away:
            log.info("control.available")
        self._control_away = False

    def _count_gone(self, count: int) -> None:
        if count:
            self._tally.gone += count
            log.error("webhooks.events_gone", count=count)

    def _note(self, refusal: Refusal | None) -> None:
        """Logs each change between a receiver that takes events and one that does not."""
        failing = refusal is not None
        if refusal and not self._failing:
            log.warning("webhooks.refused", error=refusal.error)
        elif self._failing and not failing:
            log.info("webhooks.taken_again")
        self._failing = failing


async def serve(settings: WebhookSettings) -> None:
    """Runs a sender until SIGTERM or SIGINT."""
    redis = connect(settings.redis, client_name="voicepool-webhooks")
    group = EventGroup(redis, GROUP, f"{socket.gethostname()}-{secrets.token_hex(4)}")
    try:
        async with receiver(settings) as to:
            sender = Sender(settings, group, DeadEvents(redis), to)
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, sender.stop)
            await sender.run()
    finally:
        await redis.aclose()


def _delay_s(attempt: int, refusal: Refusal) -> float:
    return delay_s(attempt, first_s=FIRST_DELAY_S, longest_s=LONGEST_DELAY_S, asked_s=refusal.retry_after_s)
