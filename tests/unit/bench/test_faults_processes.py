"""Faults of processes: they hit what was started here, and nothing else."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from bench.faults.processes import NotOurs, ProcessFault, Target, alive, workers

PARENT = """
import subprocess, sys
code = "import sys; print('up', flush=True); sys.stdin.read()"
child = subprocess.Popen([sys.executable, "-c", code], stdin=sys.stdin)
print(child.pid, flush=True)
sys.exit(child.wait() != 0)
"""


@pytest.fixture
def family() -> "Iterator[tuple[subprocess.Popen[str], int]]":
    """A process of ours and the pid of its own child; both end with the test."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout and parent.stdin
        said = {parent.stdout.readline().strip() for _ in range(2)}
        [child] = [int(word) for word in said if word != "up"]
        yield parent, child
        if alive(parent.pid):
            parent.send_signal(signal.SIGCONT)
        parent.stdin.close()


def test_a_child_of_a_child_is_killed(family: "tuple[subprocess.Popen[str], int]") -> None:
    parent, child = family
    target = Target.of(child)
    assert target.alive
    target.inject(ProcessFault.KILL)
    assert parent.wait(10.0) == 1
    assert not target.alive
    target.inject(ProcessFault.KILL)  # the dead are left in peace


def test_a_frozen_process_goes_on_when_it_is_thawed(family: "tuple[subprocess.Popen[str], int]") -> None:
    parent, _ = family
    target = Target.of(parent.pid)
    target.inject(ProcessFault.FREEZE)
    os.waitid(os.P_PID, parent.pid, os.WSTOPPED)
    assert target.frozen and target.alive
    target.inject(ProcessFault.THAW)
    os.waitid(os.P_PID, parent.pid, os.WCONTINUED)
    assert not target.frozen


def test_a_process_is_told_to_leave(family: "tuple[subprocess.Popen[str], int]") -> None:
    parent, child = family
    orphan = Target.of(child)
    Target.of(parent.pid).inject(ProcessFault.TERMINATE)
    assert parent.wait(10.0) == -signal.SIGTERM
    assert orphan.alive  # still known to be ours although its parent is gone
    watched = os.pidfd_open(child)
    orphan.inject(ProcessFault.KILL)
    assert select.select([watched], [], [], 10.0)[0]
    os.close(watched)


@pytest.mark.parametrize("pid", [1, os.getpid(), os.getppid(), 2**22 + 1], ids=["init", "own", "parent", "none"])
def test_a_process_of_others_is_left_alone(pid: int) -> None:
    with pytest.raises(NotOurs):
        Target.of(pid)


def test_another_process_with_the_same_pid_is_left_alone(family: "tuple[subprocess.Popen[str], int]") -> None:
    parent, child = family
    stale = Target(child, started=Target.of(child).started - 1)
    assert not stale.alive
    stale.inject(ProcessFault.KILL)
    assert parent.poll() is None and Target.of(child).alive


def test_workers_are_found_in_the_log_of_their_supervisor(family: "tuple[subprocess.Popen[str], int]") -> None:
    _, child = family
    ready = [{"event": "worker.ready", "worker": "pod-0-a", "pid": 2**22 + 1}]
    ready.append({"event": "worker.ready", "worker": "pod-0-b", "pid": child})
    assert workers(ready) == {"pod-0-b": Target.of(child)}
