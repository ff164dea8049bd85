"""Orphans: calls that were answered, whose worker is dead or cannot reach its dispatcher. Their callers are owed a BYE.

It writes none: reap and release do, in the step that ends the lease. Who says BYE is a dispatcher.
"""

from redis.asyncio import Redis

from shared.control import keys
from shared.control.connection import answering
from shared.control.scripts import Script
from shared.ids import CallId
from shared.messages import Lease, MessageError

BATCH = 100
"""Orphans handed out at once."""


class Orphans:
    """The orphans of the pool behind `redis`. Every method raises ControlUnavailable without an answer in time."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._take = Script(redis, "orphan_take")

    async def take(self) -> list[Lease]:
        """Returns calls to say BYE for, at most BATCH, each with its dialog.

        Nobody else gets them for ORPHAN_RETRY_S; then, if they are not settled, somebody gets them once more.
        """
        answer: list[bytes] = await self._take(keys.of_orphans(), [BATCH])
        leases = []
        for packed in answer:
            try:
                leases.append(Lease.unpack(packed))
            except MessageError:
                continue  # newer than this process can read; another dispatcher gets it
        return leases

    async def settle(self, call_id: CallId) -> None:
        """Notes that a caller knows, or cannot be told."""
        async with answering(self._redis, "orphan_settle"), self._redis.pipeline(transaction=True) as pipe:
            pipe.zrem(keys.orphans(), call_id)
            pipe.hdel(keys.orphan_leases(), call_id)
            await pipe.execute()
