"""The load's caller and several dispatchers: some dead, some silent, some full, and any of them behind a balancer.

Between caller and answerer stand dispatchers of a few lines, which stay in the route of each dialog.
"""

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable

import pytest

from bench.load.sip import AnsweredCall, Balancer, ProxySet, Refused, SipAnswerer, SipCaller, offer
from bench.load.wire import Message

HOST = "127.0.0.1"
SDP = offer(HOST, 40_000)
SILENCE_S = 0.2
PATIENCE_S = 10.0


class Door:
    """A dispatcher that carries everything between callers and one answerer; `mute` hears and says nothing."""

    def __init__(self, answerer: tuple[str, int], *, mute: bool = False) -> None:
        self.mute = mute
        self.seen: list[str] = []
        """Methods of the requests of callers, in order."""
        self.news: asyncio.Queue[str] = asyncio.Queue()
        """The same, to be awaited."""
        self.dies_after = b"-"
        """Passes on what begins with this, and dies."""
        self.answer: Callable[[Message], str | None] = lambda request: None
        """May refuse a request with a status line of its own."""
        self._answerer = answerer
        self._caller = answerer
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind((HOST, 0))
        self.address: tuple[str, int] = self._socket.getsockname()
        asyncio.get_running_loop().add_reader(self._socket, self._readable)

    async def sees(self, method: str) -> None:
        """Returns once such a request has come, of those that nobody has awaited yet."""
        async with asyncio.timeout(PATIENCE_S):
            while await self.news.get() != method:
                pass

    def close(self) -> None:
        """Dies: nobody listens at its address any more."""
        if self._socket.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()

    def _readable(self) -> None:
        data, source = self._socket.recvfrom(65536)
        if source == self._answerer:
            if not self.mute:
                self._socket.sendto(data, self._caller)
            if data.startswith(self.dies_after):
                self.close()
            return
        self._caller = source
        request = Message(data, source)
        if request.status:
            self._socket.sendto(data, self._answerer)
            return
        self.seen.append(request.method)
        self.news.put_nowait(request.method)
        if self.mute:
            return
        if status := self.answer(request):
            head, _, _ = data.partition(b"\r\nContact:")
            _, _, headers = head.partition(b"\r\n")
            self._socket.sendto(b"SIP/2.0 %b\r\n%b\r\n\r\n" % (status.encode(), headers), source)
            return
        if request.method == "INVITE":
            line, _, rest = data.partition(b"\r\n")
            data = b"%b\r\nRecord-Route: <sip:%b:%d;lr>\r\n%b" % (line, HOST.encode(), self.address[1], rest)
        self._socket.sendto(data, self._answerer)


class Scene:
    """Three dispatchers before one answerer."""

    def __init__(self) -> None:
        self.status: int | None = 200
        self.invited: asyncio.Queue[AnsweredCall] = asyncio.Queue()
        self.hung_up = asyncio.Event()
        self.answerer = SipAnswerer(HOST, SDP, self._on_invite, lambda call: self.hung_up.set())
        self.doors = [Door((HOST, self.answerer.port)) for _ in range(3)]
        self._callers: list[SipCaller] = []

    def caller(self, dispatchers: ProxySet | Balancer | None = None) -> SipCaller:
        """Returns a caller; by default the three are its proxy set."""
        default = ProxySet([door.address for door in self.doors], SILENCE_S)
        self._callers.append(SipCaller(HOST, dispatchers or default))
        return self._callers[-1]

    def close(self) -> None:
        for end in (*self._callers, self.answerer):
            end.close()
        for door in self.doors:
            door.close()

    def _on_invite(self, call: AnsweredCall, received_ns: int) -> int | None:
        self.invited.put_nowait(call)
        return self.status


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    """All of it, closed afterwards."""
    scene = Scene()
    yield scene
    scene.close()


async def test_a_dead_dispatcher_is_followed_by_the_next_at_the_icmp_error(scene: Scene) -> None:
    first, second, _ = scene.doors
    first.close()
    caller = scene.caller(ProxySet([door.address for door in scene.doors]))  # silence would be 32 s
    dialog = await caller.invite(*first.address, SDP)
    assert dialog.tried == [first.address, second.address]
    assert dialog.retransmissions == 0
    assert await dialog.bye() == 200
    assert second.seen == ["INVITE", "ACK", "BYE"]


async def test_a_silent_dispatcher_is_followed_by_the_next(scene: Scene) -> None:
    _, silent, last = scene.doors
    silent.mute = True
    dialog = await scene.caller().invite(*silent.address, SDP)
    assert dialog.tried == [silent.address, last.address]
    assert await dialog.bye() == 200


