"""What is to happen when: alarms of transactions and calls in one heap, read with `now`.

It has no clock and wakes nobody; the driver asks for `next_at()` and comes back then.
"""

import heapq
from typing import Protocol

_STALE_MIN = 4096
"""Cancelled alarms that may lie in the heap before it is cleaned, once they are the majority."""


class Owner(Protocol):
    """Whoever is woken."""

    alarms: "dict[str, Alarm]"

    def alarm(self, name: str, now: float) -> None:
        """Called once when the alarm `name` is due."""


class Alarm:
    """One alarm that is set; a cancelled one has no owner, so that it keeps nothing alive."""

    __slots__ = ("name", "owner")

    def __init__(self, owner: Owner, name: str) -> None:
        self.owner: Owner | None = owner
        self.name = name


class Alarms:
    """All alarms that are set."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Alarm]] = []
        self._set = 0
        self._number = 0

    def __len__(self) -> int:
        return self._set

    @property
    def entries(self) -> int:
        """Entries of the heap, cancelled ones included."""
        return len(self._heap)

    def set(self, owner: Owner, name: str, at: float) -> None:
        """Wakes `owner` at `at`; an alarm of that name that it has already is moved."""
        self.cancel(owner, name)
        self._number += 1
        alarm = owner.alarms[name] = Alarm(owner, name)
        heapq.heappush(self._heap, (at, self._number, alarm))
        self._set += 1

    def cancel(self, owner: Owner, name: str) -> None:
        """Takes an alarm back; none of that name is fine."""
        alarm = owner.alarms.pop(name, None)
        if alarm:
            alarm.owner = None
            self._set -= 1
            if len(self._heap) > max(_STALE_MIN, 2 * self._set):
                self._heap = [entry for entry in self._heap if entry[2].owner]
                heapq.heapify(self._heap)

    def cancel_all(self, owner: Owner) -> None:
        """Takes back every alarm of `owner`."""
        for name in list(owner.alarms):
            self.cancel(owner, name)

    def next_at(self) -> float | None:
        """Returns when the next alarm is due, None when there is none."""
        while self._heap:
            at, _, alarm = self._heap[0]
            if alarm.owner:
                return at
            heapq.heappop(self._heap)
        return None

    def run(self, now: float) -> None:
        """Wakes everybody whose time has come, in order."""
        while (at := self.next_at()) is not None and at <= now:
            _, _, alarm = heapq.heappop(self._heap)
            owner, alarm.owner = alarm.owner, None
            if owner:
                del owner.alarms[alarm.name]
                self._set -= 1
                owner.alarm(alarm.name, now)
