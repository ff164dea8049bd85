"""A whole pool for tests: redis-server, simulator, dispatchers, pods and their workers, all of them real processes.

It starts, observes, kills and ends them. What a call has to look like is the tests' business.
"""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import redis.asyncio
from redis import Redis, Sentinel

from admin.operations import act, look, targets
from admin.operations.shapes import Outcome, Quota, Result
from admin.ports import free_udp_range
from bench.faults.network import Host
from bench.faults.processes import ProcessFault, Target, alive
from bench.faults.redis import MASTER_NAME, RedisServer, RedisSet
from bench.faults.relay import RelayThread
from shared.control import keys
from shared.control.connection import connect
from shared.ids import CallId, WorkerId
from shared.messages import CallRecord, CommandName
from shared.states import WorkerState
from tests.acceptance.process import START_S, Event, PoolProcess
from tests.acceptance.raw_sip import RawCaller
from tests.acceptance.voice_live import VoiceLive

__all__ = ["LEASE_SECRET", "SETTLE_S", "Address", "Layout", "Pool", "alive", "running_pool", "until"]

LEASE_SECRET = "acceptance-tests-only"

SETTLE_S = 15.0
"""Longest wait for what follows a call: the lease to be released, the record to be written."""

LEAVE_S = 10.0
"""Longest wait for a worker to leave whose supervisor was killed."""

PODS_MAX = 4
PORTS_OF_A_POD = 240
"""RTP ports: they are given out before anybody uses them, so that no two pods get the same."""


T = TypeVar("T")

Address = tuple[str, int]
"""Host and port."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How many of what a pool is started with."""

    dispatchers: int = 1
    pods: int = 1
    relay: bool = False
    """Whether there is one before Redis."""
    sentinels: bool = False
    """Whether Redis is a set with Sentinels; not together with a relay."""


