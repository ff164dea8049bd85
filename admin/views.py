"""Read-only views of the control plane: the worker table, and call records as a table.

They change nothing and need no secret, only Redis.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table
from rich.text import Text

from admin.call_view import cost_text, local_time, printable
from admin.terminal import make_table
from shared.control.connection import connect
from shared.control.workers import WorkerRow, Workers
from shared.messages import CallRecord


async def worker_rows(redis_url: str) -> list[WorkerRow]:
    """Returns the worker table; raises ControlUnavailable."""
    redis = connect(redis_url, client_name="voicepool-ps")
    try:
        return await Workers(redis).table()
    finally:
        await redis.aclose()


def worker_json(rows: Sequence[WorkerRow]) -> list[dict[str, Any]]:
    """Returns the worker table as plain values."""
    return [
        {**asdict(row.record), **asdict(row.health)}
        | {"leased": row.leased, "heartbeat_age_ms": row.heartbeat_age_ms, "alive": row.alive}
        for row in rows
    ]


def worker_view(rows: Sequence[WorkerRow]) -> Table:
    """Returns the worker table for a terminal."""
    table = make_table("worker", "state", ">calls", ">slots", ">CPU", ">loop lag", "SIP", ">heartbeat", ">pid")
    for row in rows:
        record = row.record
        state = str(record.state) if row.alive else "[red]silent[/red]"
        where = f"{record.sip_host}:{record.sip_port}"
        age = f"{row.heartbeat_age_ms / 1000:.1f} s ago"
        cpu, lag = f"{row.health.cpu_percent:.0f} %", f"{row.health.loop_lag_ms:.1f} ms"
        load = (str(row.leased), str(record.capacity), cpu, lag)
        table.add_row(record.worker_id, state, *load, where, age, str(record.pid))
    return table


def record_view(records: Sequence[CallRecord], *, headings: bool = True) -> Table:
    """Returns call records for a terminal; without headings they go on below a table that was printed before."""
    table = make_table("came", "call", "agent", "worker", "result", "reason", ">to answer", ">talked", ">cost")
    table.show_header = headings
    for column, width in zip(table.columns, _RECORD_WIDTHS, strict=True):
        column.min_width = width
    for record in records:
        answered = record.answered_at_ms
        to_answer = f"{answered - record.invite_at_ms:,} ms" if answered else ""
        talked = f"{(record.ended_at_ms - answered) / 1000:,.1f} s" if answered else ""
        table.add_row(
            local_time(record.invite_at_ms),
            record.call_id,
            Text(printable(record.agent)),
            record.worker_id,
            record.result,
            record.reason,
            to_answer,
            talked,
            cost_text(record),
        )
    return table


_RECORD_WIDTHS = (19, 20, 10, 16, 9, 19, 9, 9, 10)
"""At least so many columns, so that what is printed later stands below its heading."""
