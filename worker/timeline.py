"""What happened when in one call: the marks that end up in its call record.

It measures nothing by itself; whoever sees something happen says so.
"""

from collections import Counter

from shared.clock import now_ms

MARKS_MAX = 500
"""Marks kept per call: about a hundred turns; later ones are only counted."""


class Timeline:
    """An ordered list of (name, Unix time in ms), bounded."""

    def __init__(self) -> None:
        self.marks: list[tuple[str, int]] = []
        self._counts: Counter[str] = Counter()

    def mark(self, name: str, at_ms: int | None = None) -> None:
        """Notes that `name` happened, now or at `at_ms`."""
        self._counts[name] += 1
        if len(self.marks) < MARKS_MAX:
            self.marks.append((name, now_ms() if at_ms is None else at_ms))

    def at(self, name: str) -> int | None:
        """Returns when `name` first happened."""
        return next((at_ms for mark, at_ms in self.marks if mark == name), None)

    def count(self, name: str) -> int:
        """Returns how often `name` happened, also once the list is full."""
        return self._counts[name]