class Pool:
    """A running pool; `sip` is what a caller dials.

    A test that kills more than one process of its own pool asks `running_pool` for what it needs, then uses
    `start_dispatcher`, `start_pod` and the methods named after faults.
    """

    def __init__(
        self, directory: Path, env: dict[str, str], simulator: Sequence[str] = (), redis_set: RedisSet | None = None
    ) -> None:
        """Starts Redis and the simulator; `env` is the further environment of all dispatchers and workers.

        A `redis_set` is running, is used instead of a Redis of its own, and goes on.
        """
        self.directory = directory
        self.relay: RelayThread | None = None
        """What stands between the pool and Redis, if anything does; this object asks Redis itself."""
        self.dispatchers: list[PoolProcess] = []
        """In the order of their start; one that was started again has the place of its predecessor."""
        self.supervisors: list[PoolProcess] = []
        """One for each pod, in the order of their start."""
        self._env = env
        self._addresses: list[Address] = []
        self._targets: dict[str, Target] = {}
        self._processes: list[PoolProcess] = []
        self._media_port = free_udp_range("127.0.0.1", PODS_MAX * PORTS_OF_A_POD)
        self.redis_set = redis_set
        self.redis_server = redis_set.master if redis_set else RedisServer(directory)
        self._redis = _client(self.redis_server, redis_set)
        try:
            self.voice_live = VoiceLive("simulator", simulator, directory)
        except BaseException:
            self._stop_redis()
            raise
        self.simulator = self.voice_live.process
        self._processes.append(self.simulator)

    def start_relay(self, listen_host: str = "127.0.0.1") -> RelayThread:
        """Puts a relay before Redis, for the processes that are started from now on."""
        self.relay = RelayThread("127.0.0.1", self.redis_server.port, listen_host)
        return self.relay

    def start_dispatcher(self, *, host: Host | None = None, **env: str) -> PoolProcess:
        """Starts one more dispatcher and returns it once it listens."""
        name = f"dispatcher-{len(self.dispatchers)}" if self.dispatchers else "dispatcher"
        process, address = self._dispatch(name, {"SIP_PORT": "0"} | self._env | env, host)
        self.dispatchers.append(process)
        self._addresses.append(address)
        return process

    def restart_dispatcher(self, index: int, **env: str) -> PoolProcess:
        """Starts a dispatcher in the place of one that has ended, at the same address; returns once it listens."""
        address = self._addresses[index]
        env = self._env | {"SIP_PORT": str(address[1])} | env
        self.dispatchers[index], _ = self._dispatch(self.dispatchers[index].name, env, None)
        return self.dispatchers[index]

    def start_pod(self, workers: int = 2, *, host: Host | None = None, **env: str) -> PoolProcess:
        """Starts one more pod and returns its supervisor; `wait_for("worker.ready", count=workers)` is the caller's."""
        number = len(self.supervisors)
        assert number < PODS_MAX, "there are no RTP ports for more pods"
        name = f"-{number}" if number else ""
        place = {
            "WORKER_PROCESSES": str(workers),
            "MEDIA_PORT": str(self._media_port + number * PORTS_OF_A_POD),
            "POD_NAME": f"pod{name}",
        }
        settings = self.worker_settings() | place | self._env | env
        self.supervisors.append(self._spawn(f"worker{name}", "worker", settings, host))
        return self.supervisors[-1]

    @property
    def dispatcher(self) -> PoolProcess:
        """The first dispatcher."""
        return self.dispatchers[0]

    @property
    def supervisor(self) -> PoolProcess:
        """The supervisor of the first pod."""
        return self.supervisors[0]

    def worker_settings(self) -> dict[str, str]:
        """Returns the environment that this pool's workers are started with, as far as all pods have it in common."""
        return self._settings() | {
            "AZURE_VOICELIVE_ENDPOINT": self.voice_live.url,
            "AZURE_VOICELIVE_API_KEY": "any",
            "VOICE_LIVE_PROACTIVE_GREETING": "Hello there.",
            "WORKER_PROCESSES": "2",
            "WORKER_CAPACITY": "20",
            "MEDIA_PORT": str(self._media_port),
            "MEDIA_PORT_COUNT": str(PORTS_OF_A_POD),
            "POD_NAME": "pod",
        }

    def _settings(self) -> dict[str, str]:
        redis_url = f"redis://{self.relay.host}:{self.relay.port}/0" if self.relay else self.redis_server.url
        sentinels = self.redis_set.sentinels if self.redis_set else []
        return {
            "REDIS_URL": redis_url,
            "REDIS_SENTINELS": ",".join(f"{host}:{port}" for host, port in sentinels),
            "REDIS_SENTINEL_SERVICE": MASTER_NAME,
            "LEASE_SECRET": LEASE_SECRET,
            "SIP_LOCAL_ADDRESS": "127.0.0.1",
            "LOG_LEVEL": "INFO",
        }

    def _stop_redis(self) -> None:
        self._redis.close()
        if self.redis_set is None:
            self.redis_server.stop()

    def _dispatch(self, name: str, env: dict[str, str], host: Host | None) -> tuple[PoolProcess, Address]:
        process = self._spawn(name, "dispatcher", self._settings() | env, host)
        listening = process.wait_for("dispatcher.listening", timeout_s=START_S)[0]
        return process, (str(listening["host"]), int(listening["port"]))

    def _spawn(self, name: str, module: str, env: dict[str, str], host: Host | None) -> PoolProcess:
        process = PoolProcess(name, [module], env, self.directory, host)
        self._processes.append(process)
        return process

    @property
    def sip_host(self) -> str:
        """Where the first dispatcher listens."""
        return self._addresses[0][0]

    @property
    def sip_port(self) -> int:
        """Where the first dispatcher listens."""
        return self._addresses[0][1]

    @property
    def addresses(self) -> list[Address]:
        """Where the dispatchers listen, in their order: a proxy set."""
        return list(self._addresses)

    @property
    def sip(self) -> str:
        """What a caller dials."""
        return self.sip_of("bot")

    def sip_of(self, called: str, dispatcher: int = 0) -> str:
        """Returns what a caller dials for this number at one of the dispatchers."""
        host, port = self._addresses[dispatcher]
        return f"sip:{called}@{host}:{port}"

    def workers(self) -> list[Event]:
        """Returns the `worker.ready` events so far: one for each worker that was ever started, pod by pod, in order."""
        return [event for supervisor in self.supervisors for event in supervisor.events("worker.ready")]

    def live_workers(self) -> list[Event]:
        """Returns the workers whose processes are there now."""
        return [worker for worker in self.workers() if alive(int(worker["pid"]))]

    def supervisor_of(self, worker: Event) -> PoolProcess:
        """Returns the supervisor of a worker's pod."""
        return next(each for each in self.supervisors if worker in each.events("worker.ready"))

    def kill_dispatcher(self, index: int = 0) -> None:
        """Kills a dispatcher; returns when it is gone."""
        self._kill(self.dispatchers[index])

    def freeze_dispatcher(self, index: int = 0) -> None:
        """Freezes a dispatcher, until it is thawed."""
        Target.of(self.dispatchers[index].pid).inject(ProcessFault.FREEZE)

    def thaw_dispatcher(self, index: int = 0) -> None:
        """Lets a frozen dispatcher go on."""
        Target.of(self.dispatchers[index].pid).inject(ProcessFault.THAW)

    def kill_supervisor(self, index: int = 0) -> None:
        """Kills the supervisor of a pod, not its workers; returns when it is gone."""
        for worker in self.live_workers():
            self._worker(str(worker["worker"]))  # while it can still be told that they are ours
        self._kill(self.supervisors[index])

    def kill_worker(self, worker_id: str) -> None:
        """Kills a worker; returns when it is gone."""
        victim = self._worker(worker_id)
        victim.inject(ProcessFault.KILL)
        until(lambda: not victim.alive, LEAVE_S, f"{worker_id} does not die")

    def freeze_worker(self, worker_id: str) -> None:
        """Freezes a worker, until it is thawed or its supervisor kills it."""
        self._worker(worker_id).inject(ProcessFault.FREEZE)

    def thaw_worker(self, worker_id: str) -> None:
        """Lets a frozen worker go on, if it is still there."""
        self._worker(worker_id).inject(ProcessFault.THAW)

    def _worker(self, worker_id: str) -> Target:
        if worker_id not in self._targets:
            pid = next(int(worker["pid"]) for worker in self.workers() if worker["worker"] == worker_id)
            self._targets[worker_id] = Target.of(pid)
        return self._targets[worker_id]

    def _kill(self, process: PoolProcess) -> None:
        Target.of(process.pid).inject(ProcessFault.KILL)
        until(lambda: not process.running, LEAVE_S, f"{process.name} does not die")

    def wait_until_placeable(self, dispatcher: int = 0, source: str = "127.0.0.1") -> None:
        """Returns once this dispatcher's own view has room for a call: OPTIONS from `source` is answered 200."""
        with RawCaller(*self._addresses[dispatcher], source) as caller:
            until(lambda: caller.options() == 200, START_S, "OPTIONS is not answered 200")

    def workers_seen_by(self, dispatcher: int = 0) -> int:
        """Returns how many workers this dispatcher takes to be fit for a call, by its log."""
        changes = [
            event.get("workers", event.get("ready"))
            for event in self.dispatchers[dispatcher].events()
            if event.get("event") in ("dispatcher.listening", "dispatcher.workers")
        ]
        return int(changes[-1] or 0)

    def wait_until_seen(self, workers: int) -> None:
        """Returns once every dispatcher sees so many workers that are fit for a call."""
        for number, process in enumerate(self.dispatchers):
            if process.running:
                until(lambda number=number: self.workers_seen_by(number) == workers, START_S, self.tails)  # type: ignore[misc]

    def wait_until_reached(self) -> None:
        """Returns once no worker is cut off from Voice Live any more."""
        until(lambda: not any(worker.cut_off for worker in self._look(look.workers)), START_S, self.tails)

    def registered(self) -> list[str]:
        """Returns the ids of the workers in the table."""
        return [worker.worker_id for worker in self._look(look.workers)]

    def ready(self) -> list[str]:
        """Returns the ids of the workers that Redis has heard of lately, and which take calls."""
        rows = self._look(look.workers)
        return [row.worker_id for row in rows if row.alive and row.state is WorkerState.READY]

    def dispatcher_id(self, dispatcher: int) -> str:
        """Returns the id by which operators know a dispatcher."""
        pid = self.dispatchers[dispatcher].pid
        return next(row.dispatcher_id for row in self._look(look.dispatchers) if row.pid == pid)

    def quota(self) -> Quota:
        """Returns what is left of the one resource there is."""
        [quota] = self._look(look.quotas)
        return quota

    def _look(self, at: "Callable[[redis.asyncio.Redis], Coroutine[Any, Any, T]]") -> T:
        """Returns what operators see."""

        async def see() -> T:
            async with connect(self.redis_server.url) as redis:
                return await at(redis)

        return asyncio.run(see())

    def order_faults(self, **order: Any) -> None:
        """Has the simulator commit faults from now on."""
        self.voice_live.order_faults(**order)

    def forget_faults(self) -> None:
        """Takes back the faults that have not happened."""
        self.voice_live.forget_faults()

    def sessions(self, *, running: bool = False) -> list[dict[str, Any]]:
        """Returns what the simulator knows of its sessions, all of them or those that are open now."""
        return self.voice_live.sessions(running=running)

    def leases(self) -> set[str]:
        """Returns the calls that hold a lease right now, from every place in Redis that would know one."""
        lapses = cast(list[bytes], self._redis.zrange(keys.lapses(), 0, -1))
        calls = {call.decode() for call in lapses}
        calls |= {key.decode().rpartition(":")[2] for key in self._redis.scan_iter(match=keys.call(CallId("*")))}
        for key in self._redis.scan_iter(match=keys.slots(WorkerId("*"))):
            calls |= {call.decode() for call in cast(set[bytes], self._redis.smembers(key))}
        return calls

    def left(self) -> dict[str, Any]:
        """Returns what is taken, owed or waited for right now, by its key in Redis; empty is a pool at rest."""
        redis = self._redis
        found: dict[str, Any] = {
            keys.lapses(): redis.zrange(keys.lapses(), 0, -1),
            keys.loads(): redis.hgetall(keys.loads()),
            keys.sessions(): redis.hgetall(keys.sessions()),
            keys.orphans(): redis.zrange(keys.orphans(), 0, -1),
            keys.orphan_leases(): redis.hkeys(keys.orphan_leases()),
        }
        patterns = (keys.call(CallId("*")), keys.slots(WorkerId("*")), keys.waiting("*"), keys.polls("*"))
        found |= {key.decode(): True for pattern in patterns for key in redis.scan_iter(match=pattern)}
        return {key: value for key, value in found.items() if value}

    def assert_recorded(self, call_ids: Iterable[CallId], timeout_s: float = SETTLE_S) -> None:
        """Fails unless each of these calls has exactly one record within that time."""
        expected = sorted(call_ids)

        def recorded() -> list[CallId]:
            return sorted(record.call_id for record in self.records() if record.call_id in expected)

        until(lambda: recorded() == expected, timeout_s, lambda: f"{recorded()}, not {expected}\n{self.tails()}")

    def assert_settled(self, call_ids: Iterable[CallId]) -> None:
        """Fails unless soon all of these calls are recorded, and nothing in the pool is left behind."""
        self.assert_recorded(call_ids)
        until(lambda: not self.left(), SETTLE_S, lambda: f"left: {self.left()}\n{self.tails()}")
        until(lambda: not self.sessions(running=True), SETTLE_S, lambda: f"sessions are left\n{self.tails()}")

    def operate(self, name: CommandName, *wanted: str, everything: bool = False) -> list[Outcome]:
        """Has workers and dispatchers, by id or pod, or all that are alive, carry out a command of an operator's."""

        async def run() -> list[Outcome]:
            async with connect(self.redis_server.url) as redis:
                return await act.run(redis, name, await targets.processes(redis, wanted, everything=everything))

        return asyncio.run(run())

    def hang_up(self, call_id: CallId) -> None:
        """Hangs up a call as an operator does."""

        async def run() -> list[Outcome]:
            async with connect(self.redis_server.url) as redis:
                return await act.run(redis, CommandName.HANGUP, await targets.calls(redis, [call_id]))

        [outcome] = asyncio.run(run())
        assert outcome.result is Result.DONE, f"{outcome}\n{self.tails()}"

    def endings(self, call_id: CallId) -> list[str]:
        """Returns why a call ended (CallEnd), by each record that it has."""
        return [record.reason for record in self.records(call_id)]

    def worker_of(self, call_id: str) -> Event:
        """Returns the `worker.ready` event of the worker that holds a call."""
        worker_id = cast(bytes, self._redis.hget(keys.call(CallId(call_id)), "worker_id")).decode()
        return next(worker for worker in self.workers() if worker["worker"] == worker_id)

    def wait_until_idle(self, timeout_s: float = SETTLE_S) -> None:
        """Returns once no call holds a lease and no session is open."""
        until(lambda: not self.leases(), timeout_s, lambda: f"still leased: {self.leases()}\n{self.tails()}")
        until(lambda: not self.sessions(running=True), timeout_s, lambda: f"sessions are left\n{self.tails()}")

    def records(self, call_id: CallId | None = None) -> list[CallRecord]:
        """Returns the call records so far, all or those of one call."""
        entries = cast(list[tuple[bytes, dict[bytes, bytes]]], self._redis.xrange(keys.records()))
        found = [CallRecord.unpack(fields[b"record"]) for _, fields in entries]
        return [record for record in found if call_id is None or record.call_id == call_id]

    def record(self, call_id: CallId, timeout_s: float = SETTLE_S) -> CallRecord:
        """Returns the one record of a call, waiting for it; two records are a failure."""
        until(lambda: bool(self.records(call_id)), timeout_s, lambda: f"no record of {call_id}\n{self.tails()}")
        self.wait_until_idle(timeout_s)
        records = self.records(call_id)
        assert len(records) == 1, f"{len(records)} records of one call: {records}"
        return records[0]

    def logs(self) -> list[str]:
        """Returns every line that any process has logged so far."""
        return [line for process in self._processes for line in process.lines()]

    def tails(self) -> str:
        """Returns the ends of all logs, for failure messages."""
        return "\n".join(process.tail() for process in self._processes)

    def end(self) -> None:
        """Ends every process, callers' side first; raises when one has to be killed or leaves a child behind."""
        failures = []
        for process in reversed(self._processes):
            try:
                process.end()
            except AssertionError as failure:
                failures.append(str(failure))
        children = [int(worker["pid"]) for worker in self.workers()]
        with suppress(AssertionError):  # those of a killed supervisor leave by themselves
            until(lambda: not any(map(alive, children)), LEAVE_S, "")
        for pid in filter(alive, children):
            failures.append(f"worker {pid} was left behind")
            os.kill(pid, signal.SIGKILL)
        for process in self._processes:
            process.close()
        if self.relay:
            self.relay.close()
        self._stop_redis()
        assert not failures, "\n".join(failures)


