"""Writes every text message of every session to a file, with its time. Does not read or change messages.

One line a message: `T_NS SESSION in|out JSON`, T_NS in nanoseconds of unix time, JSON as it was on the wire (line
breaks in it, which JSON has only between its tokens, become spaces). Split a line at its first three spaces to read it.
"""

import asyncio
from pathlib import Path
from typing import Literal, Self

# Seconds' worth of lines at full load; more than this never waits in memory.
_BUFFER_BYTES = 1 << 20

_FLUSH_S = 1.0


class Trace:
    """An open trace file, as a context manager; lines are appended, the last of them on disk after `close`."""

    def __init__(self, path: Path) -> None:
        path.touch(mode=0o600)  # it will hold what callers say
        self._file = path.open("ab", buffering=_BUFFER_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, at_ns: int, session: bytes, direction: Literal[b"in", b"out"], text: bytes) -> None:
        """Note a message of a session."""
        if b"\n" in text:
            text = text.replace(b"\n", b" ")
        self._file.write(b"%d %b %b %b\n" % (at_ns, session, direction, text))

    async def flush_regularly(self) -> None:
        """Hand what was written to the system once a second, until cancelled."""
        while True:
            await asyncio.sleep(_FLUSH_S)
            self._file.flush()
