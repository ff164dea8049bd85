"""Call records, read from the stream that release and reap write to.

It writes none: a record is written in the same step that ends its lease, so that there is exactly one.
"""

from dataclasses import dataclass

from redis.asyncio import Redis

from shared.control import keys
from shared.control.connection import ask
from shared.messages import CallRecord, MessageError

START = "0-0"
"""Position before the first record."""


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
