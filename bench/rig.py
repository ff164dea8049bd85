"""The pool under measurement: the worker alone on one core, everything else on another.

    load core      redis-server, simulator, dispatcher, the callers of bench/load
    subject core   one worker process, or a baseline in its place

It starts, pins and ends processes. What is measured, and when, is the benchmarks' business.
"""

import asyncio
import os
import shutil
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from redis.exceptions import RedisError

from admin.ports import free_tcp_port, free_udp_range
from admin.processes import Process, Processes, ProcessFailed
from bench.load.sip import SipCaller
from bench.tls import Certificate
from shared.control.connection import connect
from shared.control.records import Records
from shared.control.workers import Workers
from shared.messages import CallRecord, WorkerHealth
from shared.settings import PORTS_PER_CALL

ADDRESS = "127.0.0.1"

READY_S = 60.0
"""Longest wait for one process to be ready; an instrumented or busy machine is slow, not broken."""

LEASE_SECRET = "benchmark-pool-only"


class RigError(Exception):
    """The measurement cannot be made here; the text says why and what helps."""


@dataclass(frozen=True, slots=True)
class Cores:
    """Which core carries what."""

    load: int
    subject: int


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """The pool to start."""

    calls: int
    """Slots of the one worker."""
    audio_format: str = "g711"
    uplink_ms: int = 20
    tls: bool = False
    srtp: bool = False
    simulator: Sequence[str] = ()
    """Further options of the simulator."""
    worker: Mapping[str, str] | None = None
    """Further settings of the worker."""


def subdirectory(directory: Path, name: str) -> Path:
    """Returns a directory in another one, made if need be: for the files of one part of a measurement."""
    made = directory / name
    made.mkdir(exist_ok=True)
    return made


