"""Port blocks: which pod of a machine has which of its SIP, RTP and telemetry ports.

It knows no port numbers: what block n comes to, the settings say. Nor does it look whether ports can be bound.
"""

from redis.asyncio import Redis

from shared.control import keys
from shared.control.scripts import Script


class PortBlocks:
    """The port blocks of one machine, for one owner. Every method raises ControlUnavailable without an answer in time.

    An owner is one start of one pod; it has one block at most.
    """

    def __init__(self, redis: Redis, machine: str, owner: str) -> None:
        self._keys = keys.of_machine(machine)
        self._owner = owner
        self._take = Script(redis, "ports_take")
        self._keep = Script(redis, "ports_keep")
        self._release = Script(redis, "ports_release")

    async def take(self, blocks: int) -> int | None:
        """Leases one of blocks 0 to `blocks` - 1 for PORT_BLOCK_TTL_S and returns its number; None when all are taken.

        It is the one that the owner has, or else the free one that was in use the longest time ago.
        """
        answer: int | None = await self._take(self._keys, [self._owner, blocks])
        return answer

    async def keep(self, block: int) -> bool:
        """Renews the lease, to be called every PORT_BLOCK_RENEW_INTERVAL_S; takes it again where Redis has lost it.

        Returns whether the owner has the block: False when somebody else does.
        """
        return bool(await self._keep(self._keys, [self._owner, block]))

    async def release(self, block: int) -> bool:
        """Gives the block back; returns whether the owner had it."""
        return bool(await self._release(self._keys, [self._owner, block]))
