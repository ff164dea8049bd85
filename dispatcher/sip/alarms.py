"""What is to happen when: alarms of transactions and calls in one heap, read with `now`.

It has no clock and wakes nobody; the driver asks for `next_at()` and comes back then.
"""

import heapq
from itertools import count
from typing import Protocol

_STALE_MIN = 4096
"""Cancelled alarms that may lie in the heap before it is cleaned, once they are the majority."""


class Owner(Protocol):
    """Whoever is woken."""

    alarms: dict[str, int]
    """Its alarms that are set; kept by Alarms."""

    def alarm(self, name: str, now: float) -> None:
        """Called once when the alarm `name` is due."""


class Alarms:
    """All alarms that are set.

    The heap holds only times and numbers: a cancelled alarm keeps nothing alive and costs the garbage collector
    nothing.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int]] = []
        self._owners: dict[int, tuple[Owner, str]] = {}
        self._numbers = count(1)

    def __len__(self) -> int:
        return len(self._owners)

    @property
    def entries(self) -> int:
        """Entries of the heap, cancelled ones included."""
        return len(self._heap)

    def set(self, owner: Owner, name: str, at: float) -> None:
        """Wakes `owner` at `at`; an alarm of that name that it has already is moved."""
        self.cancel(owner, name)
        number = owner.alarms[name] = next(self._numbers)
        self._owners[number] = (owner, name)
        heapq.heappush(self._heap, (at, number))

    def cancel(self, owner: Owner, name: str) -> None:
        """Takes an alarm back; none of that name is fine."""
        number = owner.alarms.pop(name, None)
        if number is not None:
            del self._owners[number]
            if len(self._heap) > max(_STALE_MIN, 2 * len(self._owners)):
                self._heap = [entry for entry in self._heap if entry[1] in self._owners]
                heapq.heapify(self._heap)

    def cancel_all(self, owner: Owner) -> None:
        """Takes back every alarm of `owner`."""
        for name in list(owner.alarms):
            self.cancel(owner, name)

    def next_at(self) -> float | None:
        """Returns when the next alarm is due, None when there is none."""
        while self._heap:
            at, number = self._heap[0]
            if number in self._owners:
                return at
            heapq.heappop(self._heap)
        return None

    def run(self, now: float) -> None:
        """Wakes everybody whose time has come, in order."""
        while (at := self.next_at()) is not None and at <= now:
            _, number = heapq.heappop(self._heap)
            owner, name = self._owners.pop(number)
            del owner.alarms[name]
            owner.alarm(name, now)