async def test_a_dispatcher_that_answers_503_is_followed_by_the_next(scene: Scene) -> None:
    first, second, _ = scene.doors
    first.answer = lambda request: "503 Full" if request.method == "INVITE" else None
    dialog = await scene.caller().invite(*first.address, SDP)
    assert first.seen == ["INVITE", "ACK"]
    assert await dialog.bye() == 200
    assert second.seen == ["INVITE", "ACK", "BYE"]


async def test_three_that_answer_503_make_a_refusal_and_another_status_does_at_once(scene: Scene) -> None:
    for door in scene.doors:
        door.answer = lambda request: "503 Full" if request.method == "INVITE" else None
    with pytest.raises(Refused) as refused:
        await scene.caller().invite(*scene.doors[0].address, SDP)
    assert (refused.value.status, len(refused.value.dialog.tried)) == (503, 3)
    scene.doors[0].answer = lambda request: "403 No" if request.method == "INVITE" else None
    with pytest.raises(Refused) as refused:
        await scene.caller().invite(*scene.doors[0].address, SDP)
    assert (refused.value.status, len(refused.value.dialog.tried)) == (403, 1)


async def test_three_silent_ones_are_a_failure_with_408(scene: Scene) -> None:
    for door in scene.doors:
        door.mute = True
    with pytest.raises(Refused, match="silent") as refused:
        await scene.caller().invite(*scene.doors[0].address, SDP)
    assert (refused.value.status, refused.value.dialog.status) == (408, 0)
    assert [door.seen for door in scene.doors] == [["INVITE"]] * 3


@pytest.mark.parametrize("dead", [True, False])
async def test_a_bye_finds_another_dispatcher_when_its_own_is_gone(scene: Scene, dead: bool) -> None:
    first, second, _ = scene.doors
    dialog = await scene.caller().invite(*first.address, SDP)
    if dead:
        first.close()
    else:
        first.mute = True
    assert await dialog.bye() == 200
    assert second.seen == ["BYE"]


async def test_an_ack_finds_another_dispatcher_when_its_own_is_dead(scene: Scene) -> None:
    first, second, _ = scene.doors
    first.dies_after = b"SIP/2.0 200"
    dialog = await scene.caller().invite(*first.address, SDP)
    await second.sees("ACK")
    assert await dialog.bye() == 200
    assert second.seen == ["ACK", "BYE"]


async def test_a_call_given_up_while_it_rings_is_cancelled_and_ends_with_487(scene: Scene) -> None:
    scene.status = None
    first = scene.doors[0]
    dialog = scene.caller().dialog(*first.address)
    with pytest.raises(Refused):
        await dialog.invite(SDP, timeout_s=0.05)
    await first.sees("ACK")
    assert dialog.decided.is_set() and scene.hung_up.is_set()
    assert dialog.status == 487
    assert first.seen == ["INVITE", "CANCEL", "ACK"]


async def test_a_second_answer_to_one_invite_is_acknowledged_and_hung_up(scene: Scene) -> None:
    caller = scene.caller()
    dialog = await caller.invite(*scene.doors[0].address, SDP)
    call = scene.invited.get_nowait()
    other = Door((HOST, scene.answerer.port), mute=True)
    contact = f"Contact: <sip:bot@{HOST}:{other.address[1]}>"
    for _ in range(2):
        scene.answerer.send(scene.answerer.response(call.invite, 200, "other", [contact], SDP), (HOST, caller.port))
    for method in ("ACK", "BYE", "ACK"):
        await other.sees(method)
    assert dialog.forks == 1
    assert not dialog.ended.is_set()
    assert await dialog.bye() == 200
    other.close()


async def test_a_bye_of_the_peer_is_answered_each_time_and_told_once(scene: Scene) -> None:
    dialog = await scene.caller().invite(*scene.doors[0].address, SDP)
    call = scene.invited.get_nowait()
    assert await scene.answerer.bye(call) == 200
    assert await scene.answerer.bye(call) == 200
    assert dialog.end_reason == "peer"
    assert await dialog.bye() == 481


async def test_a_bye_for_a_dialog_that_is_not_ours_gets_481(scene: Scene) -> None:
    dialog = await scene.caller().invite(*scene.doors[0].address, SDP)
    call = scene.invited.get_nowait()
    call.tag = "other"
    assert await scene.answerer.bye(call) == 481
    assert not dialog.ended.is_set()


async def test_a_balancer_sends_each_datagram_to_any_of_them(scene: Scene) -> None:
    addresses = [door.address for door in scene.doors]
    caller = scene.caller(Balancer(addresses, random.Random(2)))
    for _ in range(10):
        dialog = await caller.invite(*addresses[0], SDP)
        assert await dialog.bye() == 200
    took = [door.seen for door in scene.doors]
    assert sum(map(len, took)) == 30
    assert all({"INVITE", "ACK", "BYE"} == set(seen) for seen in took)
