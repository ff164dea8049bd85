"""Callers as RFC 3261 and RFC 3263 want them: they send again, try the next dispatcher, and note what they hear when.

They are the benchmarks' (`bench/load/sip.py`), on an event loop and a thread of their own: a test asks them, and waits
for processes meanwhile. They say nothing: what is heard is the pool's RTP, by its times only.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Coroutine, Iterator
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from bench.load.dialog import Dialog, Refused
from bench.load.sip import Balancer, ProxySet, SipCaller, offer
from shared.ids import CallId, call_id_for
from tests.acceptance.agents import agent_file
from tests.acceptance.pool import Pool, until

T = TypeVar("T")

PATIENCE_S = 30.0
"""Longest wait for what is bound to happen much sooner: the machine may be busy."""

CLOSE_S = 3.0
"""Longest wait for the answer to the BYE of a call that its test has left up."""

RINGING_MAX_S = 60.0
"""How long a caller lets it ring."""

STALL_S = 6.0
"""How long a worker waits for the answer to a handshake before it tries another one."""

SILENCE_S = 2.0
"""After so long a dispatcher that says nothing is followed by the next one, as SBCs are set up to do."""

PAUSE_MAX_S = 1.0
"""No packet for so long is a fault that the caller hears. A busy machine makes shorter pauses."""


def patient(directory: Path) -> str:
    """Returns the path of an agent file (AGENTS_FILE) whose one agent talks to callers who never say anything."""
    return str(
        agent_file(directory, {"patient": {"greeting": "Hello there.", "silence": {"after_s": 0}}}, default="patient")
    )


class Caller:
    """One call, from its INVITE on. Every method that waits fails after `timeout_s`."""

    def __init__(self, pool: Pool, sip: SipCaller, dispatcher: int, do: Callable[..., Any]) -> None:
        self._pool = pool
        self._do = do
        self._dialog: Dialog = sip.dialog(*pool.addresses[dispatcher])
        self._packets_s: list[float] = []
        self._ear: asyncio.DatagramTransport | None = None
        self._inviting: asyncio.Task[None] | None = None
        self._host = sip.host

    async def begin(self) -> None:
        """Sends the INVITE."""
        loop = asyncio.get_running_loop()
        self._ear, _ = await loop.create_datagram_endpoint(lambda: _Ear(self._packets_s), local_addr=(self._host, 0))
        sdp = offer(self._host, self._ear.get_extra_info("sockname")[1])
        self._inviting = asyncio.create_task(self._invite(sdp), name="invite")

    async def close(self) -> None:
        """Ends the call if it goes on, so that the next test finds a pool at rest."""
        assert self._inviting and self._ear
        self._inviting.cancel()
        await asyncio.gather(self._inviting, return_exceptions=True)
        await self._dialog.bye(CLOSE_S)
        self._ear.close()

    @property
    def call_id(self) -> CallId:
        """The pool's id of the call."""
        return call_id_for(self._dialog.call_id, self._dialog.from_tag)

    @property
    def status(self) -> int:
        """Of the final response, 0 before."""
        return self._dialog.status

    @property
    def forks(self) -> int:
        """How many more dialogs the INVITE has made than one."""
        return self._dialog.forks

    @property
    def tried(self) -> int:
        """How many dispatchers were asked."""
        return len(self._dialog.tried)

    @property
    def end_reason(self) -> str:
        """Who hung up: `caller`, or `peer` with the Reason header of its BYE; empty for a call that goes on."""
        return self._dialog.end_reason

    def rings(self, timeout_s: float = PATIENCE_S) -> None:
        """Returns once it rings."""
        until(lambda: "ringing" in self._dialog.marks_ns, timeout_s, lambda: f"it does not ring\n{self._pool.tails()}")

    def final(self, timeout_s: float = PATIENCE_S) -> int:
        """Returns the status of the final response, waiting for it."""
        self._await(self._dialog.decided, timeout_s, "no final response")
        return self.status

    def answered(self, timeout_s: float = PATIENCE_S) -> Self:
        """Returns once the call is answered."""
        status = self.final(timeout_s)
        assert status == 200, f"refused with {status}\n{self._pool.tails()}"
        return self

    def hung_up_on(self, timeout_s: float = PATIENCE_S) -> float:
        """Returns when the pool's BYE came (Unix time in s), waiting for it."""
        self._await(self._dialog.ended, timeout_s, "no BYE")
        assert self.end_reason.startswith("peer"), self.end_reason
        return self._dialog.marks_ns["bye"] / 1e9

    def hang_up(self) -> int:
        """Ends the call and returns what the BYE was answered with, 408 for nothing."""
        status: int = self._do(self._dialog.bye())
        return status

    def give_up(self) -> None:
        """Sends CANCEL; `final` says what came of it."""

        async def cancel() -> None:
            assert self._inviting
            self._inviting.cancel()

        self._do(cancel())

    def end(self) -> None:
        """Hangs up, or gives up who still hears ringing."""
        if self.status == 200:
            assert self.hang_up() == 200
        else:
            self.give_up()
            assert self.final() == 487

    def hears(self, timeout_s: float = PATIENCE_S) -> None:
        """Returns once there is RTP that was sent after this was asked."""
        since = time.time()
        until(lambda: self._heard_after(since), timeout_s, lambda: f"hears nothing\n{self._pool.tails()}")

    def hears_for(self, seconds: float) -> None:
        """Returns once there has been so much RTP from now on."""
        until_s = time.time() + seconds
        until(lambda: self._heard_after(until_s), seconds + PATIENCE_S, lambda: f"hears nothing\n{self._pool.tails()}")

    def longest_pause_s(self, since: float) -> float:
        """Returns for how long there was no RTP at most, from that moment (Unix time) until now."""
        times = [since, *(at for at in self._packets_s if at >= since), time.time()]
        return max(after - before for before, after in pairwise(times))

    def seconds_to(self, mark: str, since: float) -> float:
        """Returns how long after that moment (Unix time) it first rang (`ringing`), was `answered` ..."""
        return self._dialog.marks_ns[mark] / 1e9 - since

    def _heard_after(self, since: float) -> bool:
        return bool(self._packets_s) and self._packets_s[-1] > since

    async def _invite(self, sdp: str) -> None:
        try:
            await self._dialog.invite(sdp, RINGING_MAX_S)
        except Refused:
            pass  # `status` says so

    def _await(self, event: asyncio.Event, timeout_s: float, failure: str) -> None:
        async def wait() -> bool:
            try:
                async with asyncio.timeout(timeout_s):
                    await event.wait()
            except TimeoutError:
                return False
            return True

        assert self._do(wait()), f"{failure}\n{self._pool.tails()}"


