"""The pool's events: what happened, to which call or process, in one stream that anybody may read at his own pace.

Scripts write them in the step that makes them happen (`tell` in slots.lua). No event has a number, a word of the
conversation or a secret in it. What readers do with them is theirs; docs/events.md says what they can rely on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from shared.control import keys
from shared.control.connection import answering, ask
from shared.errors import ControlUnavailable

START = "0-0"
"""Position before the first event."""


class EventName(StrEnum):
    """Every event there is."""

    CALL_STARTED = "call.started"
    """A worker has taken a call: call_id, worker_id, agent, resource."""
    CALL_ANSWERED = "call.answered"
    """call_id, worker_id."""
    CALL_ENDED = "call.ended"
    """call_id, worker_id, agent, result (a CallResult), reason (a CallEnd). Its record is written in the same step."""
    CALL_REFUSED = "call.refused"
    """A dispatcher found nobody for a call: call_id, status (SIP), reason."""
    WORKER_JOINED = "worker.joined"
    """worker_id, state."""
    WORKER_STATE = "worker.state"
    """worker_id, state."""
    WORKER_LEFT = "worker.left"
    """worker_id: it said so."""
    WORKER_LOST = "worker.lost"
    """worker_id: nothing was heard of it any more; calls is how many it had."""
    DISPATCHER_JOINED = "dispatcher.joined"
    """dispatcher_id."""
    DISPATCHER_LEFT = "dispatcher.left"
    """dispatcher_id."""
    DISPATCHER_LOST = "dispatcher.lost"
    """dispatcher_id."""
    RESOURCE_THROTTLED = "resource.throttled"
    """The service answered 429: resource, retry_after_ms."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event and where it stands in the stream."""

    position: str
    """Stream id, to read on from."""
    name: str
    """An EventName, or one that a newer process has."""
    at_ms: int
    """Unix time in ms, by Redis's clock."""
    about: Mapping[str, str]
    """What it is about, by the names above."""

    def flat(self) -> dict[str, str | int]:
        """Returns it as others are given it: `id` (its position), `event`, `at_ms`, and what it is about."""
        return {"id": self.position, "event": self.name, "at_ms": self.at_ms, **self.about}


class Events:
    """The events of the pool behind `redis`, the newest EVENTS_MAX or a few more.

    Every method raises ControlUnavailable when Redis does not answer in time.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def read(self, count: int, *, since: str | None = None) -> list[Event]:
        """Returns events, oldest first: the newest `count`, or the first `count` after position `since`."""
        entries: list[tuple[bytes, dict[bytes, bytes]]]
        if since is None:
            entries = await ask(self._redis, "XREVRANGE", keys.events(), "+", "-", "COUNT", count)
            entries.reverse()
        else:
            entries = await ask(self._redis, "XRANGE", keys.events(), f"({since}", "+", "COUNT", count)
        return [event_of(position, fields) for position, fields in entries]

    async def tell(self, name: EventName, about: Mapping[str, str | int]) -> None:
        """Writes an event that no script writes."""
        seconds, micros = await ask(self._redis, "TIME")
        at_ms = int(seconds) * 1000 + int(micros) // 1000
        fields = [part for pair in {"event": name, "at_ms": at_ms, **about}.items() for part in pair]
        await ask(self._redis, "XADD", keys.events(), "MAXLEN", "~", keys.EVENTS_MAX, "*", *fields)


@dataclass(frozen=True, slots=True)
class Batch:
    """What a group's reader was given."""

    events: Sequence[Event]
    """Oldest first."""
    gone: int
    """How many more there were to give, which had been trimmed away."""


