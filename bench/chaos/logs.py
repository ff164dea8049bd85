"""What the workers' logs say of calls: who has taken which, from when to when. Also the lines about one call.

The logs are files of JSON lines; a process that is killed leaves what it had written.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.chaos.verdict import Admission
from shared.ids import CallId, WorkerId

TAKEN, OVER = "call.claimed", "call.ended"
"""What a worker says of a call whose lease it has claimed, and of one that it has nothing to do with any more."""


def admissions(logs: Iterable[Path]) -> list[Admission]:
    """Returns each time that a worker has taken a call."""
    found: list[Admission] = []
    running: dict[tuple[WorkerId, CallId], Admission] = {}
    for entry in _entries(logs, (TAKEN, OVER)):
        key = WorkerId(entry["worker"]), CallId(entry["call_id"])
        if entry["event"] == TAKEN:
            running[key] = Admission(key[1], key[0], _at_ms(entry))
            found.append(running[key])
        elif key in running:
            running.pop(key).until_ms = _at_ms(entry)
    return found


def about(call_id: CallId, logs: Iterable[Path], lines: int) -> Sequence[str]:
    """Returns what all processes say of one call, by time: `lines` at most, the middle left out."""
    wanted = call_id.encode()
    found = []
    for log in logs:
        for line in log.read_bytes().splitlines():
            if wanted in line:
                found.append(f"{log.stem}: {line.decode('utf-8', 'replace')}")
    found.sort(key=lambda line: line.partition('"timestamp": "')[2])
    if len(found) <= lines:
        return found
    return [*found[: lines // 2], "...", *found[-lines // 2 :]]


def _entries(logs: Iterable[Path], events: Sequence[str]) -> Iterable[dict[str, Any]]:
    wanted = [f'"{event}"'.encode() for event in events]
    for log in logs:
        for line in log.read_bytes().splitlines():
            if any(event in line for event in wanted):
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue  # the last line of one that was killed
                if entry.get("event") in events:
                    yield entry


def _at_ms(entry: dict[str, Any]) -> float:
    return datetime.fromisoformat(entry["timestamp"]).timestamp() * 1000