def choose_cores() -> Cores:
    """Returns the first and the last core this process may use; raises RigError when there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise RigError("two cores are needed: one for the load, one for what is measured")
    return Cores(load=allowed[0], subject=allowed[-1])


class Rig:
    """Processes of one measurement and the cores they are pinned to."""

    def __init__(self, cores: Cores, directory: Path, processes: Processes) -> None:
        self.cores = cores
        self.directory = directory
        self._processes = processes
        self.redis_url = ""
        self.redis_pid = 0
        self.simulator_url = ""
        self.simulator_pid = 0
        self.dispatcher_port = 0
        self.dispatcher_pid = 0
        self.worker_id = ""
        self.worker_pid = 0
        self.supervisor_pid = 0
        self._certificate: Certificate | None = None

    async def start(self, name: str, core: int, argv: Sequence[str], env: Mapping[str, str] | None = None) -> Process:
        """Starts a process of ours on one core, its output in NAME.log."""
        pinned = ["taskset", "--cpu-list", str(core), *argv]
        return await self._processes.start(name, pinned, env={"LOG_LEVEL": "INFO", **(env or {})}, grace_s=20.0)

    async def end(self, process: Process) -> None:
        """Ends one process before the others."""
        await self._processes.end(process)

    async def start_redis(self) -> None:
        """Starts a private redis-server that keeps nothing."""
        binary = shutil.which("redis-server")
        if binary is None:
            raise RigError("redis-server is not installed (Debian: redis-server); `make setup` installs it")
        port = free_tcp_port()
        argv = [binary, "--bind", ADDRESS, "--port", str(port), "--save", "", "--appendonly", "no"]
        process = await self.start("redis", self.cores.load, argv)
        self.redis_pid, self.redis_url = process.pid, f"redis://{ADDRESS}:{port}/0"
        async with connect(self.redis_url) as redis, asyncio.timeout(READY_S):
            while True:
                try:
                    await redis.ping()
                    return
                except (RedisError, OSError) as error:
                    if process.ended:
                        raise process.failure("redis-server did not start") from error
                    await asyncio.sleep(0.02)

    async def start_simulator(self, options: PoolOptions) -> None:
        """Starts the model's side."""
        argv = [sys.executable, "-m", "simulator", "--host", ADDRESS, "--port", "0", "--log-level", "WARNING"]
        if options.tls:
            self._certificate = await Certificate.make(self.directory, ADDRESS)
            argv += ["--tls-cert", str(self._certificate.certificate), "--tls-key", str(self._certificate.key)]
        process = await self.start("simulator", self.cores.load, [*argv, *options.simulator])
        [event] = await process.wait_for("simulator.listening", timeout_s=READY_S)
        self.simulator_pid, self.simulator_url = process.pid, str(event["endpoint"])

    async def start_dispatcher(self, core: int | None = None) -> None:
        """Starts one dispatcher, on the load core unless it is itself what is measured."""
        env = self._pool_env() | {"SIP_PORT": "0", "SIP_INVITE_RATE": "100000"}
        argv = [sys.executable, "-m", "dispatcher"]
        process = await self.start("dispatcher", self.cores.load if core is None else core, argv, env)
        [event] = await process.wait_for("dispatcher.listening", timeout_s=READY_S)
        self.dispatcher_pid, self.dispatcher_port = process.pid, int(event["port"])

    async def start_worker(self, options: PoolOptions, module: str = "worker") -> Process:
        """Starts one worker process on the subject core and waits until the dispatcher has room for a call."""
        ports = options.calls * PORTS_PER_CALL
        env = self._pool_env() | {
            "AZURE_VOICELIVE_ENDPOINT": self.simulator_url,
            "AZURE_VOICELIVE_API_KEY": "any",
            "VOICE_LIVE_PROACTIVE_GREETING_ENABLED": "false",
            "VOICE_LIVE_AUDIO_FORMAT": options.audio_format,
            "VOICE_LIVE_UPLINK_MS": str(options.uplink_ms),
            "WORKER_PROCESSES": "1",
            "WORKER_CAPACITY": str(options.calls),
            "WORKER_DRAIN_S": "5",
            "MEDIA_PORT": str(free_udp_range(ADDRESS, ports)),
            "MEDIA_PORT_COUNT": str(ports),
            "MEDIA_SRTP": "mandatory" if options.srtp else "off",
            "POD_NAME": "bench",
        }
        if self._certificate is not None:
            env["SSL_CERT_FILE"] = str(self._certificate.certificate)
        process = await self.start(
            "worker", self.cores.subject, [sys.executable, "-m", module], env | dict(options.worker or {})
        )
        [event] = await process.wait_for("worker.ready", timeout_s=READY_S)
        self.supervisor_pid = process.pid
        self.worker_id, self.worker_pid = str(event["worker"]), int(event["pid"])
        await self._until_placeable()
        return process

    async def records(self, count: int) -> list[CallRecord]:
        """Returns the newest `count` call records."""
        async with connect(self.redis_url) as redis:
            return [row.record for row in await Records(redis).read(count)]

    async def leased(self) -> int:
        """Returns how many slots are taken."""
        async with connect(self.redis_url) as redis:
            return sum(row.leased for row in await Workers(redis).table())

    async def health(self) -> WorkerHealth:
        """Returns how the worker said it was doing with its last heartbeat."""
        async with connect(self.redis_url) as redis:
            return next(row.health for row in await Workers(redis).table())

    async def open_sessions(self) -> int:
        """Returns how many sessions the model has open."""
        verified = ssl.create_default_context(cafile=self._certificate.certificate) if self._certificate else True
        async with aiohttp.ClientSession() as http, asyncio.timeout(READY_S):
            url = self.simulator_url.replace("ws", "http", 1)
            async with http.get(f"{url}/simulator/sessions", ssl=verified) as answer:
                sessions = (await answer.json())["sessions"]
        return sum(session["closed"] is None for session in sessions)

    async def until_idle(self, timeout_s: float) -> None:
        """Returns once no slot is taken; raises RigError when calls are left over."""

        async def idle() -> bool:
            return not await self.leased()

        await _until(idle, timeout_s, f"calls are still leased {timeout_s:.0f} s after their end")

    async def _until_placeable(self) -> None:
        """The dispatcher reads the worker table from Redis every now and then: wait until it has seen the worker."""
        async with SipCaller.open(ADDRESS) as caller:

            async def placeable() -> bool:
                return await caller.options(ADDRESS, self.dispatcher_port) == 200

            await _until(placeable, READY_S, "the dispatcher does not see the worker")

    def _pool_env(self) -> dict[str, str]:
        return {"REDIS_URL": self.redis_url, "LEASE_SECRET": LEASE_SECRET, "SIP_LOCAL_ADDRESS": ADDRESS}


async def _until(happened: Callable[[], Awaitable[bool]], timeout_s: float, failure: str) -> None:
    """Asks again and again, for what nobody announces; raises RigError when the time is over."""
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                if await happened():
                    return
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise RigError(failure) from None


@asynccontextmanager
async def rig(directory: Path) -> AsyncIterator[Rig]:
    """Yields a rig without processes, its files in an existing directory; leaving it ends all that were started."""
    if shutil.which("taskset") is None:
        raise RigError("taskset is not installed (Debian: util-linux)")
    cores, allowed = choose_cores(), os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cores.load})
    try:
        async with Processes(directory) as processes:
            yield Rig(cores, directory, processes)
    except ProcessFailed as error:
        raise RigError("\n".join([str(error), *error.log_tail])) from error
    finally:
        os.sched_setaffinity(0, allowed)


@asynccontextmanager
async def pool(options: PoolOptions, directory: Path) -> AsyncIterator[Rig]:
    """Yields a rig with a pool that takes calls."""
    async with rig(directory) as started:
        await started.start_redis()
        await started.start_simulator(options)
        await started.start_dispatcher()
        await started.start_worker(options)
        yield started
