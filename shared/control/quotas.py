"""Quotas of Voice Live resources, and what the whole pool has left of them.

It takes nothing from a budget for a call: `Leases.acquire` does, in the step that takes the slot.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from redis.asyncio import Redis

from shared.control import keys
from shared.control.connection import ask
from shared.control.scripts import Script
from shared.messages import MessageError, ResourceQuota

__all__ = ["QuotaRow", "Quotas", "ResourceQuota"]


@dataclass(frozen=True, slots=True)
class QuotaRow:
    """A resource's quota and what is left of it, at one moment."""

    quota: ResourceQuota
    sessions: int
    """Leases that have it."""
    connections_left: float
    """New connections that may be opened now; negative after reconnects, which do not ask.

    Means nothing without a limit.
    """
    tokens_left: int
    """Likewise."""
    share: float
    """How much of the limits is used, after the service has said 429: 0 to 1."""
    blocked_s: float
    """How much longer nothing is opened there, because the service asked for it."""
    waiting: int
    """Callers that wait for it."""
    longest_wait_s: float


class Quotas:
    """The budgets of the pool behind `redis`. Every method raises ControlUnavailable without an answer in time."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._spend = Script(redis, "quota_spend")
        self._throttled = Script(redis, "quota_throttled")
        self._table = Script(redis, "quota_table")

    async def spend(self, resource: str, *, connections: int = 0, tokens: int = 0) -> None:
        """Takes what was used without asking: connections after the first of a call, and tokens."""
        await self._spend([keys.budgets(), keys.quotas()], [resource, connections, tokens])

    async def throttled(self, resource: str, retry_after_s: float | None) -> None:
        """Notes a 429: new calls stay away for as long as the service asks, and then come half as fast for a while.

        When it does not say how long (None or 0), they stay away for five seconds.
        """
        await self._throttled([keys.budgets(), keys.quotas(), keys.events()], [resource, keys.ms(retry_after_s or 0.0)])

    async def table(self) -> list[QuotaRow]:
        """Returns all resources that living dispatchers know, in the order of their names."""
        published: list[bytes] = await ask(self._redis, "HVALS", keys.quotas())
        quotas = sorted(filter(None, map(_unpacked, published)), key=lambda quota: quota.name)
        names = [quota.name for quota in quotas]
        answer: list[Sequence[int]] = await self._table(
            [keys.quotas(), keys.budgets(), keys.sessions(), *map(keys.waiting, names)], names
        )
        return [_row(quota, *left) for quota, left in zip(quotas, answer, strict=True)]


def _row(
    quota: ResourceQuota, sessions: int, thousandths: int, tokens: int, percent: int, blocked_ms: int, waiting: int,
    longest_ms: int,
) -> QuotaRow:  # fmt: skip
    return QuotaRow(
        quota, sessions, thousandths / 1000, tokens, percent / 100, blocked_ms / 1000, waiting, longest_ms / 1000
    )


def _unpacked(packed: bytes) -> ResourceQuota | None:
    try:
        return ResourceQuota.unpack(packed)
    except MessageError:
        return None
