"""The load's SIP caller and answerer on loopback, with a relay between them that loses what it is told to lose."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator

import pytest

from bench.load.sip import AnsweredCall, Refused, SipAnswerer, SipCaller, offer, parse_answer
from shared.ids import call_id_for

HOST = "127.0.0.1"
OFFER = offer(HOST, 40_000)
ANSWER = offer(HOST, 40_002, srtp_key=bytes(range(30)))


class Relay:
    """A stateless hop that stays in the route of each dialog, and loses the first message that starts with `lost`."""

    def __init__(self, answerer: tuple[str, int], lost: bytes) -> None:
        self._answerer = answerer
        self._lost = lost
        self._caller = answerer
        self.seen: list[bytes] = []
        """First word or status of everything, in order."""
        self.again = asyncio.Event()
        """Set when what was lost comes a second time."""

        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind((HOST, 0))
        self.port = int(self._socket.getsockname()[1])
        asyncio.get_running_loop().add_reader(self._socket, self._readable)

    def close(self) -> None:
        """Ends it."""
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _readable(self) -> None:
        data, source = self._socket.recvfrom(65536)
        start = data.removeprefix(b"SIP/2.0 ").split(b" ")[0]
        self.seen.append(start)
        if start == self._lost:
            if self.seen.count(start) == 1:
                return
            self.again.set()
        if source != self._answerer:
            self._caller = source
        if start == b"INVITE":
            line, _, rest = data.partition(b"\r\n")
            data = b"%b\r\nRecord-Route: <sip:token@%b:%d;lr>\r\n%b" % (line, HOST.encode(), self.port, rest)
        self._socket.sendto(data, self._caller if source == self._answerer else self._answerer)


class Sides:
    """A caller, an answerer, and a way to put a relay between them."""

    def __init__(self, caller: SipCaller) -> None:
        self.caller = caller
        self.status: int | None = 200
        self.invited: asyncio.Queue[tuple[AnsweredCall, int]] = asyncio.Queue()
        self.hung_up = asyncio.Event()
        self._relays: list[Relay] = []
        self.answerer = SipAnswerer(HOST, ANSWER, self._on_invite, lambda call: self.hung_up.set())

    def _on_invite(self, call: AnsweredCall, received_ns: int) -> int | None:
        self.invited.put_nowait((call, received_ns))
        return self.status

    def relay(self, lost: bytes = b"") -> Relay:
        self._relays.append(Relay((HOST, self.answerer.port), lost))
        return self._relays[-1]

    def close(self) -> None:
        self.answerer.close()
        for relay in self._relays:
            relay.close()


@pytest.fixture
async def sides() -> AsyncIterator[Sides]:
    """Both sides, closed afterwards."""
    async with SipCaller.open(HOST) as caller:
        sides = Sides(caller)
        yield sides
        sides.close()


async def test_a_call_is_answered_and_hung_up_by_the_caller(sides: Sides) -> None:
    dialog = await sides.caller.invite(HOST, sides.answerer.port, OFFER)
    call, received_ns = sides.invited.get_nowait()
    assert (dialog.status, dialog.body, dialog.retransmissions) == (200, ANSWER, 0)
    assert parse_answer(dialog.body).srtp_key == bytes(range(30))
    assert call_id_for(dialog.call_id, dialog.from_tag) == call_id_for(call.invite.call_id, call.invite.from_tag)
    assert call.invite.body == OFFER
    marks = dialog.marks_ns
    assert marks["invite"] <= received_ns <= marks["ringing"] <= marks["answered"]
    assert await dialog.bye() == 200
    assert sides.hung_up.is_set() and dialog.ended.is_set() and dialog.end_reason == "caller"
    assert await dialog.bye() == 481


async def test_the_answerer_hangs_up(sides: Sides) -> None:
    relay = sides.relay()
    dialog = await sides.caller.invite(HOST, relay.port, OFFER)
    call, _ = sides.invited.get_nowait()
    assert await sides.answerer.bye(call) == 200
    await dialog.ended.wait()
    assert dialog.end_reason == "peer"
    assert b"BYE" in relay.seen  # it took the route of the dialog


async def test_the_dialog_follows_its_record_route(sides: Sides) -> None:
    relay = sides.relay()
    dialog = await sides.caller.invite(HOST, relay.port, OFFER)
    assert await dialog.bye() == 200
    assert relay.seen == [b"INVITE", b"180", b"200", b"ACK", b"BYE", b"200"]


@pytest.mark.parametrize("lost", [b"INVITE", b"200", b"ACK"])
async def test_what_is_lost_comes_again(sides: Sides, lost: bytes) -> None:
    relay = sides.relay(lost)
    dialog = await sides.caller.invite(HOST, relay.port, OFFER)
    await relay.again.wait()
    assert dialog.retransmissions == (1 if lost == b"INVITE" else 0)
    assert await dialog.bye() == 200
    assert sides.invited.qsize() == 1


async def test_a_lost_bye_comes_again(sides: Sides) -> None:
    relay = sides.relay(b"BYE")
    dialog = await sides.caller.invite(HOST, relay.port, OFFER)
    assert await dialog.bye() == 200
    assert relay.seen.count(b"BYE") == 2


async def test_a_refusal_is_told_and_acknowledged(sides: Sides) -> None:
    sides.status = 503
    relay = sides.relay(b"ACK")  # lost, so that the refusal comes twice
    with pytest.raises(Refused) as refused:
        await sides.caller.invite(HOST, relay.port, OFFER)
    assert (refused.value.status, refused.value.dialog.status) == (503, 503)
    await relay.again.wait()


async def test_an_answer_may_come_later(sides: Sides) -> None:
    sides.status = None
    calling = asyncio.create_task(sides.caller.invite(HOST, sides.answerer.port, OFFER))
    call, _ = await sides.invited.get()
    sides.answerer.answer(call, 200)
    assert await (await calling).bye() == 200


async def test_a_call_given_up_is_hung_up_when_it_is_answered_all_the_same(sides: Sides) -> None:
    sides.status = None
    with pytest.raises(Refused) as refused:
        await sides.caller.invite(HOST, sides.answerer.port, OFFER, timeout_s=0.05)
    assert refused.value.status == 408
    call, _ = sides.invited.get_nowait()
    sides.answerer.answer(call, 200)
    await sides.hung_up.wait()


async def test_options_are_asked_and_answered(sides: Sides) -> None:
    assert await sides.caller.options(HOST, sides.answerer.port) == 200
    assert await sides.caller.options(HOST, sides.caller.port) == 200


async def test_silence_is_no_status(sides: Sides) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind((HOST, 0))
        assert await sides.caller.options(HOST, silent.getsockname()[1], timeout_s=0.01) == 0


async def test_an_answer_in_the_moment_of_giving_up_counts() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as peer:
        peer.bind((HOST, 0))
        address = peer.getsockname()
        async with SipCaller.open(HOST) as caller:
            dialog = caller.dialog(*address)
            calling = asyncio.create_task(dialog.invite(OFFER, timeout_s=0.05))
            data, source = await caller.loop.sock_recvfrom(peer, 65536)
            _, *lines = data.decode().partition("\r\n\r\n")[0].split("\r\n")
            kept = [
                f"{line};tag=theirs" if line.startswith("To:") else line
                for line in lines
                if not line.startswith(("Contact", "Content"))
            ]
            contact = f"Contact: <sip:{address[0]}:{address[1]}>"
            answer = "\r\n".join(["SIP/2.0 200 OK", *kept, contact, "", ""])
            peer.sendto(answer.encode(), source)
            time.sleep(0.1)  # noqa: ASYNC251 both the answer and the end of patience are there when the loop goes on
            await calling
            assert dialog.status == 200
            assert (await caller.loop.sock_recv(peer, 65536)).startswith(b"ACK ")
