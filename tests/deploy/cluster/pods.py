"""What would run in the worker pods of a release: workers as Redis sees them, and each pod's word to Kubernetes.

Pods come and go as the control plane wants; this follows. Calls are leases, and carry no audio. Their number is told to
Kubernetes by the project's own code, with a token that is the pod's, and to who asks for metrics by the supervisor's.
"""

import asyncio
import json
import os
import secrets
import subprocess
from collections.abc import AsyncGenerator, Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import Pipe
from typing import Any
from urllib.parse import quote, urlsplit

from redis.asyncio import Redis

from admin.ports import free_tcp_port
from shared.control.keys import HEARTBEAT_INTERVAL_S
from shared.control.leases import Leases
from shared.control.workers import Workers
from shared.ids import WorkerId
from shared.messages import Lease
from shared.settings import WorkerSettings
from shared.states import WorkerState
from tests.deploy.cluster.plane import HERE
from tests.deploy.cluster.release import Release, selector
from tests.integration.admin.pool import add_call, add_worker, end_call
from worker import ipc
from worker.kubernetes import OwnPod, PodAnnotations
from worker.pod_telemetry import PodTelemetry
from worker.telemetry import Telemetry

CAPACITY = 10
"""Slots of a pod, as `add_worker` registers them."""

CHANGE_S = 120.0
"""Longest wait for pods to come or go."""


@dataclass
class Pod:
    """A pod with one worker in it."""

    name: str
    redis: Redis
    own: OwnPod
    metrics: "Metrics"
    leases: list[Lease] = field(default_factory=list)

    @property
    def worker_id(self) -> WorkerId:
        return WorkerId(f"{self.name}-0-1111")

    async def run(self) -> None:
        """Keeps the worker, which is registered, and its calls alive until cancelled; then they are gone."""
        workers, leases = Workers(self.redis), Leases(self.redis)
        try:
            with PodAnnotations(self.own) as annotations, self.metrics.shown():
                while True:
                    annotations.note(len(self.leases), telemetry_port=self.metrics.annotated)
                    self.metrics.note(len(self.leases))
                    await workers.heartbeat(self.worker_id, WorkerState.READY)
                    await leases.renew(self.worker_id, self.leases)
                    await asyncio.sleep(HEARTBEAT_INTERVAL_S)
        finally:
            await self.hang_up(len(self.leases))
            await workers.unregister(self.worker_id)

    async def take(self, calls: int) -> None:
        """Begins so many calls."""
        for _ in range(calls):
            self.leases.append(await add_call(self.redis, secrets.token_hex(10), self.worker_id))

    async def hang_up(self, calls: int) -> None:
        """Ends so many calls."""
        for _ in range(calls):
            await end_call(self.redis, self.leases.pop())


