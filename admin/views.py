"""Read-only views of the control plane: the worker table and the newest call records.

They change nothing and need no secret, only Redis.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from admin.terminal import make_table
from shared.control.connection import connect
from shared.control.records import Records
from shared.control.workers import WorkerRow, Workers
from shared.messages import CallRecord


async def worker_rows(redis_url: str) -> list[WorkerRow]:
    """Returns the worker table; raises ControlUnavailable."""
    redis = connect(redis_url, client_name="voicepool-ps")
    try:
        return await Workers(redis).table()
    finally:
        await redis.aclose()


async def call_records(redis_url: str, count: int) -> list[CallRecord]:
    """Returns the newest `count` call records, oldest first; raises ControlUnavailable."""
    redis = connect(redis_url, client_name="voicepool-records")
    try:
        return [row.record for row in await Records(redis).read(count)]
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


def record_view(records: Sequence[CallRecord]) -> Table:
    """Returns call records for a terminal."""
    table = make_table("call", "worker", "result", "reason", ">to answer", ">talked")
    for record in records:
        answered = record.answered_at_ms
        to_answer = f"{answered - record.invite_at_ms:,} ms" if answered else ""
        talked = f"{(record.ended_at_ms - answered) / 1000:,.1f} s" if answered else ""
        table.add_row(record.call_id, record.worker_id, record.result, record.reason, to_answer, talked)
    return table
