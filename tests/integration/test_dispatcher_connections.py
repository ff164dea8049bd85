"""Calls over TCP and TLS through a dispatcher process: the caller's connection, a new one, and none at all."""

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.integration.redis.conftest import Authority
from tests.integration.test_dispatcher_process import (
    CALLER_SCENARIO,
    PooledWorker,
    Process,
    dispatcher,
    hang_up,
    spawn,
    worker,
)
from tests.unit.dispatcher.ladder import SECRET, contact_of, header_of, response
from tests.unit.dispatcher.wire import PATIENCE_S, Connected, ack_for

both = pytest.mark.parametrize("transport", ["tcp", "tls"])


class Lines:
    """Dispatchers that speak TLS as well, and callers with certificates."""

    def __init__(self, directory: Path, redis_url: str) -> None:
        self.directory = directory
        self.redis_url = redis_url
        self._authority = Authority(directory)
        certificate, key = (str(path) for path in self._authority.issue("dispatcher", "IP:127.0.0.1"))
        self.settings = {"SIP_TLS_PORT": "0", "SIP_TLS_CERT_FILE": certificate, "SIP_TLS_KEY_FILE": key}
        self._listening = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._listening.load_cert_chain(*self._authority.issue("caller", "IP:127.0.0.1"))
        self._calling = ssl.create_default_context(cafile=str(self._authority.certificate))

    @asynccontextmanager
    async def dispatcher(self, **settings: str) -> AsyncIterator[Process]:
        """Runs a dispatcher for the block."""
        async with dispatcher(self.directory, self.redis_url, **(self.settings | settings)) as running:
            yield running

    async def caller(self, running: Process, transport: str, *, listens: bool = True) -> Connected:
        """Returns a connected caller, which takes connections too."""
        tls = transport == "tls"
        peer = Connected(transport, self._calling if tls else None)
        if listens:
            await peer.listen(self._listening if tls else None)
        running.callers.append(await peer.open(running.lines[-1]["tls_port"] if tls else running.port))
        return peer


@pytest.fixture
def lines(tmp_path: Path, redis_url: str) -> Lines:
    """What calls over TCP and TLS need."""
    return Lines(tmp_path, redis_url)


async def answered(caller: Connected, script: PooledWorker) -> bytes:
    """Makes a call; returns the INVITE as the worker got it."""
    caller.send(caller.request("INVITE"))
    offered = await script.expect("INVITE")
    caller.send(ack_for(caller, await caller.expect("200 INVITE")))
    await script.expect("ACK")
    return offered


def bye_of(script: PooledWorker, caller: Connected, offered: bytes) -> bytes:
    """Returns the worker's BYE."""
    routes = [line for line in offered.decode().split("\r\n") if line.startswith("Record-Route:")]
    return script.request(
        "BYE",
        contact_of(caller.address),
        branch="z9hG4bKw",
        from_tag="worker",
        to_tag="caller",
        headers=tuple(line.removeprefix("Record-") for line in routes),
    )


@both
async def test_a_call_from_invite_to_bye(lines: Lines, transport: str) -> None:
    async with worker(lines.redis_url, 180, 200) as script, lines.dispatcher() as running:
        caller = await lines.caller(running, transport)
        caller.send(caller.request("OPTIONS", branch="z9hG4bKo"))
        await caller.expect("200 OPTIONS")
        caller.send(caller.request("INVITE"))
        answer = await caller.expect("200 INVITE")
        await hang_up(caller, answer)
        assert caller.seen == ["200 OPTIONS", "180 INVITE", "200 INVITE", "200 BYE"]
        assert script.seen == ["INVITE", "ACK", "BYE"]
        assert header_of(script.first, "Via").startswith("SIP/2.0/UDP ")


@both
async def test_the_worker_hangs_up_over_the_callers_connection(lines: Lines, transport: str) -> None:
    async with worker(lines.redis_url, 200) as script, lines.dispatcher() as running:
        caller = await lines.caller(running, transport, listens=False)
        offered = await answered(caller, script)
        script.send(bye_of(script, caller, offered))
        caller.send(response(await caller.expect("BYE"), 200))
        await script.expect("200 BYE")


