"""Wakes the calls of this worker whose ports have caller audio waiting: one eventfd for all of them.

It does not read audio; each call's own callback does.
"""

import asyncio
from collections.abc import Callable

Wake = Callable[[], None]


class Pump:
    """Calls the wake-up of every port that `take_ready` names, whenever `fd` becomes readable."""

    def __init__(self, fd: int, take_ready: Callable[[], list[int]]) -> None:
        self._fd = fd
        self._take_ready = take_ready
        self._wakes: dict[int, Wake] = {}

    def start(self) -> None:
        """Begins to watch the eventfd on the running loop."""
        asyncio.get_running_loop().add_reader(self._fd, self._on_readable)

    def stop(self) -> None:
        """Stops watching."""
        asyncio.get_running_loop().remove_reader(self._fd)

    def add(self, port_id: int, wake: Wake) -> None:
        """Has `wake` called when the port has an uplink chunk waiting."""
        self._wakes[port_id] = wake

    def remove(self, port_id: int) -> None:
        """Forgets the port; one that is not known is ignored."""
        self._wakes.pop(port_id, None)

    def _on_readable(self) -> None:
        for port_id in self._take_ready():
            wake = self._wakes.get(port_id)
            if wake is not None:  # a port may become ready while its call is being taken down
                wake()
