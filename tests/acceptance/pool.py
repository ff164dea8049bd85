"""A whole pool for tests: redis-server, simulator, dispatcher, supervisor and workers, all of them real processes.

It starts, observes and ends them. What a call has to look like is the tests' business.
"""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from redis import Redis

from admin.ports import free_udp_range
from shared.control import keys
from shared.ids import CallId, WorkerId
from shared.messages import CallRecord
from tests.acceptance.process import START_S, Event, PoolProcess
from tests.acceptance.voice_live import VoiceLive
from tests.redis_server import RedisServer

LEASE_SECRET = "acceptance-tests-only"

SETTLE_S = 15.0
"""Longest wait for what follows a call: the lease to be released, the record to be written."""


class Pool:
    """A running pool; `sip` is what a caller dials."""

    def __init__(self, directory: Path, env: dict[str, str], workers: int, simulator: Sequence[str] = ()) -> None:
        self.directory = directory
        self._expected_workers = workers
        self._simulator_options = simulator
        self._processes: list[PoolProcess] = []
        self.redis_server = RedisServer(directory)
        self._redis = Redis.from_url(self.redis_server.url)
        try:
            self._start(env)
        except BaseException:
            self.end()
            raise

    def _start(self, env: dict[str, str]) -> None:
        self.voice_live = VoiceLive("simulator", self._simulator_options, self.directory)
        self.simulator = self.voice_live.process
        self._processes.append(self.simulator)
        self.supervisor = self._spawn("worker", ["worker"], self.worker_settings() | env)
        self.dispatcher = self._spawn("dispatcher", ["dispatcher"], self._settings() | {"SIP_PORT": "0"} | env)
        listening = self.dispatcher.wait_for("dispatcher.listening", timeout_s=START_S)[0]
        self.sip_host, self.sip_port = str(listening["host"]), int(listening["port"])
        self.supervisor.wait_for("worker.ready", count=self._expected_workers, timeout_s=START_S)

    def worker_settings(self) -> dict[str, str]:
        """Returns the environment that this pool's workers are started with, as far as all pools have it in common."""
        return self._settings() | _worker_env(self.voice_live.url)

    def _settings(self) -> dict[str, str]:
        return {
            "REDIS_URL": self.redis_server.url,
            "LEASE_SECRET": LEASE_SECRET,
            "SIP_LOCAL_ADDRESS": "127.0.0.1",
            "LOG_LEVEL": "INFO",
        }

    def _spawn(self, name: str, arguments: list[str], env: dict[str, str]) -> PoolProcess:
        process = PoolProcess(name, arguments, env, self.directory)
        self._processes.append(process)
        return process

    @property
    def sip(self) -> str:
        """What a caller dials."""
        return self.sip_of("bot")

    def sip_of(self, called: str) -> str:
        """Returns what a caller dials for this number."""
        return f"sip:{called}@{self.sip_host}:{self.sip_port}"

    def workers(self) -> list[Event]:
        """Returns the `worker.ready` events so far: one for each worker that was ever started, in order."""
        return self.supervisor.events("worker.ready")

    def live_workers(self) -> list[Event]:
        """Returns the workers whose processes are there now."""
        return [worker for worker in self.workers() if alive(int(worker["pid"]))]

    def wait_until_placeable(self) -> None:
        """Returns once the dispatcher's own view has room for a call: OPTIONS is answered 200."""
        from tests.acceptance.raw_sip import RawCaller

        with RawCaller(self.sip_host, self.sip_port) as caller:
            until(lambda: caller.options() == 200, START_S, "OPTIONS is not answered 200")

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
        children = [int(worker["pid"]) for worker in self.workers()] if hasattr(self, "supervisor") else []
        failures = []
        for process in reversed(self._processes):
            try:
                process.end()
            except AssertionError as failure:
                failures.append(str(failure))
        for pid in filter(alive, children):
            failures.append(f"worker {pid} was left behind")
            os.kill(pid, signal.SIGKILL)
        for process in self._processes:
            process.close()
        self._redis.close()
        self.redis_server.stop()
        assert not failures, "\n".join(failures)


def _worker_env(simulator_url: str) -> dict[str, str]:
    return {
        "AZURE_VOICELIVE_ENDPOINT": simulator_url,
        "AZURE_VOICELIVE_API_KEY": "any",
        "VOICE_LIVE_PROACTIVE_GREETING": "Hello there.",
        "WORKER_PROCESSES": "2",
        "WORKER_CAPACITY": "20",
        "MEDIA_PORT": str(free_udp_range("127.0.0.1", 240)),
        "MEDIA_PORT_COUNT": "240",
        "POD_NAME": "pod",
    }


@contextmanager
def running_pool(directory: Path, *, workers: int = 2, simulator: Sequence[str] = (), **env: str) -> Iterator[Pool]:
    """Runs a pool for the block; nothing of it is left afterwards. `simulator` are options of its simulator."""
    pool = Pool(directory, {"WORKER_PROCESSES": str(workers), **env}, workers, simulator)
    try:
        pool.wait_until_placeable()
        yield pool
        pool.wait_until_idle()
    finally:
        pool.end()


def until(happened: Callable[[], bool], timeout_s: float, failure: str | Callable[[], str]) -> None:
    """Returns once `happened()`, asking again and again: for what neither a log event nor a stream announces."""
    deadline = time.monotonic() + timeout_s
    while not happened():
        if time.monotonic() > deadline:
            raise AssertionError(failure if isinstance(failure, str) else failure())
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """Returns whether a process is there; one that has ended and was not waited for is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
