"""What systemd is told by the main process of a unit: sd_notify(3), without libsystemd.

It decides nothing: whether the process takes calls, and that its loop turns, say those who answer its probes too. Where
no systemd listens it does nothing. It never waits and never fails: what could not be told is told the next time.
"""

import os
import socket
from collections.abc import Mapping

TELL_S = 1.0
"""How often the same is told again: often enough for every WatchdogSec=."""


class Unit:
    """The unit that this process was started for, if systemd started it and wants to be told (`Type=notify`)."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        if address.startswith("@"):  # in the abstract namespace: unix(7)
            address = "\0" + address[1:]
        self._address = address if address.startswith(("/", "\0")) else ""
        self._state = ""
        """As last told: nothing while it starts, then ready, then stopping."""
        self._next_at = float("-inf")

    @property
    def listens(self) -> bool:
        """Whether there is anybody to tell."""
        return bool(self._address)

    def turned(self, now: float, status: str, *, ready: bool = True, stopping: bool = False) -> None:
        """The process's loop has turned: tells that it is alive, and `status` in one line for `systemctl status`.

        May be called at any rate: at a time `now` (s, of a steady clock) at which nothing new is to be said it does
        nothing. That a process is ready cannot be taken back; one that is no more says so in its status.
        """
        state = "STOPPING=1" if stopping else "READY=1" if ready else self._state
        if not self._address or (state == self._state and now < self._next_at):
            return
        news = [state] if state != self._state else []
        if self._tell("\n".join([*news, f"STATUS={status}", "WATCHDOG=1"])):
            self._state = state
            self._next_at = now + TELL_S

    def _tell(self, message: str) -> bool:
        """Says whether it was taken."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as teller:
            teller.setblocking(False)
            try:
                teller.sendto(message.encode(), self._address)
            except OSError:  # systemd is busy, or is being replaced by a new version of itself
                return False
        return True