@contextmanager
def running_pool(
    directory: Path, layout: Layout = Layout(), /, *, workers: int = 2, simulator: Sequence[str] = (), **env: str
) -> Iterator[Pool]:
    """Runs a pool for the block; nothing of it is left afterwards.

    `workers` are those of each pod, `simulator` are options of its simulator, `env` is for all dispatchers and workers.
    """
    with RedisSet(directory) if layout.sentinels else nullcontext() as redis_set:
        yield from _run(Pool(directory, env, simulator, redis_set), layout, workers)


def _run(pool: Pool, layout: Layout, workers: int) -> Iterator[Pool]:
    try:
        if layout.relay:
            pool.start_relay()
        for supervisor in [pool.start_pod(workers) for _ in range(layout.pods)]:
            supervisor.wait_for("worker.ready", count=workers, timeout_s=START_S)
        for number in range(layout.dispatchers):
            pool.start_dispatcher()
            pool.wait_until_placeable(number)
        yield pool
        pool.wait_until_idle()
    finally:
        pool.end()


def _client(server: RedisServer, redis_set: RedisSet | None) -> "Redis":
    """Returns a client of the Redis there is, or of the set's master of the moment."""
    if redis_set is None:
        return Redis.from_url(server.url)
    sentinel = Sentinel(redis_set.sentinels)  # type: ignore[no-untyped-call]
    return cast("Redis", sentinel.master_for(MASTER_NAME))  # type: ignore[no-untyped-call]


def until(happened: Callable[[], bool], timeout_s: float, failure: str | Callable[[], str]) -> None:
    """Returns once `happened()`, asking again and again: for what neither a log event nor a stream announces."""
    deadline = time.monotonic() + timeout_s
    while not happened():
        if time.monotonic() > deadline:
            raise AssertionError(failure if isinstance(failure, str) else failure())
        time.sleep(0.05)
