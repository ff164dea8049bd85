"""Dead letters: events that the receiver did not take, kept in Redis until somebody sends them again.

It sends nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from redis.asyncio import Redis

from shared.control import keys
from shared.control.connection import ask
from shared.control.events import Event, event_of

PAGE = 500
"""Entries read at once."""


@dataclass(frozen=True, slots=True)
class DeadEvent:
    """One event that was not taken."""

    event: Event
    error: str
    """What the last attempt met."""
    attempts: int
    """How often it was tried."""
    entries: tuple[str, ...]
    """Where it stands in the stream of dead letters: more than once when two senders have given it up."""


class DeadEvents:
    """The dead letters of the pool behind `redis`, the newest EVENTS_MAX or a few more.

    Every method raises ControlUnavailable when Redis does not answer in time.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def add(self, event: Event, error: str, attempts: int) -> None:
        """Puts an event aside."""
        fields = [part for pair in {**event.flat(), "error": error, "attempts": attempts}.items() for part in pair]
        await ask(self._redis, "XADD", keys.dead_events(), "MAXLEN", "~", keys.EVENTS_MAX, "*", *fields)

    async def all(self) -> list[DeadEvent]:
        """Returns every one of them, in the order in which they were given up."""
        found: dict[str, DeadEvent] = {}
        after = "-"
        while True:
            entries: list[tuple[bytes, dict[bytes, bytes]]] = await ask(
                self._redis, "XRANGE", keys.dead_events(), after, "+", "COUNT", PAGE
            )
            for entry_id, fields in entries:
                dead = _dead_event(entry_id, fields)
                before = found.get(dead.event.position)
                if before:
                    dead = DeadEvent(dead.event, dead.error, dead.attempts, before.entries + dead.entries)
                found[dead.event.position] = dead
            if len(entries) < PAGE:
                return list(found.values())
            after = f"({entries[-1][0].decode()}"

    async def remove(self, dead: Iterable[DeadEvent]) -> None:
        """Forgets events."""
        entries = [entry for each in dead for entry in each.entries]
        if entries:
            await ask(self._redis, "XDEL", keys.dead_events(), *entries)


def _dead_event(entry_id: bytes, fields: dict[bytes, bytes]) -> DeadEvent:
    position, error, attempts = (fields.pop(name, b"") for name in (b"id", b"error", b"attempts"))
    return DeadEvent(event_of(position, fields), error.decode(), int(attempts or 0), (entry_id.decode(),))
