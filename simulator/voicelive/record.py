"""What a session remembers for those who test against it: counts and turn marks. Keeps no audio and no words."""

from collections import Counter, deque
from typing import Any

# Marks of the last turns; a session that runs for an hour does not grow without end.
_MAX_MARKS = 2_000


class Record:
    """Counts of events both ways and marks in wall-clock ms (`epoch_s` turns session time into unix time)."""

    def __init__(self, epoch_s: float) -> None:
        self._epoch_s = epoch_s
        self.received: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self._marks: deque[dict[str, Any]] = deque(maxlen=_MAX_MARKS)

    def wall_ms(self, now: float) -> float:
        return round((now + self._epoch_s) * 1000, 1)

    def mark(self, kind: str, now: float, **fields: object) -> None:
        """Note that something happened now."""
        self._marks.append({"kind": kind, "at_ms": self.wall_ms(now), **fields})

    def shown(self) -> dict[str, Any]:
        """The record as plain data."""
        return {"received": dict(self.received), "sent": dict(self.sent), "marks": list(self._marks)}
