"""Faults of processes: killed, frozen, told to leave, by pid and never by name.

It hits only processes that this one has started, or that those have started; which one and when is the caller's choice.
Linux only: /proc says whose child a process is.
"""

import os
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Self

from shared.ids import WorkerId


class ProcessFault(IntEnum):
    """What may happen to a process; the value is the signal."""

    KILL = signal.SIGKILL
    FREEZE = signal.SIGSTOP
    THAW = signal.SIGCONT
    TERMINATE = signal.SIGTERM


class NotOurs(Exception):
    """The process is not there, or neither we nor a process of ours has started it."""


@dataclass(frozen=True, slots=True)
class Target:
    """One process of ours; it stays the same one although its parent may die and the kernel use its pid again."""

    pid: int
    started: int
    """When it was started, in clock ticks since boot: with the pid it names the process."""

    @classmethod
    def of(cls, pid: int) -> Self:
        """Returns the process with that pid; raises NotOurs."""
        found = _Stat.read(pid)
        ancestor = found
        while ancestor is not None and ancestor.parent != os.getpid():
            ancestor = _Stat.read(ancestor.parent)
        if found is None or ancestor is None:
            raise NotOurs(f"process {pid} is not of our making")
        return cls(pid, found.started)

    @property
    def alive(self) -> bool:
        """Whether it is there; one that has ended and was not waited for is not."""
        stat = _Stat.read(self.pid)
        return stat is not None and stat.started == self.started and stat.state != "Z"

    @property
    def frozen(self) -> bool:
        """Whether it is stopped by a signal."""
        stat = _Stat.read(self.pid)
        return stat is not None and stat.started == self.started and stat.state == "T"

    def inject(self, fault: ProcessFault) -> None:
        """Commits the fault; one that has ended already is left in peace."""
        if self.alive:
            os.kill(self.pid, fault)


def workers(ready: Iterable[Mapping[str, Any]]) -> dict[WorkerId, Target]:
    """Returns the workers that are there now, of a pod's `worker.ready` log events; raises NotOurs."""
    living = (event for event in ready if alive(int(event["pid"])))
    return {WorkerId(event["worker"]): Target.of(int(event["pid"])) for event in living}


def alive(pid: int) -> bool:
    """Returns whether a process is there; one that has ended and was not waited for is not."""
    stat = _Stat.read(pid)
    return stat is not None and stat.state != "Z"


@dataclass(frozen=True, slots=True)
class _Stat:
    """What /proc/PID/stat says (proc_pid_stat(5))."""

    state: str
    parent: int
    started: int

    @classmethod
    def read(cls, pid: int) -> "_Stat | None":
        """Returns it, or None when there is no such process."""
        try:
            # The name before the last bracket may hold anything, blanks and brackets too.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return cls(state=fields[0], parent=int(fields[1]), started=int(fields[19]))
