"""The UDP driver on both event loops: datagrams, timers, ICMP errors, and a core that fails."""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from dispatcher.sip.actions import Action, Address, Order, Report, Send
from dispatcher.transport.driver import Driver

Main = Callable[[], Coroutine[Any, Any, None]]
Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine on one of the loops."""
    return asyncio.run if request.param == "asyncio" else uvloop.run


class Echo:
    """A core that sends everything back, after a failure if it is told so, and notes what it is told."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.events: asyncio.Queue[tuple[str, object]] = asyncio.Queue()
        self.alarm_at: float | None = None
        self.workers: set[Address] = set()
        self.peers: set[str] = {host}

    def receive(self, data: bytes, source: Address, now: float) -> list[Action]:
        self.events.put_nowait(("received", data))
        if data == b"fail":
            raise RuntimeError("on purpose")
        if data.startswith(b"to "):
            return [Send(b"hello", Address("udp", self.host, int(data[3:])))]
        return [Send(data, source), Report("echoed", {})]

    def unreachable(self, address: Address, now: float) -> list[Action]:
        self.events.put_nowait(("unreachable", address.port))
        return []

    def wake(self, now: float) -> list[Action]:
        self.alarm_at = None
        self.events.put_nowait(("woken", None))
        return []

    def wakes_at(self) -> float | None:
        return self.alarm_at

    def disconnected(self, connection: Address, now: float) -> list[Action]:
        self.events.put_nowait(("disconnected", connection.port))
        return []

    def is_worker(self, address: Address) -> bool:
        return address in self.workers

    def is_peer(self, host: str) -> bool:
        return host in self.peers


class Bench:
    """A driver with an echo core, and a peer."""

    def __init__(self, host: str = "127.0.0.1", shared_port: int | None = None) -> None:
        self.core = Echo(host)
        self.handled: list[Order] = []
        self.driver = Driver(self.handled.append)
        self.port = self.driver.listen(host, 0)
        self.shared_port = 0 if shared_port is None else self.driver.share(host, shared_port)
        self.driver.serve(self.core)
        self.peer = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.peer.connect((host, self.port))
        self.peer.settimeout(20)

    async def __aenter__(self) -> "Bench":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.driver.close()
        self.peer.close()

    async def event(self) -> tuple[str, object]:
        """Returns what the core was told next."""
        return await asyncio.wait_for(self.core.events.get(), 20)


def test_datagrams_come_in_and_go_out(run: Run) -> None:
    async def main() -> None:
        async with Bench() as bench:
            bench.peer.send(b"ping")
            assert await bench.event() == ("received", b"ping")
            assert bench.peer.recv(100) == b"ping"
            assert bench.handled == [Report("echoed", {})]

    run(main())


def test_a_datagram_that_makes_the_core_fail_costs_only_itself(run: Run) -> None:
    async def main() -> None:
        async with Bench() as bench:
            for data in (b"fail", b"fail", b"fine"):
                bench.peer.send(data)
            for _ in range(3):
                await bench.event()
            assert bench.peer.recv(100) == b"fine"

    run(main())


def test_a_destination_where_nobody_listens_is_reported_each_time(run: Run) -> None:
    async def main() -> None:
        async with Bench() as bench:
            dead = _free_port()
            for _ in range(3):
                bench.peer.send(b"to %d" % dead)
                assert (await bench.event())[0] == "received"
                assert await bench.event() == ("unreachable", dead)
            bench.peer.send(b"still there")
            assert await bench.event() == ("received", b"still there")
            assert bench.peer.recv(100) == b"still there"

    run(main())


def test_ipv6_works_alike(run: Run) -> None:
    try:
        dead = _free_port("::1")
    except OSError as error:
        pytest.skip(f"this host has no IPv6 loopback address: {error}")

    async def main() -> None:
        async with Bench("::1") as bench:
            bench.peer.send(b"ping")
            assert await bench.event() == ("received", b"ping")
            assert bench.peer.recv(100) == b"ping"
            bench.peer.send(b"to %d" % dead)
            await bench.event()
            assert await bench.event() == ("unreachable", dead)

    run(main())


def test_an_address_that_cannot_be_sent_to_is_reported_too(run: Run) -> None:
    async def main() -> None:
        async with Bench() as bench:
            bench.peer.send(b"to 0")
            assert (await bench.event())[0] == "received"
            assert await bench.event() == ("unreachable", 0)

    run(main())


