"""The calls that hold a lease now, as operators see them."""

from dataclasses import dataclass

from redis.asyncio import Redis

from shared.control import keys
from shared.control.connection import answering, ask
from shared.control.scripts import held_lease
from shared.ids import CallId
from shared.messages import Lease, MessageError

PAGE = 500
"""Calls read at once."""


@dataclass(frozen=True, slots=True)
class CallRow:
    """One call at one moment."""

    lease: Lease
    claimed: bool
    """Whether its worker has taken it; otherwise it is being offered."""


class RunningCalls:
    """The running calls of the pool behind `redis`. Raises ControlUnavailable without an answer in time."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def table(self) -> list[CallRow]:
        """Returns all calls, those that began first at the beginning; one that ends meanwhile may be left out."""
        call_ids: list[bytes] = await ask(self._redis, "ZRANGE", keys.lapses(), 0, -1)
        rows: list[CallRow] = []
        for first in range(0, len(call_ids), PAGE):
            rows += await self._read([CallId(call_id.decode()) for call_id in call_ids[first : first + PAGE]])
        return sorted(rows, key=lambda row: (row.lease.invite_at_ms, row.lease.call_id))

    async def find(self, call_id: CallId) -> CallRow | None:
        """Returns one call, None when it holds no lease."""
        return next(iter(await self._read([call_id])), None)

    async def _read(self, call_ids: list[CallId]) -> list[CallRow]:
        async with answering(self._redis, "call_read"), self._redis.pipeline(transaction=False) as pipe:
            for call_id in call_ids:
                pipe.hmget(keys.call(call_id), ["lease", "offered_at_ms", "resource", "state"])
            found: list[tuple[bytes, bytes, bytes | None, bytes]] = await pipe.execute()
        return [row for row in (_row(*fields) for fields in found if fields[0]) if row]


def _row(packed: bytes, offered_at_ms: bytes, resource: bytes | None, state: bytes) -> CallRow | None:
    try:
        return CallRow(held_lease(packed, offered_at_ms, resource), state == b"claimed")
    except MessageError:
        return None
