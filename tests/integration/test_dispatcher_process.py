"""The dispatcher as a process of its own, with a real Redis: start, calls, Redis away, stop."""

import asyncio
import json
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from shared import token
from shared.clock import now_ms
from shared.control.connection import connect
from shared.control.leases import Leases
from shared.control.workers import Workers
from shared.ids import CallId, WorkerId, call_id_for
from shared.messages import Lease, WorkerRecord
from shared.states import WorkerState
from tests.integration.logged_process import LoggedProcess
from tests.redis_server import running_redis
from tests.unit.dispatcher.ladder import SECRET, header_of
from tests.unit.dispatcher.wire import PATIENCE_S, Peer, Worker, ack_for, in_dialog

ROOT = Path(__file__).parents[2]
CALLER_SCENARIO = ROOT / "tests" / "data" / "sip" / "caller.sipp.xml"


class Process(LoggedProcess):
    """A running dispatcher."""

    patience_s = PATIENCE_S

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        super().__init__(process)
        self.port = 0
        self.callers: list[Peer] = []

    async def caller(self) -> Peer:
        """Returns a caller, closed when the dispatcher ends."""
        self.callers.append(await Peer().open(self.port))
        return self.callers[-1]


def environment(**settings: str) -> dict[str, str]:
    """Returns an environment with these settings and no others."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **settings}


async def spawn(directory: Path, **settings: str) -> asyncio.subprocess.Process:
    """Starts a dispatcher in a directory without .env."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "dispatcher",
        cwd=directory,
        env=environment(**settings),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@asynccontextmanager
async def dispatcher(directory: Path, redis_url: str, **settings: str) -> AsyncIterator[Process]:
    """Runs a dispatcher for the block."""
    options = {"LEASE_SECRET": SECRET, "REDIS_URL": redis_url, "SIP_LOCAL_ADDRESS": "127.0.0.1", "SIP_PORT": "0"}
    running = Process(await spawn(directory, **(options | settings)))
    try:
        running.port = (await running.event("dispatcher.listening"))["port"]
        yield running
    finally:
        for caller in running.callers:
            caller.close()
        if running.process.returncode is None:
            running.process.kill()
        await running.process.communicate()


class PooledWorker(Worker):
    """A scripted worker that registers in Redis, and claims and ends leases like a real one."""

    def __init__(self, redis_url: str, *statuses: int, capacity: int = 10, name: str = "w1") -> None:
        super().__init__(*statuses)
        self.name = WorkerId(name)
        self.redis = connect(redis_url, timeout_s=PATIENCE_S)
        self.capacity = capacity

    async def register(self) -> None:
        """Enters the worker table, alive as of now."""
        await Workers(self.redis).register(
            WorkerRecord(
                worker_id=self.name,
                pod="pod",
                pid=1,
                sip_host=self.address.host,
                sip_port=self.address.port,
                capacity=self.capacity,
                state=WorkerState.READY,
                started_at_ms=now_ms(),
            )
        )

    async def claim(self, invite: bytes, sip_call_id: str, from_tag: str) -> Lease:
        """Verifies the token in an INVITE and claims its lease."""
        lease = token.verify(
            header_of(invite, token.HEADER),
            SECRET,
            worker_id=WorkerId("w1"),
            call_id=call_id_for(sip_call_id, from_tag),
            now_ms=now_ms(),
        )
        await Leases(self.redis).claim(lease)
        return lease


@asynccontextmanager
async def worker(redis_url: str, *statuses: int, capacity: int = 10) -> AsyncIterator[PooledWorker]:
    """Runs a worker with a heartbeat for the block."""
    script = PooledWorker(redis_url, *statuses, capacity=capacity)
    await script.open()
    await script.register()
    beating = asyncio.create_task(heartbeat(script))
    try:
        yield script
    finally:
        beating.cancel()
        script.close()
        await script.redis.aclose()


async def heartbeat(script: PooledWorker) -> None:
    """Keeps a worker alive in the table."""
    while True:
        await asyncio.sleep(0.5)
        await Workers(script.redis).heartbeat(WorkerId("w1"), WorkerState.READY)


async def hang_up(caller: Peer, answer: bytes, **call: str) -> None:
    """Acknowledges an answer and ends the call."""
    caller.send(ack_for(caller, answer, **call))
    caller.send(in_dialog(caller, answer, "BYE", branch="z9hG4bKbye", cseq=2, **call))
    await caller.expect("200 BYE")


async def test_bad_settings_are_told_one_line_each(tmp_path: Path) -> None:
    settings = {"SIP_PORT": "ninety", "DISPATCH_MODE": "magic", "SIP_ALLOWED_PEERS": "everybody"}
    process = await spawn(tmp_path, **settings)
    _, said = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode == 2
    lines = said.decode().splitlines()
    assert {line.partition(":")[0] for line in lines} == {"LEASE_SECRET", *settings}
    assert len(lines) == 4


