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
from shared.states import CallState


def admissions(logs: Iterable[Path]) -> list[Admission]:
    """Returns each time that a worker has taken a call."""
    found: list[Admission] = []
    running: dict[tuple[WorkerId, CallId], Admission] = {}
    for entry in _entries(logs, b'"call.state"'):
        if entry.get("event") != "call.state":
            continue
        key = WorkerId(entry["worker"]), CallId(entry["call"])
        if entry["after"] == CallState.CONNECTING:
            running[key] = Admission(key[1], key[0], _at_ms(entry))
            found.append(running[key])
        elif entry["after"] == CallState.ENDED and key in running:
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


def _entries(logs: Iterable[Path], having: bytes) -> Iterable[dict[str, Any]]:
    for log in logs:
        for line in log.read_bytes().splitlines():
            if having in line:
                try:
                    yield json.loads(line)
                except ValueError:
                    continue  # the last line of one that was killed


def _at_ms(entry: dict[str, Any]) -> float:
    return datetime.fromisoformat(entry["timestamp"]).timestamp() * 1000