class Callers:
    """Callers of one pool, as a context manager; those still in a call at its end hang up."""

    def __init__(self, pool: Pool, host: str = "127.0.0.1", dispatchers: ProxySet | Balancer | None = None) -> None:
        """By default the dispatchers there are now are a proxy set."""
        self._pool = pool
        self._all: list[Caller] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="callers")
        self._thread.start()
        self._sip = self._do(self._open(host, dispatchers or ProxySet(pool.addresses, SILENCE_S)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._do(self._close())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def call(self, dispatcher: int = 0) -> Caller:
        """Calls through this dispatcher first; the INVITE is on its way."""
        caller = Caller(self._pool, self._sip, dispatcher, self._do)
        self._do(caller.begin())
        self._all.append(caller)
        return caller

    def one_on_each(self, call: Callable[[], Caller]) -> dict[str, Caller]:
        """Makes calls until each worker there is has one, by its id, and ends those that are too many."""
        found: dict[str, Caller] = {}
        while len(found) < len(self._pool.live_workers()):
            caller = call()
            worker = str(self._pool.worker_of(caller.call_id)["worker"])
            if found.setdefault(worker, caller) is not caller:
                caller.end()
        return found

    def ring(self, dispatcher: int = 0) -> Caller:
        """Calls, and returns once it rings: for STALL_S, since Voice Live does not answer the first handshake."""
        self._pool.order_faults(next_handshake={"stall": True})
        caller = self.call(dispatcher)
        caller.rings()
        return caller

    def __iter__(self) -> Iterator[Caller]:
        return iter(self._all)

    def hang_up(self, but: Collection[Caller] = ()) -> None:
        """Has all who are in a call hang up."""
        for caller in self._all:
            if caller not in but and caller.status == 200 and not caller.end_reason:
                assert caller.hang_up() == 200, self._pool.tails()

    @property
    def call_ids(self) -> list[CallId]:
        """Of all calls so far."""
        return [caller.call_id for caller in self._all]

    async def _open(self, host: str, dispatchers: ProxySet | Balancer) -> SipCaller:
        return SipCaller(host, dispatchers)

    async def _close(self) -> None:
        await asyncio.gather(*(caller.close() for caller in self._all))
        self._sip.close()

    def _do(self, what: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result()


class _Ear(asyncio.DatagramProtocol):
    """Notes when RTP comes, Unix time in s."""

    def __init__(self, packets_s: list[float]) -> None:
        self._packets_s = packets_s

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        self._packets_s.append(time.time())
