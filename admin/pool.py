"""A whole pool on this machine: Redis, the Voice Live simulator, a dispatcher and workers, each once it is needed.

It places no calls. What is set in the environment or `.env` is used as it is; only what is missing is provided.
"""

import asyncio
import ipaddress
import secrets
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from admin.ports import free_tcp_port, free_udp_port
from admin.processes import POLL_S, Process, Processes, ProcessFailed
from admin.terminal import Steps
from shared.control.address import RedisAddress
from shared.control.connection import ask, connect
from shared.errors import ControlUnavailable
from shared.settings import PRIVATE_NETWORKS, DispatcherSettings, WorkerSettings, load, own_address

SIP_PORT_TRIES = 40
"""Where 5060, the default of SIP (RFC 3261 section 19.1.2), is taken, the next free one of so many ports is used."""

REDIS_READY_S, SIMULATOR_READY_S, DISPATCHER_READY_S, WORKERS_READY_S = 10.0, 30.0, 30.0, 90.0
"""How long each may take until it is ready: generous, since a busy machine is no failure."""

DRAIN_S = 5.0
"""How long calls may go on after Ctrl-C, unless WORKER_DRAIN_S says otherwise: this is a pool to try things with."""

STOP_S = 10.0
"""How long workers may take to end once their calls have ended: tearing down pjsua2 alone takes a second."""