def test_an_earlier_error_does_not_swallow_the_next_datagram(run: Run) -> None:
    async def main() -> None:
        async with Bench() as bench:
            dead = _free_port()
            for _ in range(20):
                bench.peer.send(b"to %d" % dead)
                bench.peer.send(b"echo")
            echoes = 0
            while echoes < 20:
                event = await bench.event()
                if event == ("received", b"echo"):
                    assert bench.peer.recv(100) == b"echo"
                    echoes += 1

    run(main())


def test_the_core_is_woken_when_it_asks_even_if_that_is_past(run: Run) -> None:
    async def main() -> None:
        async with Bench() as bench:
            now = asyncio.get_running_loop().time()
            for at in (now - 5, now + 0.01, now - 1, now):
                bench.core.alarm_at = at
                bench.peer.send(b"x")
                assert (await bench.event())[0] == "received"
                bench.peer.send(b"x")
                events = {(await bench.event())[0], (await bench.event())[0]}
                assert events == {"received", "woken"}

    run(main())


def test_an_earlier_alarm_replaces_a_later_one(run: Run) -> None:
    async def main() -> None:
        async with Bench() as bench:
            now = asyncio.get_running_loop().time()
            for at in (now + 3600, now):
                bench.core.alarm_at = at
                bench.peer.send(b"x")
                await bench.event()
            assert (await bench.event())[0] == "woken"

    run(main())


def test_a_burst_beyond_one_batch_is_read_to_the_end(run: Run) -> None:
    async def main() -> None:
        async with Bench() as bench:
            for number in range(200):
                bench.peer.send(b"%d" % number)
            assert [(await bench.event())[1] for _ in range(200)] == [b"%d" % number for number in range(200)]

    run(main())


def test_workers_are_sent_to_from_the_own_socket_and_others_from_the_shared_one(run: Run) -> None:
    async def main() -> None:
        async with Bench(shared_port=0) as bench:
            with _listener() as worker, _listener() as caller:
                bench.core.workers.add(Address("udp", "127.0.0.1", worker.getsockname()[1]))
                for other in (worker, caller):
                    bench.peer.send(b"to %d" % other.getsockname()[1])
                    await bench.event()
                assert worker.recvfrom(100) == (b"hello", ("127.0.0.1", bench.port))
                assert caller.recvfrom(100) == (b"hello", ("127.0.0.1", bench.shared_port))

    run(main())


def test_what_is_answered_at_once_leaves_from_the_socket_it_came_to(run: Run) -> None:
    async def main() -> None:
        async with Bench(shared_port=0) as bench:
            with _listener() as caller:
                for port in (bench.port, bench.shared_port):
                    caller.sendto(b"ping", ("127.0.0.1", port))
                    await bench.event()
                    assert caller.recvfrom(100) == (b"ping", ("127.0.0.1", port))

    run(main())


def test_a_shared_port_is_served_by_those_who_are_left(run: Run) -> None:
    async def main() -> None:
        async with Bench(shared_port=0) as first:
            with _listener() as caller:
                async with Bench(shared_port=first.shared_port):
                    pass
                for number in range(20):
                    caller.sendto(b"%d" % number, ("127.0.0.1", first.shared_port))
                    assert await first.event() == ("received", b"%d" % number)

    run(main())


def test_datagrams_to_a_shared_port_go_to_one_of_those_who_share_it(run: Run) -> None:
    async def main() -> None:
        async with Bench(shared_port=0) as first, Bench(shared_port=first.shared_port) as second:
            callers = [_listener() for _ in range(30)]
            for caller in callers:
                caller.sendto(b"ping", ("127.0.0.1", first.shared_port))
            for caller in callers:
                assert await asyncio.to_thread(caller.recv, 100) == b"ping"
                caller.close()
            assert first.core.events.qsize() + second.core.events.qsize() == len(callers)
            assert first.core.events.qsize() and second.core.events.qsize()

    run(main())


def test_a_port_that_somebody_does_not_share_is_an_error(run: Run) -> None:
    async def main() -> None:
        async with Bench() as bench:
            with pytest.raises(OSError, match="in use"):
                Driver(bench.handled.append).share("127.0.0.1", bench.port)

    run(main())


def test_a_taken_port_is_an_error(run: Run) -> None:
    async def main() -> None:
        async with Bench() as bench:
            with pytest.raises(OSError, match="in use"):
                Driver(bench.handled.append).listen("127.0.0.1", bench.peer.getpeername()[1])

    run(main())


def _listener() -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("127.0.0.1", 0))
    listener.settimeout(20)
    return listener


def _free_port(host: str = "127.0.0.1") -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