class Metrics:
    """What a pod's supervisor shows of its one worker, on a port of this machine."""

    def __init__(self, pod: dict[str, Any], listeners: MutableMapping[str, str]) -> None:
        """Enters itself into `listeners` under the pod's own address, for as long as it is shown."""
        self._port = free_tcp_port()
        [container] = pod["spec"]["containers"]
        declared = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
        self._declared = declared.get("telemetry")
        self._address = f"{pod['status']['podIP']}:{self._declared or self._port}"
        self._listeners = listeners
        self._pipe, workers = self._pipes = Pipe()
        self._worker = Telemetry(workers, wanted=True)
        self._telemetry = PodTelemetry()

    @property
    def annotated(self) -> int | None:
        """The port that the pod has to tell, since it declares none: in host mode."""
        return None if self._declared else self._port

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Listens for the block."""
        settings = WorkerSettings(
            _env_file=None, LEASE_SECRET="0123456789abcdef", AZURE_VOICELIVE_ENDPOINT="ws://127.0.0.1:9",
            TELEMETRY_HOST=HERE, TELEMETRY_PORT=self._port,
        )  # type: ignore[call-arg]  # fmt: skip
        self._telemetry.open(settings)
        self._listeners[self._address] = f"http://{HERE}:{self._port}"
        try:
            yield
        finally:
            del self._listeners[self._address]
            self._telemetry.close()
            for pipe in self._pipes:
                pipe.close()

    def note(self, calls: int) -> None:
        """Has the worker tell its supervisor that it carries so many calls."""
        self._worker.load(calls, CAPACITY)
        self._worker.flush()
        piece = ipc.receive(self._pipe)
        assert isinstance(piece, ipc.Measured)
        self._telemetry.measured(0, piece)


class Pods:
    """The running worker pods of a release."""

    def __init__(self, release: Release, redis: Redis, listeners: MutableMapping[str, str]) -> None:
        """`listeners` gets to know under which URLs of this machine the metrics of pods are, by their own addresses."""
        self._release = release
        self._redis = redis
        self._listeners = listeners
        self._changed = asyncio.Condition()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.running: dict[str, Pod] = {}
        self.removed: list[str] = []
        """Those that Kubernetes has taken away, in that order."""

    async def until(self, count: int) -> list[Pod]:
        """Returns the running pods once there are `count`."""
        async with asyncio.timeout(CHANGE_S), self._changed:
            await self._changed.wait_for(lambda: len(self.running) == count)
            return list(self.running.values())

    async def follow(self) -> None:
        """Runs what has to run in the pods that there are; never ends."""
        async with asyncio.TaskGroup() as group:
            async for event, pod in _watched(self._release):
                name = pod["metadata"]["name"]
                leaves = event == "DELETED" or "deletionTimestamp" in pod["metadata"]
                if leaves and name in self.running:
                    await self._stop(name)
                elif not leaves and name not in self.running and _is_ready(pod):
                    await self._start(group, name, Metrics(pod, self._listeners))

    async def _start(self, group: asyncio.TaskGroup, name: str, metrics: Metrics) -> None:
        pod = Pod(name, self._redis, await asyncio.to_thread(own_pod, self._release, name), metrics)
        await add_worker(self._redis, pod.worker_id)
        self._tasks[name] = group.create_task(pod.run())
        async with self._changed:
            self.running[name] = pod
            self._changed.notify_all()

    async def _stop(self, name: str) -> None:
        task = self._tasks.pop(name)
        task.cancel()
        await asyncio.wait([task])
        async with self._changed:
            del self.running[name]
            self.removed.append(name)
            self._changed.notify_all()


def own_pod(release: Release, name: str) -> OwnPod:
    """The pod as it sees itself: with the files that a kubelet mounts for its service account."""
    account = release.get("pod", name)["spec"]["serviceAccountName"]
    bound = ("--bound-object-kind=Pod", f"--bound-object-name={name}")
    directory = release.plane.directory / f"account-{name}"
    directory.mkdir()
    (directory / "token").write_text(release.kubectl("create", "token", account, *bound))
    (directory / "namespace").write_text(release.namespace)
    (directory / "ca.crt").symlink_to(release.plane.authority.certificate)
    address = urlsplit(release.plane.url)
    assert address.hostname and address.port
    return OwnPod(name, address.hostname, address.port, directory)


async def _watched(release: Release) -> AsyncGenerator[tuple[str, dict[str, Any]]]:
    """Yields what happens to the worker pods, those that are there first, as ADDED; never ends."""
    path = f"/api/v1/namespaces/{release.namespace}/pods?watch=1&labelSelector={quote(selector('worker'))}"
    kubectl = release.plane.kubectl
    process = await asyncio.create_subprocess_exec(
        kubectl.binary, "get", "--raw", path, env={**os.environ, **kubectl.environment},
        stdout=subprocess.PIPE, limit=2**20,
    )  # fmt: skip
    assert process.stdout
    try:
        async for line in process.stdout:
            event = json.loads(line)
            yield event["type"], event["object"]
        raise AssertionError("the watch of the worker pods ended")
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
