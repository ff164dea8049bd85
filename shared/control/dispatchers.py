"""The dispatcher table: which dispatchers there are, and where each of them alone is reached.

Calls do not need it. Workers look into it when a dispatcher does not answer any more, operators when they want to know.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from redis.asyncio import Redis

from shared.control import keys
from shared.control.scripts import Argument, Script
from shared.ids import DispatcherId
from shared.messages import DispatcherRecord, MessageError, ResourceQuota


@dataclass(frozen=True, slots=True)
class DispatcherRow:
    """One dispatcher as the table shows it at one moment."""

    record: DispatcherRecord
    heartbeat_age_ms: int
    """Time since the last heartbeat, by Redis's clock."""

    @property
    def alive(self) -> bool:
        """Whether the last heartbeat is recent."""
        return self.heartbeat_age_ms <= keys.ms(keys.HEARTBEAT_TTL_S)


class Dispatchers:
    """The dispatcher table behind `redis`. Every method raises ControlUnavailable without an answer in time."""

    def __init__(self, redis: Redis) -> None:
        self._heartbeat = Script(redis, "dispatcher_heartbeat")
        self._leave = Script(redis, "dispatcher_leave")
        self._table = Script(redis, "dispatcher_table")

    async def heartbeat(self, record: DispatcherRecord, quotas: Iterable[ResourceQuota] = ()) -> None:
        """Says that a dispatcher is there, to be called every HEARTBEAT_INTERVAL_S, and which quotas it goes by."""
        args: list[Argument] = [record.dispatcher_id, record.pack()]
        for quota in quotas:
            args += [quota.name, quota.pack()]
        script_keys = [
            keys.dispatchers(), keys.dispatcher_beats(), keys.quotas(), keys.quota_beats(), keys.events(),
            keys.watched(),
        ]  # fmt: skip
        await self._heartbeat(script_keys, args)

    async def leave(self, dispatcher_id: DispatcherId) -> None:
        """Takes a dispatcher out of the table."""
        await self._leave([keys.dispatchers(), keys.dispatcher_beats(), keys.events()], [dispatcher_id])

    async def table(self) -> list[DispatcherRow]:
        """Returns all dispatchers in the order of their ids, those that have just fallen silent too."""
        answer: list[tuple[bytes, int]] = await self._table([keys.dispatchers(), keys.dispatcher_beats()], [])
        rows = (_row(packed, age_ms) for packed, age_ms in answer)
        return [row for row in rows if row]


def _row(packed: bytes, age_ms: int) -> DispatcherRow | None:
    try:
        return DispatcherRow(DispatcherRecord.unpack(packed), age_ms)
    except MessageError:
        return None
