"""A pool of many whose processes may die: dispatchers, pods of workers, Redis behind a relay, and a model.

    callers ── dispatchers ── pods of workers ── relay ── simulator
                    └─── relay ── redis ───┘

It starts, kills, freezes and replaces, as Kubernetes and its accidents would. When, and what must come of it, is the
benchmarks' business. Nothing is pinned: what is looked at here is who gets through, not what it costs.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from admin.ports import free_udp_port, free_udp_range
from admin.processes import Process, Processes, ProcessFailed
from bench.faults.processes import ProcessFault, Target, alive
from bench.faults.redis import RedisServer
from bench.faults.relay import Relay
from bench.load.wire import UdpAddress
from bench.rig import ADDRESS, LEASE_SECRET, READY_S, RigError
from shared.ids import WorkerId
from shared.settings import PORTS_PER_CALL

PODS_AT_ONCE = 8
"""Places with RTP ports of their own: a pod that leaves keeps its ports while its successor begins."""

POD_GRACE_S = 40.0
"""Longest a pod may take to leave at the end; its calls are over by then."""

MODEL_AWAY_MS = 100.0
"""Each way to the model: a call rings for some 0.6 s, and there is a time in which it can be hit while it does."""

UPLINK_MS = 200
"""Audio per append: little work for the machine, since nobody measures it."""

_HTTP_TIMEOUT = aiohttp.ClientTimeout(total=10.0)


@dataclass(frozen=True, slots=True)
class Layout:
    """How many of what, and how they are set."""

    dispatchers: int = 3
    pods: int = 1
    workers: int = 2
    """Of each pod."""
    capacity: int = 40
    """Of each worker."""
    shared_port: bool = False
    """All dispatchers listen on one port, as behind a load balancer; otherwise each is a member of a proxy set."""
    worker: Mapping[str, str] | None = None
    """Further settings of workers and dispatchers."""


@dataclass(frozen=True, slots=True)
class FleetWorker:
    """One worker that is there."""

    worker_id: WorkerId
    pod: Process
    target: Target


class Fleet:
    """A running pool. `fleet` makes one."""

    def __init__(
        self, layout: Layout, stack: AsyncExitStack, processes: Processes, redis: RedisServer, relay: Relay
    ) -> None:
        self.redis = redis
        """To be asked directly, whatever stands between it and the pool."""
        self.relay = relay
        self.addresses: list[UdpAddress] = []
        """Where the dispatchers listen, in their order; one address only when they share it."""
        self.dispatchers: list[Process] = []
        """One that was started again has the place of its predecessor."""
        self.pods: list[Process] = []
        """Those that take calls or may do so again; not those that are leaving."""
        self.logs: list[Path] = []
        """Of every process that was ever started."""
        self._layout = layout
        self._stack = stack
        self._processes = processes
        self._targets: dict[WorkerId, Target] = {}
        self._ports = free_udp_range(ADDRESS, PODS_AT_ONCE * self._ports_of_a_pod)
        self._places: list[Process | None] = [None] * PODS_AT_ONCE
        self._starts = 0

    async def start_simulator(self, *options: str) -> None:
        """Starts the model, a little away."""
        argv = [sys.executable, "-m", "simulator", "--host", ADDRESS, "--port", "0", "--log-level", "WARNING"]
        simulator = await self._start("simulator", [*argv, *options], {}, grace_s=5.0)
        [event] = await simulator.wait_for("simulator.listening", timeout_s=READY_S)
        self._simulator_url = f"http://{event['host']}:{event['port']}"
        self._model = await self._stack.enter_async_context(Relay(ADDRESS, int(event["port"])))
        await self._model.slow(MODEL_AWAY_MS)

    # --------------------------------------------------------------------------------------------------- dispatchers

    async def start_dispatchers(self) -> None:
        """Starts all dispatchers; workers are there, so that each of them can place calls at once."""
        port = free_udp_port(ADDRESS, 15060, tries=1000) if self._layout.shared_port else 0
        for number in range(self._layout.dispatchers):
            process, address = await self._dispatcher(number, port)
            self.dispatchers.append(process)
            if address not in self.addresses:
                self.addresses.append(address)

    async def kill_dispatcher(self, index: int) -> None:
        """Kills a dispatcher; returns when it is gone."""
        Target.of(self.dispatchers[index].pid).inject(ProcessFault.KILL)
        await self.dispatchers[index].wait()

    async def restart_dispatcher(self, index: int) -> None:
        """Starts a dispatcher in the place of one that has ended, where that was; returns once it listens."""
        _, port = self.addresses[0 if self._layout.shared_port else index]
        self.dispatchers[index], _ = await self._dispatcher(index, port)

    async def _dispatcher(self, index: int, port: int) -> tuple[Process, UdpAddress]:
        env = self._env() | {"SIP_PORT": str(port), "SIP_INVITE_RATE": "100000", "POD_NAME": f"dispatcher-{index}"}
        if self._layout.shared_port:
            env["SIP_SHARE_PORT"] = "true"
        process = await self._start(f"dispatcher-{index}", [sys.executable, "-m", "dispatcher"], env, grace_s=10.0)
        [event] = await process.wait_for("dispatcher.listening", timeout_s=READY_S)
        return process, (str(event["host"]), int(event["port"]))

    # ----------------------------------------------------------------------------------------------- pods and workers

    async def start_pods(self, count: int = 1) -> None:
        """Starts more pods, and returns once all their workers are in the table."""
        starting = [await self._pod() for _ in range(count)]
        for pod in starting:
            await pod.wait_for("worker.ready", count=self._layout.workers, timeout_s=READY_S)
            self.pods.append(pod)
        self.workers()  # while the kernel can still say that they are ours

    async def _pod(self) -> Process:
        place = next(index for index, pod in enumerate(self._places) if pod is None or not _has_members(pod))
        env = self._env() | {
            "AZURE_VOICELIVE_ENDPOINT": f"http://{self._model.host}:{self._model.port}",
            "AZURE_VOICELIVE_API_KEY": "any",
            "VOICE_LIVE_UPLINK_MS": str(UPLINK_MS),
            "WORKER_PROCESSES": str(self._layout.workers),
            "WORKER_CAPACITY": str(self._layout.capacity),
            "WORKER_DRAIN_S": str(POD_GRACE_S - 5),
            "MEDIA_PORT": str(self._ports + place * self._ports_of_a_pod),
            "MEDIA_PORT_COUNT": str(self._ports_of_a_pod),
            "MEDIA_SRTP": "off",
            "POD_NAME": f"pod-{place}",
        }
        pod = await self._start(f"pod-{place}", [sys.executable, "-m", "worker"], env, grace_s=POD_GRACE_S)
        self._places[place] = pod
        return pod

    def workers(self) -> list[FleetWorker]:
        """Returns the workers that are there and whose pods stay, frozen ones too, in the order of their start."""
        found = []
        for pod in self.pods:
            for event in pod.events("worker.ready"):
                worker_id, pid = WorkerId(event["worker"]), int(event["pid"])
                if worker_id not in self._targets and alive(pid):
                    self._targets[worker_id] = Target.of(pid)
                target = self._targets.get(worker_id)
                if target and target.alive:
                    found.append(FleetWorker(worker_id, pod, target))
        return found

    async def stop_pod(self, pod: Process, fault: ProcessFault) -> None:
        """Tells a supervisor to leave (TERMINATE), or kills it; either way its workers leave after their last call."""
        self.pods.remove(pod)
        Target.of(pod.pid).inject(fault)

    # -------------------------------------------------------------------------------------------------- the model

    async def order_faults(self, **order: Any) -> None:
        """Has the model commit faults from now on; see simulator/README.md."""
        async with aiohttp.ClientSession(timeout=_HTTP_TIMEOUT) as http:
            async with http.post(f"{self._simulator_url}/simulator/faults", json=order) as answer:
                answer.raise_for_status()

    async def open_sessions(self) -> int:
        """Returns how many sessions the model has open."""
        async with aiohttp.ClientSession(timeout=_HTTP_TIMEOUT) as http:
            async with http.get(f"{self._simulator_url}/simulator/sessions") as answer:
                return sum(session["closed"] is None for session in (await answer.json())["sessions"])

    # ------------------------------------------------------------------------------------------------------ processes

    @property
    def _ports_of_a_pod(self) -> int:
        return self._layout.workers * self._layout.capacity * PORTS_PER_CALL

    async def _start(self, name: str, argv: Sequence[str], env: Mapping[str, str], grace_s: float) -> Process:
        self._starts += 1
        process = await self._processes.start(
            f"{self._starts:03d}-{name}", argv, env={"LOG_LEVEL": "INFO", **env}, grace_s=grace_s
        )
        self.logs.append(process.log)
        return process

    def _env(self) -> dict[str, str]:
        return {
            "REDIS_URL": f"redis://{self.relay.host}:{self.relay.port}/0",
            "LEASE_SECRET": LEASE_SECRET,
            "SIP_LOCAL_ADDRESS": ADDRESS,
            **(self._layout.worker or {}),
        }


def _has_members(process: Process) -> bool:
    """Whether anybody is left of a process and those it has started."""
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


@asynccontextmanager
async def fleet(layout: Layout, directory: Path, simulator: Sequence[str] = ()) -> AsyncIterator[Fleet]:
    """Yields a pool that takes calls, its files in an existing directory; leaving it ends all that was started.

    `simulator` are options of the model. Raises RigError when something does not start.
    """
    try:
        async with AsyncExitStack() as stack:
            redis = await asyncio.to_thread(RedisServer, directory)
            stack.callback(redis.stop)
            relay = await stack.enter_async_context(Relay(ADDRESS, redis.port))
            processes = await stack.enter_async_context(Processes(directory))
            started = Fleet(layout, stack, processes, redis, relay)
            await started.start_simulator(*simulator)
            await started.start_pods(layout.pods)
            await started.start_dispatchers()
            yield started
    except* ProcessFailed as errors:
        error = _first(errors)
        raise RigError("\n".join([str(error), *error.log_tail])) from error


def _first(group: BaseExceptionGroup[ProcessFailed]) -> ProcessFailed:
    """Returns the first exception at the bottom of a group; groups nest as deep as TaskGroups do."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
