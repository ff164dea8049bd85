"""Log lines about what peers do wrong: the first of a kind and source at once, further ones of that second as a count.

It writes nothing; `app.py` logs what it lets through.
"""

from collections.abc import Iterator

WINDOW_S = 1.0
"""One line per kind and source in this time."""

MAX_SOURCES = 1_000
"""Kinds and sources that are counted apart; beyond, lines are only counted."""

Key = tuple[str, str]


class Notices:
    """Decides which notices become log lines."""

    def __init__(self) -> None:
        self._open: dict[Key, tuple[float, int]] = {}
        self._beyond = 0

    def first(self, event: str, source: str, now: float) -> bool:
        """Whether this one is to be logged; if not, it is counted."""
        key = (event, source)
        if key in self._open:
            since, more = self._open[key]
            self._open[key] = (since, more + 1)
            return False
        if len(self._open) >= MAX_SOURCES:
            self._beyond += 1
            return False
        self._open[key] = (now, 0)
        return True

    def counts(self, now: float) -> Iterator[tuple[str, str, int]]:
        """Yields event, source and number of the notices not logged, for windows that are over."""
        over = [key for key, (since, _) in self._open.items() if now - since >= WINDOW_S]
        for key in over:
            _, more = self._open.pop(key)
            if more:
                yield *key, more
        if over and self._beyond:
            yield "sip.notices", "", self._beyond
            self._beyond = 0