class EventGroup:
    """A consumer group: each event goes to one of the readers that share its name, and stays theirs until it is done.

    A reader that says nothing of its events for a while loses them to the others; it must keep those it works on. So
    each event is done by somebody, and sometimes by two. Every method raises ControlUnavailable.
    """

    def __init__(self, redis: Redis, name: str, reader: str) -> None:
        """`reader` is a name that nobody else in the group has, nor had."""
        self._redis = redis
        self._name = name
        self._reader = reader

    async def open(self) -> None:
        """Makes the group, unless there is one. It begins with the next event."""
        position, added = START, 0
        try:
            async with answering(self._redis, "event_group_open"):
                stream: dict[str, Any] = await self._redis.xinfo_stream(keys.events())
            position, added = stream["last-generated-id"].decode(), stream["entries-added"]
        except ControlUnavailable as error:
            if not _says(error.__cause__, "no such key"):
                raise
        await self._create(position, added)

    async def read(self, count: int) -> Batch:
        """Returns the next events, `count` at most, and how many the group has missed before them.

        In a Redis that has lost the group, and its events with it, it begins anew with the first event.
        """
        async with answering(self._redis, "event_group_read"), self._redis.pipeline(transaction=True) as pipe:
            pipe.xinfo_stream(keys.events())
            pipe.xinfo_groups(keys.events())
            pipe.xreadgroup(self._name, self._reader, {keys.events(): ">"}, count)
            stream, groups, found = await pipe.execute(raise_on_error=False)
            if _says(found, "NOGROUP"):
                await self._create(START, 0)
                return Batch([], 0)
            for answer in (stream, groups, found):
                if isinstance(answer, Exception):
                    raise answer
            [group] = [group for group in groups if group["name"].decode() == self._name]
            entries = found[0][1] if found else []
            gone = _gone(stream, group)
            if gone:
                # Redis 7.0 goes on counting from the last entry it gave; the next gap would contain this one.
                read = stream["entries-added"] - stream["length"] + len(entries)
                await self._redis.xgroup_setid(keys.events(), self._name, entries[-1][0], entries_read=read)
        return Batch([event_of(*entry) for entry in entries], gone)

    async def take_over(self, count: int, silent_s: float) -> Batch:
        """Takes events of which their readers have said nothing for `silent_s`, `count` at most.

        They may be this reader's own: what it was given in an answer that got lost.
        """
        events: list[Event] = []
        gone, cursor = 0, START
        while len(events) < count:
            cursor, entries, trimmed = await ask(
                self._redis, "XAUTOCLAIM", keys.events(), self._name, self._reader, keys.ms(silent_s), cursor,
                "COUNT", count - len(events),
            )  # fmt: skip
            events += [event_of(*entry) for entry in entries]
            gone += len(trimmed)
            if cursor == START.encode():
                break
        return Batch(events, gone)

    async def keep(self, positions: Sequence[str]) -> None:
        """Says that this reader is still at work on these events."""
        await self._claim(positions)

    async def hand_back(self, positions: Sequence[str]) -> int:
        """Leaves these events to whoever takes over next; returns how many are not there any more, trimmed away."""
        return len(positions) - len(await self._claim(positions, idle=_LONG_AGO_MS))

    async def done(self, positions: Sequence[str]) -> None:
        """Says that these events need nobody any more."""
        if positions:
            await ask(self._redis, "XACK", keys.events(), self._name, *positions)

    async def forget_readers(self, silent_s: float) -> None:
        """Removes the names of readers that have asked for nothing for `silent_s` and have no event."""
        async with answering(self._redis, "event_readers_forget"):
            readers: list[dict[str, Any]] = await self._redis.xinfo_consumers(keys.events(), self._name)
            for reader in readers:
                if not reader["pending"] and reader["idle"] > keys.ms(silent_s):
                    await self._redis.xgroup_delconsumer(keys.events(), self._name, reader["name"])

    async def _create(self, position: str, added: int) -> None:
        try:
            async with answering(self._redis, "event_group_create"):
                await self._redis.xgroup_create(keys.events(), self._name, position, mkstream=True, entries_read=added)
        except ControlUnavailable as error:
            if not _says(error.__cause__, "BUSYGROUP"):
                raise

    async def _claim(self, positions: Sequence[str], *, idle: int = 0) -> list[bytes]:
        """Makes events this reader's, last heard of `idle` ms ago, and returns those that still are in the stream."""
        if not positions:
            return []
        async with answering(self._redis, "event_claim"):
            claimed: list[Any] = await self._redis.xclaim(
                keys.events(), self._name, self._reader, 0, list(positions), idle=idle, justid=True
            )
        return claimed


_LONG_AGO_MS = keys.ms(24 * 3600.0)
"""Silence after which everybody takes over."""


def _gone(stream: Mapping[str, Any], group: Mapping[str, Any]) -> int:
    """Returns how many entries were trimmed that the group had not read: nothing else removes any."""
    trimmed, read = stream["entries-added"] - stream["length"], group["entries-read"]
    if read is None:
        return 0  # a group made by hand, of which Redis does not know how far it is
    return max(0, trimmed - int(read)) if stream["length"] else 0


def _says(answer: object, text: str) -> bool:
    """Says whether this is Redis's error with that text in it; it has no other marks."""
    return isinstance(answer, ResponseError) and text in str(answer)


def event_of(position: bytes, fields: Mapping[bytes, bytes]) -> Event:
    """Returns the event of a stream entry."""
    about = {name.decode(): value.decode() for name, value in fields.items()}
    name, at_ms = about.pop("event", ""), about.pop("at_ms", "0")
    return Event(position.decode(), name, int(at_ms), about)
