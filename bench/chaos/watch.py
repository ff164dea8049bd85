"""Reads what the pool writes into Redis as it comes, since a Redis that is restarted forgets it.

It asks Redis itself, past the relay, and changes nothing there. What is left over at the end it counts.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from redis.asyncio import Redis

from shared.control import keys
from shared.control.connection import ask
from shared.control.events import START, Event, Events
from shared.control.records import Records
from shared.errors import ControlUnavailable
from shared.ids import CallId, WorkerId
from shared.messages import CallRecord

READ_EVERY_S = 0.2
PAGE = 500

STILL_MS = 5000
"""How long at most Redis takes no writes before it is restarted; it is killed long before."""


class Watch:
    """All records and events so far."""

    def __init__(self, redis: Redis) -> None:
        self.lives: list[list[CallRecord]] = [[]]
        """The records that Redis was given in each of its lives; it forgets them in between."""
        self.events: list[Event] = []
        self._redis = redis
        self._records = Records(redis)
        self._events = Events(redis)
        self._record_position = START
        self._event_position = START
        self._turn = asyncio.Lock()

    @classmethod
    @asynccontextmanager
    async def over(cls, redis: Redis) -> AsyncIterator["Watch"]:
        """Yields a watch that reads for as long as the block runs."""
        watch = cls(redis)
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(watch._run(), name="watch")
            yield watch
            reading.cancel()

    async def read(self) -> None:
        """Reads what is new; raises ControlUnavailable."""
        async with self._turn:
            while rows := await self._records.read(PAGE, since=self._record_position):
                self.lives[-1] += [row.record for row in rows]
                self._record_position = rows[-1].position
            while events := await self._events.read(PAGE, since=self._event_position):
                self.events += events
                self._event_position = events[-1].position

    async def before_forgetting(self) -> None:
        """Has Redis take no more writes, and reads the last of what it knows; it is to be killed then."""
        await ask(self._redis, "CLIENT", "PAUSE", STILL_MS, "WRITE")
        await self.read()
        self.lives.append([])

    async def left_over(self) -> dict[str, int]:
        """Returns what is in Redis of calls, by kind: leases and what belongs to them, queues, and debts."""
        counts = {
            "lapses": await ask(self._redis, "ZCARD", keys.lapses()),
            "sessions": len(await ask(self._redis, "HGETALL", keys.sessions())),
            "loads": len(await ask(self._redis, "HGETALL", keys.loads())),
            "orphans": await ask(self._redis, "ZCARD", keys.orphans()),
        }
        patterns = {
            "calls": keys.call(CallId("*")),
            "slots": keys.slots(WorkerId("*")),
            "waiting": keys.waiting("*"),
        }
        for name, pattern in patterns.items():
            counts[name] = sum([1 async for _ in self._redis.scan_iter(match=pattern)])
        return {name: count for name, count in counts.items() if count}

    async def _run(self) -> None:
        while True:
            with suppress(ControlUnavailable):  # it is being restarted
                await self.read()
            await asyncio.sleep(READ_EVERY_S)
