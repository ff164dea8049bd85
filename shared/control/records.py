"""Call records, read from the stream that release and reap write to.

It writes none: a record is written in the same step that ends its lease, so that there is exactly one. It removes none
either: the reaper does.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass

from redis.asyncio import Redis

from shared.control import keys
from shared.control.connection import ask
from shared.messages import CallRecord, MessageError

START = "0-0"
"""Position before the first record."""

PAGE = 50
"""Records read at once when many are gone through: one may have 256 kB, and every answer has a timeout."""


@dataclass(frozen=True, slots=True)
class RecordRow:
    """One record and where it stands in the stream."""

    position: str
    """Stream id, to read on from."""
    record: CallRecord


class Records:
    """The call records of the pool behind `redis`, the newest RECORDS_MAX or a few more."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def newest_first(self, *, since_ms: int = 0) -> AsyncGenerator[RecordRow]:
        """Yields the records written at or after `since_ms` (Unix ms by Redis's clock), newest first.

        They are read a page at a time, as far as they are asked for. Raises ControlUnavailable.
        """
        before = "+"
        while True:
            entries: list[tuple[bytes, dict[bytes, bytes]]] = await ask(
                self._redis, "XREVRANGE", keys.records(), before, since_ms, "COUNT", PAGE
            )
            for position, fields in entries:
                if row := _row(position, fields):
                    yield row
            if len(entries) < PAGE:
                return
            before = f"({entries[-1][0].decode()}"

    async def read(self, count: int, *, since: str | None = None) -> list[RecordRow]:
        """Returns records, oldest first: the newest `count`, or the first `count` after position `since`.

        Records in a newer format than this process can read are left out. Raises ControlUnavailable.
        """
        entries: list[tuple[bytes, dict[bytes, bytes]]]
        if since is None:
            entries = await ask(self._redis, "XREVRANGE", keys.records(), "+", "-", "COUNT", count)
            entries.reverse()
        else:
            entries = await ask(self._redis, "XRANGE", keys.records(), f"({since}", "+", "COUNT", count)
        rows = (_row(position, fields) for position, fields in entries)
        return [row for row in rows if row]


def _row(position: bytes, fields: dict[bytes, bytes]) -> RecordRow | None:
    try:
        return RecordRow(position.decode(), CallRecord.unpack(fields[b"record"]))
    except MessageError:
        return None