async def test_a_taken_port_is_told_in_one_line(tmp_path: Path, redis_url: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
        process = await spawn(
            tmp_path, LEASE_SECRET=SECRET, REDIS_URL=redis_url, SIP_LOCAL_ADDRESS="127.0.0.1", SIP_PORT=port
        )
        _, said = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode == 2
    (line,) = said.decode().splitlines()
    assert line.startswith(f"SIP_PORT: cannot listen on 127.0.0.1:{port}: ")


async def test_help_names_every_setting(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "dispatcher", "--help", cwd=tmp_path, env=environment(), stdout=asyncio.subprocess.PIPE
    )
    said, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode == 0
    for name in (b"SIP_PORT", b"LEASE_SECRET", b"DISPATCH_MODE", b"SIP_ALLOWED_PEERS"):
        assert name in said


async def test_a_call_is_leased_claimed_and_carried_and_the_log_keeps_its_secrets(
    tmp_path: Path, redis_url: str
) -> None:
    async with worker(redis_url, 180) as script, dispatcher(tmp_path, redis_url) as running:
        caller = await running.caller()
        caller.send(caller.request("INVITE", call_id="one@pbx", from_tag="abc"))
        offered = await script.expect("INVITE")
        lease = await script.claim(offered, "one@pbx", "abc")
        assert not lease.provisional
        script.answer(offered, 200)
        answer = await caller.expect("200 INVITE")
        await hang_up(caller, answer, call_id="one@pbx", from_tag="abc")
        assert await running.stop() == 0
    events = [line["event"] for line in running.lines]
    assert [name for name in events if name.startswith(("call.", "sip."))] == [
        "sip.incoming_call", "call.placed", "call.answered",
    ]  # fmt: skip
    assert events[-2:] == ["dispatcher.stopping", "dispatcher.stopped"]
    said = json.dumps(running.lines)
    for secret in (SECRET, "alice", "A Caller", "100@", header_of(offered, token.HEADER), "one@pbx"):
        assert secret not in said


async def test_a_full_pool_refuses_and_takes_calls_again_once_a_lease_is_given_back(
    tmp_path: Path, redis_url: str
) -> None:
    async with worker(redis_url, 180, capacity=1) as script, dispatcher(tmp_path, redis_url) as running:
        caller = await running.caller()
        caller.send(caller.request("INVITE", branch="z9hG4bK1", call_id="one"))
        await caller.expect("180 INVITE")
        caller.send(caller.request("INVITE", branch="z9hG4bK2", call_id="two"))
        caller.send(ack_for(caller, await caller.expect("503 INVITE"), branch="z9hG4bK2", call_id="two"))
        caller.send(caller.request("CANCEL", branch="z9hG4bK1", call_id="one"))
        caller.send(ack_for(caller, await caller.expect("487 INVITE"), branch="z9hG4bK1", call_id="one"))
        await until_free(script)
        caller.send(caller.request("INVITE", branch="z9hG4bK3", call_id="three"))
        await caller.expect("180 INVITE")
        assert len(script.invites) == 2


async def until_free(script: PooledWorker) -> None:
    """Waits until no slot of the worker is taken; Redis has nothing to wait on, so it is asked again and again."""
    async with asyncio.timeout(PATIENCE_S):
        while any(row.leased for row in await Workers(script.redis).table()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_the_leases_of_a_worker_that_died_are_reaped(tmp_path: Path, redis_url: str) -> None:
    dead = PooledWorker(redis_url)
    await dead.open()
    await dead.register()
    await Leases(dead.redis).acquire(CallId("call"), WorkerId("w1"), invite_at_ms=now_ms())
    async with dispatcher(tmp_path, redis_url) as running:
        reaped = await running.event("lease.reaped")
        assert (reaped["call_id"], reaped["worker_id"]) == ("call", "w1")
        assert await Workers(dead.redis).table() == []
    dead.close()
    await dead.redis.aclose()


async def test_a_worker_that_died_a_moment_ago_is_followed_by_the_next(tmp_path: Path, redis_url: str) -> None:
    async with worker(redis_url, 200) as script:
        gone = PooledWorker(redis_url, name="w0")
        await gone.open()
        await gone.register()
        gone.close()
        await Leases(script.redis).acquire(CallId("other"), WorkerId("w1"), invite_at_ms=now_ms())
        async with dispatcher(tmp_path, redis_url) as running:
            caller = await running.caller()
            caller.send(caller.request("INVITE"))
            await hang_up(caller, await caller.expect("200 INVITE"))
            failed = await running.event("call.worker_failed")
            assert (failed["worker_id"], failed["reason"]) == ("w0", "unreachable")
        await gone.redis.aclose()


async def test_calls_are_placed_while_redis_is_dead(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    with running_redis(tmp_path / "redis") as redis:
        async with worker(redis.url, 180) as script, dispatcher(tmp_path, redis.url) as running:
            redis.stop()
            caller = await running.caller()
            caller.send(caller.request("INVITE"))
            offered = await script.expect("INVITE")
            lease = token.verify(
                header_of(offered, token.HEADER),
                SECRET,
                worker_id=WorkerId("w1"),
                call_id=call_id_for("call-1", "caller"),
                now_ms=now_ms(),
            )
            assert lease.provisional
            script.answer(offered, 200)
            await hang_up(caller, await caller.expect("200 INVITE"))
            await running.event("control.unavailable")
            assert await running.stop() == 0


async def test_sipp_makes_a_hundred_calls(tmp_path: Path, redis_url: str) -> None:
    sipp = shutil.which("sipp")
    assert sipp, "sipp is not installed: it is needed by the tests (Debian: apt install sip-tester)"
    async with (
        worker(redis_url, 180, 200, capacity=200) as script,
        dispatcher(tmp_path, redis_url, SIP_INVITE_RATE="1000") as running,
    ):
        arguments = ["-sf", str(CALLER_SCENARIO), "-i", "127.0.0.1", "-m", "100", "-r", "50", "-l", "50", "-nostdin"]
        process = await asyncio.create_subprocess_exec(
            sipp, f"127.0.0.1:{running.port}", *arguments, "-timeout", "60", "-timeout_error",
            cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await asyncio.wait_for(process.communicate(), 90)
        assert process.returncode == 0, said.decode()[-3000:]
        assert len(script.invites) == 100
        assert script.seen.count("BYE") >= 100
