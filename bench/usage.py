"""What processes and cores have used so far, read from /proc: CPU time, memory, descriptors, threads.

It keeps nothing: a caller reads twice and subtracts. CPU time is user and system time of a whole process, all threads,
as the scheduler accounts it; Linux only.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class CoreTime:
    """How long one core has been idle since boot, and when that was read (monotonic), both in s."""

    idle_s: float
    read_at_s: float


def cpu_seconds(pid: int) -> float:
    """Returns the CPU time of a process in seconds, user and system, ended threads included (proc_pid_stat(5))."""
    fields = _stat_fields(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def thread_seconds(pid: int) -> dict[str, float]:
    """Returns the CPU time of a process's living threads in seconds by thread name; those of one name are added up."""
    spent: dict[str, float] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        text = (task / "stat").read_text()
        name, fields = text[text.index("(") + 1 : text.rindex(")")], text.rpartition(")")[2].split()
        spent[name] = spent.get(name, 0.0) + (int(fields[11]) + int(fields[12])) / TICKS_PER_S
    return spent


def rss_kb(pid: int) -> int:
    """Returns the resident memory of a process in kB, shared pages included (proc_pid_smaps_rollup(5))."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1])
    raise ValueError(f"no Rss of process {pid}")


def descriptors(pid: int) -> int:
    """Returns how many file descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def threads(pid: int) -> int:
    """Returns how many threads a process has."""
    return len(os.listdir(f"/proc/{pid}/task"))


def core_time(core: int) -> CoreTime:
    """Returns what one core has done since boot (proc_stat(5))."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *values = line.split()
        if name == f"cpu{core}":
            # Idle and waiting for disks are measured; what it was busy with is only sampled, and misses short bursts.
            return CoreTime((int(values[3]) + int(values[4])) / TICKS_PER_S, time.monotonic())
    raise ValueError(f"no core {core}")


def busy_percent(before: CoreTime, after: CoreTime) -> float:
    """Returns how busy a core was between two readings, in percent; time that a hypervisor took away counts as busy."""
    elapsed_s = after.read_at_s - before.read_at_s
    return max(0.0, 100 * (1 - (after.idle_s - before.idle_s) / elapsed_s))


def _stat_fields(pid: int) -> list[str]:
    """Returns the fields of /proc/PID/stat from `state` on: the name before it may contain anything."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
