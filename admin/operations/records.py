"""Call records for an operator: which ones are wanted, the newest, new ones as they come, and one by its id.

It prints nothing (`admin/views.py`, `admin/call_view.py`) and needs no secret, only Redis. Every function that asks it
raises ControlUnavailable when it does not answer in time.
"""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime

from redis.asyncio import Redis

from shared.control.records import PAGE, START, RecordRow, Records
from shared.messages import CallRecord

POLL_S = 0.5
"""How often new records are asked for."""

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which records are asked for."""

    count: int | None = None
    """The newest so many of those that fit; None is all of them."""
    since_ms: int = 0
    """Unix ms; records are dated by the end of the call."""
    result: str | None = None
    """A CallResult; None is any."""
    agent: str | None = None
    """Name of the agent that answered; None is any."""

    def fits(self, record: CallRecord) -> bool:
        """Whether it is one of them, its age aside."""
        return self.result in (None, record.result) and self.agent in (None, record.agent)


def moment(text: str, now_ms: int) -> int:
    """Returns Unix ms for `90s`, `30m`, `2h`, `7d` (ago), or for ISO 8601 (local time where no zone is given).

    Raises ValueError for anything else.
    """
    if ago := re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text):
        return max(0, now_ms - round(float(ago[1]) * _UNITS_S[ago[2]] * 1000))
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        raise ValueError("must be like 90s, 30m, 2h or 7d, or a time like 2025-03-01T12:00") from None


async def newest(redis: Redis, wanted: Wanted) -> tuple[list[CallRecord], str]:
    """Returns the records that fit, oldest first, and the position to follow from."""
    found: list[CallRecord] = []
    position = ""
    async with aclosing(Records(redis).newest_first(since_ms=wanted.since_ms)) as rows:
        async for row in rows:
            position = position or row.position
            if wanted.fits(row.record):
                found.append(row.record)
                if len(found) == wanted.count:
                    break
    return found[::-1], position or START


async def follow(redis: Redis, wanted: Wanted, position: str) -> AsyncGenerator[CallRecord]:
    """Yields the records after `position` that fit, as they come; never ends."""
    records = Records(redis)
    while True:
        rows: list[RecordRow] = await records.read(PAGE, since=position)
        for row in rows:
            position = row.position
            if wanted.fits(row.record):
                yield row.record
        if not rows:
            await asyncio.sleep(POLL_S)


async def find(redis: Redis, prefix: str) -> dict[str, CallRecord]:
    """Returns by their ids the newest records of all calls whose id begins with `prefix`, or has it as a whole."""
    found: dict[str, CallRecord] = {}
    async with aclosing(Records(redis).newest_first()) as rows:
        async for row in rows:
            call_id = row.record.call_id
            if call_id == prefix:
                return {call_id: row.record}
            if call_id.startswith(prefix):
                found.setdefault(call_id, row.record)
    return found