@both
async def test_the_worker_hangs_up_over_a_new_connection_when_the_callers_is_closed(
    lines: Lines, transport: str
) -> None:
    async with worker(lines.redis_url, 200) as script, lines.dispatcher() as running:
        caller = await lines.caller(running, transport)
        offered = await answered(caller, script)
        caller.hang_up()
        await caller.closed.wait()
        script.send(bye_of(script, caller, offered))
        caller.send(response(await caller.expect("BYE"), 200))
        await script.expect("200 BYE")


@both
async def test_the_worker_hangs_up_through_a_dispatcher_that_was_started_again(lines: Lines, transport: str) -> None:
    async with worker(lines.redis_url, 200) as script:
        async with lines.dispatcher() as running:
            caller = await lines.caller(running, transport)
            offered = await answered(caller, script)
            await running.kill()
            await caller.closed.wait()
            async with lines.dispatcher(SIP_PORT=str(running.port)):
                script.send(bye_of(script, caller, offered))
                caller.send(response(await caller.expect("BYE"), 200))
                await script.expect("200 BYE")


async def test_a_caller_who_is_gone_is_told_to_the_worker_at_once(lines: Lines) -> None:
    async with worker(lines.redis_url, 200) as script, lines.dispatcher() as running:
        caller = await lines.caller(running, "tcp", listens=False)
        offered = await answered(caller, script)
        caller.hang_up()
        await caller.closed.wait()
        script.send(bye_of(script, caller, offered))
        await script.expect("481 BYE")
        failed = await running.event("sip.connection_failed")
        assert failed["source"] == "127.0.0.1"


async def test_replicas_that_share_a_port_share_its_connections(lines: Lines) -> None:
    async with (
        worker(lines.redis_url, 200) as script,
        lines.dispatcher(SIP_SHARE_PORT="1") as first,
        lines.dispatcher(SIP_SHARE_PORT="1", SIP_PORT=str(first.port)),
    ):
        caller = await lines.caller(first, "tcp")
        offered = await answered(caller, script)
        script.proxy = ("127.0.0.1", first.port)  # whichever gets it: it has the caller's connection, or opens one
        script.send(bye_of(script, caller, offered))
        caller.send(response(await caller.expect("BYE"), 200))
        await script.expect("200 BYE")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"SIP_TLS_PORT": "5061"}, "SIP_TLS_CERT_FILE: is missing beside SIP_TLS_PORT"),
        ({"SIP_TLS_CA_FILE": "/nowhere"}, "SIP_TLS_CA_FILE: is of no use without SIP_TLS_PORT"),
        (
            {"SIP_TLS_PORT": "0", "SIP_TLS_CERT_FILE": "/nowhere"},
            "SIP_TLS_CERT_FILE: cannot be read (No such file or directory)",
        ),
    ],
)
async def test_bad_tls_settings_are_told_in_one_line(
    tmp_path: Path, redis_url: str, settings: dict[str, str], told: str
) -> None:
    options = {"LEASE_SECRET": SECRET, "REDIS_URL": redis_url, "SIP_LOCAL_ADDRESS": "127.0.0.1", "SIP_PORT": "0"}
    process = await spawn(tmp_path, **options, **settings)
    async with asyncio.timeout(PATIENCE_S):
        _, said = await process.communicate()
    assert (process.returncode, said.decode().splitlines()) == (2, [told])


@pytest.mark.parametrize("mode", ["t1", "tn"])
async def test_sipp_makes_a_hundred_calls_over_tcp(tmp_path: Path, redis_url: str, mode: str) -> None:
    sipp = shutil.which("sipp")
    assert sipp, "sipp is not installed: it is needed by the tests (Debian: apt install sip-tester)"
    async with (
        worker(redis_url, 180, 200, capacity=200) as script,
        dispatcher(tmp_path, redis_url, SIP_INVITE_RATE="1000") as running,
    ):
        arguments = ["-sf", str(CALLER_SCENARIO), "-i", "127.0.0.1", "-m", "100", "-r", "50", "-l", "50", "-nostdin"]
        process = await asyncio.create_subprocess_exec(
            sipp, f"127.0.0.1:{running.port}", *arguments, "-t", mode, "-max_socket", "200",
            "-timeout", "60", "-timeout_error",
            cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        async with asyncio.timeout(90):
            said, _ = await process.communicate()
        assert process.returncode == 0, said.decode()[-3000:]
        assert len(script.invites) == 100
        assert script.seen.count("BYE") >= 100