@dataclass(frozen=True, slots=True)
class Provision:
    """What is not set, and therefore provided."""

    environment: Mapping[str, str]
    """What the processes get on top of our own environment."""
    redis_port: int | None
    """Where a private Redis is to listen; None when REDIS_URL names one."""
    simulated: bool
    """Whether the simulator stands in for Voice Live."""
    own_sip_port: bool
    """Whether SIP_PORT is set, so that no other will do."""


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool that takes calls."""

    host: str
    """Address at which others on the network reach the dispatcher."""
    local_host: str
    """Address at which this machine reaches it."""
    port: int
    redis: RedisAddress
    simulated: bool
    greeting: bool
    """Whether callers are greeted."""
    allowed_peers: str
    """Networks that calls are accepted from."""


def provide(found: Mapping[str, str]) -> Provision:
    """Returns what has to be provided on top of what is `found` in environment and `.env`; empty counts as not set."""
    given = {name for name, value in found.items() if value}
    redis_port = None if given & {"REDIS_URL", "REDIS_SENTINELS"} else free_tcp_port()
    simulated = "AZURE_VOICELIVE_ENDPOINT" not in given
    environment = {"LEASE_SECRET": secrets.token_urlsafe(24), "WORKER_DRAIN_S": str(DRAIN_S)}
    # The softphone on this machine calls from its own address, which need not be a private one.
    environment["SIP_ALLOWED_PEERS"] = f"{PRIVATE_NETWORKS},{own_address()}"
    environment = {name: value for name, value in environment.items() if name not in given}
    if redis_port:
        environment["REDIS_URL"] = f"redis://127.0.0.1:{redis_port}/0"
    if simulated:
        environment |= simulator_at("http://127.0.0.1:1")  # until it is known where it listens
    return Provision(environment, redis_port, simulated, "SIP_PORT" in given)


def simulator_at(endpoint: str) -> dict[str, str]:
    """Returns the settings that make workers use the simulator."""
    return {"AZURE_VOICELIVE_ENDPOINT": endpoint, "AZURE_VOICELIVE_API_KEY": "simulator"}


def choose_sip_port(settings: DispatcherSettings, *, only_this: bool) -> int:
    """Returns the port of `settings` if it is free, else the next free one; raises PortTaken if `only_this` will do."""
    if settings.sip_port == 0:
        return 0
    return free_udp_port(settings.sip_local_address, settings.sip_port, 1 if only_this else SIP_PORT_TRIES)


async def start(processes: Processes, provision: Provision, run_dir: Path, steps: Steps) -> Pool:
    """Starts what is needed, one after the other, and returns the pool when all its workers take calls.

    Raises ProcessFailed with the end of the log of the process that failed, and PortTaken.
    """
    environment = dict(provision.environment)
    await _start_redis(processes, provision, run_dir, steps)
    if provision.simulated:
        environment |= simulator_at(await _start_simulator(processes, environment, steps))
    settings = load(WorkerSettings, **environment)
    port = await _start_dispatcher(processes, environment, provision.own_sip_port, steps)
    await _start_workers(processes, environment, settings, steps)
    unspecified = ipaddress.ip_address(settings.sip_local_address).is_unspecified
    return Pool(
        host=settings.advertised_address,
        local_host="127.0.0.1" if unspecified else settings.sip_local_address,
        port=port,
        redis=settings.redis,
        simulated=provision.simulated,
        greeting=settings.voice_live_proactive_greeting_enabled,
        allowed_peers=", ".join(map(str, load(DispatcherSettings, **environment).sip_allowed_peers)),
    )


async def _start_redis(processes: Processes, provision: Provision, run_dir: Path, steps: Steps) -> None:
    address = load(WorkerSettings, **provision.environment).redis
    with steps.step("Redis") as step:
        if not provision.redis_port:
            await _answers(address, None)
            step.result = "Redis of REDIS_URL answers"
            return
        if not shutil.which("redis-server"):
            raise ProcessFailed("redis-server is not installed; `make setup` does that, or set REDIS_URL")
        where = ["--bind", "127.0.0.1", "--port", str(provision.redis_port), "--dir", str(run_dir)]
        process = await processes.start("redis", ["redis-server", *where, "--save", "", "--appendonly", "no"])
        await _answers(address, process)
        step.result = f"Redis, private, on 127.0.0.1:{provision.redis_port}"


async def _answers(address: RedisAddress, process: Process | None) -> None:
    redis = connect(address, client_name="voicepool-run")
    try:
        async with asyncio.timeout(REDIS_READY_S):
            while not (process and process.ended):
                try:
                    await ask(redis, "PING")
                    return
                except ControlUnavailable:
                    await asyncio.sleep(POLL_S)
    except TimeoutError:
        pass
    finally:
        await redis.aclose()
    if process:
        raise process.failure(f"Redis does not answer ({process.status})")
    raise ProcessFailed("the Redis that REDIS_URL names does not answer")


async def _start_simulator(processes: Processes, environment: Mapping[str, str], steps: Steps) -> str:
    with steps.step("Voice Live simulator") as step:
        process = await processes.start(
            "simulator", [sys.executable, "-m", "simulator", "--port", "0"], env=environment
        )
        [event] = await process.wait_for("simulator.listening", timeout_s=SIMULATOR_READY_S)
        step.result = f"Voice Live simulator on {event['host']}:{event['port']}"
        return f"http://{event['host']}:{event['port']}"


async def _start_dispatcher(
    processes: Processes, environment: Mapping[str, str], own_sip_port: bool, steps: Steps
) -> int:
    with steps.step("dispatcher") as step:
        settings = load(DispatcherSettings, **environment)
        sip_port = choose_sip_port(settings, only_this=own_sip_port)
        process = await processes.start(
            "dispatcher", [sys.executable, "-m", "dispatcher"], env={**environment, "SIP_PORT": str(sip_port)}
        )
        [event] = await process.wait_for("dispatcher.listening", timeout_s=DISPATCHER_READY_S)
        taken = f" ({settings.sip_port} is taken)" if sip_port != settings.sip_port else ""
        step.result = f"dispatcher on UDP {event['host']}:{event['port']}{taken}"
        return int(event["port"])


async def _start_workers(
    processes: Processes, environment: Mapping[str, str], settings: WorkerSettings, steps: Steps
) -> None:
    count = settings.processes
    with steps.step(f"{count} workers") as step:
        grace_s = settings.worker_drain_s + STOP_S
        process = await processes.start("workers", [sys.executable, "-m", "worker"], env=environment, grace_s=grace_s)
        await process.wait_for("worker.ready", count=count, timeout_s=WORKERS_READY_S)
        step.result = f"{count} workers, {settings.worker_capacity} calls each"
