"""Starting, watching and ending child processes: real, tiny ones."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from admin.processes import Process, Processes, ProcessFailed

READY = """
import json, os, time
print("not an event", flush=True)
print(json.dumps({"event": "child.ready", "port": 1234, "pid": os.getpid()}), flush=True)
"""

SLEEP = READY + "time.sleep(600)"

STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)" + SLEEP

WITH_CHILD = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {STUBBORN!r}])" + SLEEP

TIMEOUT_S = 60.0


@pytest.fixture
async def processes(tmp_path: Path) -> AsyncIterator[Processes]:
    async with Processes(tmp_path) as children:
        yield children


async def start(processes: Processes, code: str, name: str = "child", grace_s: float = 60.0) -> Process:
    return await processes.start(name, [sys.executable, "-c", code], grace_s=grace_s)


async def end_of(pid: int) -> None:
    """Waits until the process, which need not be our child, has ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(handle, ended.set)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await ended.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)


async def test_an_event_in_the_log_is_waited_for(processes: Processes) -> None:
    process = await start(processes, SLEEP)
    [event] = await process.wait_for("child.ready", timeout_s=TIMEOUT_S)
    assert event["port"] == 1234


async def test_a_process_that_ends_before_it_is_ready_fails_with_the_end_of_its_log(processes: Processes) -> None:
    process = await start(processes, "import sys; print('cannot open the device'); sys.exit(3)")
    with pytest.raises(ProcessFailed, match="child ended with exit code 3") as caught:
        await process.wait_for("child.ready", timeout_s=TIMEOUT_S)
    assert caught.value.log_tail == ["cannot open the device"]


async def test_a_process_that_is_never_ready_fails_after_the_time_given(processes: Processes) -> None:
    process = await start(processes, SLEEP)
    await process.wait_for("child.ready", timeout_s=TIMEOUT_S)
    with pytest.raises(ProcessFailed, match="child was not ready within"):
        await process.wait_for("child.never", timeout_s=0.1)


async def test_warnings_and_errors_in_the_log_are_told_in_one_line_each(processes: Processes) -> None:
    code = """
import json
print("no event", flush=True)
print(json.dumps({"level": "info", "event": "all.good", "timestamp": "t"}))
print(json.dumps({"level": "warning", "event": "source.refused", "timestamp": "t", "source": "192.0.2.1"}))
trace = "Traceback:\\n  | azure.AuthError: no token\\n  | Attempted:\\n"
print(json.dumps({"level": "error", "event": "call.failed", "timestamp": "t", "exception": trace}))
"""
    process = await start(processes, code)
    assert await process.wait() == 0
    assert process.troubles() == ["source.refused source=192.0.2.1", "call.failed azure.AuthError: no token"]


async def test_all_are_ended_the_last_started_first(tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    code = f"""
import signal, sys
def end(*_):
    with open({str(ended)!r}, "a") as file: file.write(sys.argv[1] + " ")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
{SLEEP}
"""
    async with Processes(tmp_path) as processes:
        for name in ("redis", "dispatcher", "workers"):
            process = await processes.start(name, [sys.executable, "-c", code, name], grace_s=60.0)
            await process.wait_for("child.ready", timeout_s=TIMEOUT_S)
    assert ended.read_text() == "workers dispatcher redis "


async def test_a_process_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    async with Processes(tmp_path) as processes:
        process = await start(processes, STUBBORN, grace_s=0.1)
        await process.wait_for("child.ready", timeout_s=TIMEOUT_S)
    assert process.status == "SIGKILL"


async def test_hurry_cuts_the_grace_short(tmp_path: Path) -> None:
    async with Processes(tmp_path) as processes:
        process = await start(processes, STUBBORN, grace_s=3600.0)
        await process.wait_for("child.ready", timeout_s=TIMEOUT_S)
        processes.hurry.set()
    assert process.status == "SIGKILL"


async def test_what_a_process_left_behind_is_ended_with_it(tmp_path: Path) -> None:
    async with Processes(tmp_path) as processes:
        process = await start(processes, WITH_CHILD)
        both = await process.wait_for("child.ready", count=2, timeout_s=TIMEOUT_S)
    [child] = {event["pid"] for event in both} - {process.pid}
    await end_of(child)


async def test_they_are_ended_when_the_block_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        async with Processes(tmp_path) as processes:
            process = await start(processes, SLEEP)
            raise ZeroDivisionError
    assert process.ended


async def test_the_first_one_to_end_is_told_apart(processes: Processes) -> None:
    await start(processes, SLEEP, "simulator")
    victim = await start(processes, SLEEP, "workers")
    waiting = asyncio.create_task(processes.first_end())
    await victim.wait_for("child.ready", timeout_s=TIMEOUT_S)
    os.kill(victim.pid, signal.SIGKILL)
    assert await waiting is victim
    assert victim.status == "SIGKILL"


async def test_ctrl_c_at_the_terminal_does_not_reach_them(processes: Processes) -> None:
    process = await start(processes, SLEEP)
    assert os.getpgid(process.pid) == process.pid != os.getpgid(0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a child that its parent died")
async def test_they_end_when_the_runner_is_killed(processes: Processes, tmp_path: Path) -> None:
    code = f"""
import asyncio, sys
from pathlib import Path
from admin.processes import Processes
async def main():
    processes = Processes(Path({str(tmp_path)!r}))
    process = await processes.start("grandchild", [sys.executable, "-c", {SLEEP!r}])
    await process.wait_for("child.ready", timeout_s=60)
    print('{{"event": "runner.ready", "pid": %d}}' % process.pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""
    repository = str(Path(__file__).parents[3])
    runner = await processes.start("runner", [sys.executable, "-c", code], env={"PYTHONPATH": repository})
    [event] = await runner.wait_for("runner.ready", timeout_s=TIMEOUT_S)
    os.kill(runner.pid, signal.SIGKILL)
    await end_of(event["pid"])
