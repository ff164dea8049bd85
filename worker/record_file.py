"""Call records as lines of a file (CALL_RECORD_FILE), beside Redis.

It neither rotates nor reads the file. Records hold what callers said: the file is made for its owner only.
"""

import asyncio
import json
import os
from dataclasses import asdict
from pathlib import Path

import structlog

from shared.messages import CallRecord

log = structlog.get_logger()

_failing: set[Path] = set()
"""Files that could not be written last time: a full disk is one line in the log, not one for each call."""


async def append_record(path: Path | str, record: CallRecord) -> None:
    """Appends the record as one line of JSON; a failure is logged once and raises nothing.

    Each line is one write to a file opened for appending, so that all workers of a host may share a file.
    """
    path = Path(path)
    line = json.dumps(asdict(record), ensure_ascii=False, separators=(",", ":")) + "\n"
    try:
        await asyncio.to_thread(_append, path, line.encode())
    except OSError as error:
        if path not in _failing:
            _failing.add(path)
            log.error("record_file.failed", path=str(path), reason=error.strerror)
    else:
        _failing.discard(path)


def _append(path: Path, line: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        if os.write(file, line) < len(line):
            raise OSError(0, "only part of the line could be written")
    finally:
        os.close(file)
