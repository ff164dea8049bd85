"""Call records for an operator: which ones are wanted, the newest, new ones as they come, and one by its id.

It prints nothing (`admin/views.py`, `admin/call_view.py`) and needs no secret, only Redis.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from shared.control.connection import connect
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


async def newest(redis_url: str, wanted: Wanted) -> tuple[list[CallRecord], str]:
    """Returns the records that fit, oldest first, and the position to follow from; raises ControlUnavailable."""
    found: list[CallRecord] = []
    position = ""
    async with _records(redis_url) as records, aclosing(records.newest_first(since_ms=wanted.since_ms)) as rows:
        async for row in rows:
            position = position or row.position
            if wanted.fits(row.record):
                found.append(row.record)
                if len(found) == wanted.count:
                    break
    return found[::-1], position or START


async def follow(redis_url: str, wanted: Wanted, position: str) -> AsyncGenerator[CallRecord]:
    """Yields the records after `position` that fit, as they come; never ends. Raises ControlUnavailable."""
    async with _records(redis_url) as records:
        while True:
            rows: list[RecordRow] = await records.read(PAGE, since=position)
            for row in rows:
                position = row.position
                if wanted.fits(row.record):
                    yield row.record
            if not rows:
                await asyncio.sleep(POLL_S)


async def find(redis_url: str, prefix: str) -> list[CallRecord]:
    """Returns the records of all calls whose id begins with `prefix`, newest first; raises ControlUnavailable."""
    async with _records(redis_url) as records, aclosing(records.newest_first()) as rows:
        return [row.record async for row in rows if row.record.call_id.startswith(prefix)]


@asynccontextmanager
async def _records(redis_url: str) -> AsyncIterator[Records]:
    redis = connect(redis_url, client_name="voicepool-records")
    try:
        yield Records(redis)
    finally:
        await redis.aclose()
