"""The leg against a real telephone, a dispatcher between them: keys and transfers, both ways, inside the dialog."""

import asyncio
import json
import os
import socket
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pjaudioport import AudioPort

from shared import token
from shared.choices import AudioFormat, MediaSrtp
from shared.ids import WorkerId
from simulator.phone.analysis import SPEECH_RMS, frame_rms
from tests.unit.dispatcher.ladder import SECRET, header_of, response
from tests.unit.dispatcher.pool import Pool
from tests.unit.dispatcher.wire import PATIENCE_S, Peer, ack_for, dispatching, in_dialog
from worker.media.formats import wire_format
from worker.pjsip.endpoint import EndpointSettings, SipEndpoint
from worker.pjsip.invite import answered
from worker.pjsip.leg import Leg

ROOT = Path(__file__).parents[2]
LOCALHOST = "127.0.0.1"
SIMULATED = "sip:+4930555@192.0.2.77"
"""Nobody is called there: the telephone's own exchange plays whoever it is referred to."""

SDP_FOLLOWS = "Content-Type: application/sdp"

TALK_PACKETS = 10

TONE = b"\x00" * 4 + b"\x80" * 4
"""One period of 1 kHz in PCMU, as loud as it can be."""


class Stage:
    """A worker's endpoint behind a dispatcher."""

    def __init__(self, directory: Path) -> None:
        self.ports: list[AudioPort] = []
        settings = EndpointSettings(LOCALHOST, LOCALHOST, 0, LOCALHOST, range(0, 2), MediaSrtp.OFF, 4)
        self.legs: asyncio.Queue[Leg] = asyncio.Queue()
        self.endpoint = SipEndpoint(settings, self.legs.put_nowait)
        self.sip_port = self.endpoint.start()
        self.dispatcher_port = 0
        self._directory = directory

    async def leg(self, audio: AudioFormat = AudioFormat.G711) -> Leg:
        """Takes the next call and returns its leg, answered and with audio."""
        async with asyncio.timeout(PATIENCE_S):
            leg = await self.legs.get()
        self.ports.append(self.endpoint.new_port(wire_format(audio, leg.invite.codec), 20))
        leg.attach(self.ports[-1])
        leg.answer()
        return leg

    async def phone(self, *options: str) -> asyncio.subprocess.Process:
        """Has a telephone call the dispatcher."""
        command = ["-m", "simulator.phone", "call", f"sip:+4930123@{LOCALHOST}:{self.dispatcher_port}", "--json"]
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            "--no-greeting",
            *options,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=self._directory,
            stdout=asyncio.subprocess.PIPE,
        )

    async def call(self, *options: str) -> tuple[asyncio.subprocess.Process, Leg]:
        """Returns a telephone and the leg of its call, once audio goes both ways: the telephone has pressed a key."""
        phone = await self.phone("--dtmf", "1", "--hold-until-bye", *options)
        leg = await self.leg()
        await digits_from(leg, 1)
        return phone, leg

    async def close(self) -> None:
        """Ends it."""
        await self.endpoint.stop()
        for port in self.ports:
            port.close()


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """The stage; every call made on it is answered."""
    pool, stage = Pool(), Stage(tmp_path)
    pool.add("w1", LOCALHOST, stage.sip_port, capacity=4)
    try:
        async with dispatching(pool) as scene:
            stage.dispatcher_port = scene.port
            yield stage
    finally:
        await stage.close()


async def report_of(phone: asyncio.subprocess.Process) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE_S):
        out, _ = await phone.communicate()
    (call,) = json.loads(out)["calls"]
    assert isinstance(call, dict)
    return call


async def digits_from(leg: Leg, count: int) -> str:
    """Returns the next keys."""
    pressed = asyncio.Queue[str]()
    leg.on_digit = pressed.put_nowait
    async with asyncio.timeout(PATIENCE_S):
        return "".join([await pressed.get() for _ in range(count)])


@pytest.mark.parametrize("method", ["rfc4733", "dtmf-relay", "info"])
async def test_keys_reach_the_worker_once_each(stage: Stage, method: str) -> None:
    phone = await stage.phone("--dtmf", "1155*#", "--dtmf-method", method, "--hold", "0.5")
    leg = await stage.leg()
    assert await digits_from(leg, 6) == "1155*#"
    surplus: list[str] = []
    leg.on_digit = surplus.append
    assert (await report_of(phone))["ok"]
    await leg.disconnected.wait()
    assert surplus == []


async def test_keys_pressed_before_anybody_listens_are_kept(stage: Stage) -> None:
    phone = await stage.phone("--dtmf", "12", "--hold", "0.5")
    leg = await stage.leg()
    assert (await report_of(phone))["ok"]
    await leg.disconnected.wait()
    assert await digits_from(leg, 2) == "12"


@pytest.mark.parametrize("codec", ["PCMU", "PCMA"])
async def test_digits_reach_the_caller(stage: Stage, codec: str) -> None:
    phone, leg = await stage.call("--codec", codec)
    assert await leg.send_digits("0,99D#")
    leg.end(200)
    assert (await report_of(phone))["digits_received"] == "099D#"


async def test_digits_cannot_be_sent_once_the_caller_has_hung_up(stage: Stage) -> None:
    phone = await stage.phone("--dtmf", "1", "--hold", "0.5")
    leg = await stage.leg()
    sending = asyncio.create_task(leg.send_digits("1" * 100))
    await report_of(phone)
    assert not await sending
    assert not await leg.send_digits("1")


async def test_what_is_no_digit_cannot_be_sent(stage: Stage) -> None:
    phone, leg = await stage.call()
    assert not await leg.send_digits("x")
    leg.end(200)
    await report_of(phone)


@pytest.mark.parametrize(("refer", "outcome"), [("accept", 200), ("busy", 486), ("reject", 603)])
async def test_a_transfer_ends_as_the_other_side_says_and_the_leg_stays(stage: Stage, refer: str, outcome: int) -> None:
    phone, leg = await stage.call("--refer", refer)
    assert await leg.transfer(SIMULATED, PATIENCE_S) == outcome
    assert not leg.disconnected.is_set()
    leg.end(200)
    report = await report_of(phone)
    assert (report["ok"], report["ended_by"], report["refer_target"]) == (True, "pool", SIMULATED)


async def test_a_caller_who_hangs_up_after_accepting_was_transferred(stage: Stage) -> None:
    phone, leg = await stage.call("--refer", "bye")
    assert await leg.transfer(SIMULATED, PATIENCE_S) == 200
    assert leg.disconnected.is_set()
    assert (await report_of(phone))["ended_by"] == "caller"


async def test_a_transfer_without_an_outcome_is_given_up(stage: Stage) -> None:
    phone, leg = await stage.call("--refer", "ignore")
    assert await leg.transfer(SIMULATED, 1.0) == 408
    assert not leg.disconnected.is_set()
    leg.end(200)
    assert (await report_of(phone))["ok"]


async def test_a_transfer_that_the_end_of_the_call_overtakes_is_no_success(stage: Stage) -> None:
    phone, leg = await stage.call("--refer", "ignore")
    transfer = asyncio.create_task(leg.transfer(SIMULATED, PATIENCE_S))
    await asyncio.sleep(0)
    assert await leg.transfer(SIMULATED, PATIENCE_S) == 491
    leg.end(200)
    assert await transfer == 487
    assert await leg.transfer(SIMULATED, PATIENCE_S) == 487
    await report_of(phone)


async def test_the_invite_says_who_calls_whom_and_what_else_it_carries(stage: Stage) -> None:
    phone = await stage.phone("--turns", "0", "--from-user", "+4930999", "--header", "X-Account: 42")
    leg = await stage.leg()
    assert (leg.invite.caller, leg.invite.called, leg.invite.headers["x-account"]) == ("+4930999", "+4930123", "42")
    call_id = leg.invite.call_id
    lease = token.verify(leg.invite.lease_token, SECRET, worker_id=WorkerId("w1"), call_id=call_id, now_ms=1)
    assert lease.peer == LOCALHOST
    await report_of(phone)


async def hears(port: AudioPort, frames: int, *, loud: bool) -> None:
    """Returns once the leg has heard so many frames of 20 ms in a row that are loud, or that are quiet."""
    run = 0
    async with asyncio.timeout(PATIENCE_S):
        while run < frames:
            await asyncio.sleep(0.02)
            heard = np.frombuffer(port.read(), dtype=np.int16)
            for level in frame_rms(heard, 24000 // 50):
                run = run + 1 if (level >= SPEECH_RMS) == loud else 0


async def test_a_caller_who_coughs_hears_the_answer_out(stage: Stage) -> None:
    phone = await stage.phone("--say", "hello", "--cough", "300", "--noise-after", "0.3", "--hold", "0.5")
    await stage.leg(AudioFormat.PCM16)
    (port,) = stage.ports
    await hears(port, 5, loud=True)
    await hears(port, 20, loud=False)
    port.write((5000 * np.sin(np.arange(2 * 24000))).astype("<i2").tobytes())
    await hears(port, 13, loud=True)
    report = await report_of(phone)
    (turn,), (heard,) = report["turns"], report["heard"]
    assert report["ok"]
    assert turn["answer_first_packet"] < report["marks"]["cough"] < turn["answer_end"]
    assert 1900 <= heard["end"] - heard["start"] <= 2100


@asynccontextmanager
async def scripted_caller(
    stage: Stage, audio: AudioFormat = AudioFormat.G711, headers: tuple[str, ...] = ()
) -> AsyncIterator[tuple[Peer, bytes, Leg]]:
    """A caller whose SDP knows no telephone-event, in a call: the peer, the 200 it got, and the leg."""
    peer = await Peer().open(stage.dispatcher_port)
    try:
        peer.send(peer.request("INVITE", headers=headers))
        leg = await stage.leg(audio)
        answer = await peer.expect("200 INVITE")
        peer.send(ack_for(peer, answer))
        yield peer, answer, leg
        leg.end(200)
        peer.send(response(await peer.expect("BYE"), 200))
    finally:
        peer.close()


async def test_a_caller_without_telephone_events_gets_its_digits_by_info(stage: Stage) -> None:
    async with scripted_caller(stage) as (peer, _, leg):
        sending = asyncio.create_task(leg.send_digits("5#"))
        for digit in (b"5", b"#"):
            info = await peer.expect("INFO")
            assert b"Signal=" + digit in info
            peer.send(response(info, 200))
        assert await sending


async def test_digits_that_the_caller_refuses_are_not_sent(stage: Stage) -> None:
    async with scripted_caller(stage) as (peer, _, leg):
        sending = asyncio.create_task(leg.send_digits("5#"))
        peer.send(response(await peer.expect("INFO"), 415))
        assert not await sending


async def test_what_was_heard_before_a_reinvite_counts_as_well(stage: Stage) -> None:
    """A PBX that takes itself out of the audio, and back in at the end, has pjsip make another stream each time."""
    async with scripted_caller(stage, AudioFormat.PCM16, (SDP_FOLLOWS,)) as (peer, answer, leg):
        peer.send(ack_for(peer, answer))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rtp:
            for packet in loud_rtp(TALK_PACKETS):
                rtp.sendto(packet, (LOCALHOST, audio_port_in(answer)))
                await asyncio.sleep(0.02)  # as telephones do: the jitter buffer throws away a burst
            await hears(stage.ports[0], 3, loud=True)
        again = in_dialog(peer, answer, "INVITE", branch="z9hG4bKagain", cseq=2)
        again = again.replace(b"Content-Length", SDP_FOLLOWS.encode() + b"\r\nContent-Length")
        peer.send(again.replace(b"o=- 1 1 ", b"o=- 1 2 ").replace(b"m=audio 40000", b"m=audio 40002"))
        peer.send(ack_for(peer, await peer.expect("200 INVITE"), cseq=2))
    await leg.disconnected.wait()
    assert leg.rtp.received == TALK_PACKETS


def loud_rtp(packets: int) -> list[bytes]:
    """Returns RTP packets of 20 ms of a loud tone (RFC 3550 section 5.1)."""
    return [struct.pack("!BBHII", 0x80, 0, number, 160 * number, 4711) + TONE * 20 for number in range(packets)]


def audio_port_in(answer: bytes) -> int:
    """Returns the port of the audio in an answer's SDP."""
    return int(answer.partition(b"m=audio ")[2].split()[0])


async def test_a_caller_cannot_have_the_worker_dial_anybody(stage: Stage) -> None:
    async with scripted_caller(stage) as (peer, answer, leg):
        refer = in_dialog(peer, answer, "REFER", branch="z9hG4bKrefer", cseq=2)
        peer.send(refer.replace(b"Content-Length", b"Refer-To: <sip:anybody@192.0.2.99>\r\nContent-Length"))
        await peer.expect("603 REFER")
        assert not leg.disconnected.is_set()


async def test_a_refer_says_where_to_and_on_whose_behalf(stage: Stage) -> None:
    async with scripted_caller(stage) as (peer, _, leg):
        transfer = asyncio.create_task(leg.transfer("sip:+4930555@example.com;user=phone", PATIENCE_S))
        refer = await peer.expect("REFER")
        assert header_of(refer, "Refer-To") == "<sip:+4930555@example.com;user=phone>"
        assert "sip:100@" in header_of(refer, "Referred-By")
        peer.send(response(refer, 404))
        assert await transfer == 404


@pytest.fixture
async def direct(tmp_path: Path) -> AsyncIterator[Stage]:
    """A stage without a dispatcher: callers send straight to the worker."""
    stage = Stage(tmp_path)
    stage.dispatcher_port = stage.sip_port
    yield stage
    await stage.close()


@asynccontextmanager
async def calling(stage: Stage, *headers: str) -> AsyncIterator[tuple[Peer, Leg, asyncio.Queue[tuple[int, bytes]]]]:
    """A scripted caller whose INVITE has arrived: the peer, the leg, and the final responses that the leg tells of.

    Without `headers` it is its own proxy.
    """
    peer = await Peer().open(stage.dispatcher_port)
    try:
        own_route = f"Record-Route: <sip:{LOCALHOST}:{peer.address.port};lr>"
        peer.send(peer.request("INVITE", headers=headers or (own_route,)))
        async with asyncio.timeout(PATIENCE_S):
            leg = await stage.legs.get()
            told = asyncio.Queue[tuple[int, bytes]]()
            leg.on_final = lambda status, response: told.put_nowait((status, response))
            yield peer, leg, told
    finally:
        peer.close()


async def test_the_answer_is_told_byte_for_byte_and_makes_the_dialog(direct: Stage) -> None:
    route = "Record-Route: <sip:token@127.0.0.1:9;lr>, <sip:127.0.0.1:10;lr>"
    async with calling(direct, route) as (peer, leg, told):
        leg.ring()
        leg.answer()
        status, response = await told.get()
        answer = await peer.expect("200 INVITE")
        assert (status, response) == (200, answer)
        assert not leg.confirmed.is_set()
        peer.send(ack_for(peer, answer))
        await leg.confirmed.wait()
        dialog = answered(leg.invite.dialog, response)
        assert dialog.local == header_of(answer, "To").encode()
        assert dialog.remote == header_of(answer, "From").encode()
        assert dialog.target == f"sip:alice@{LOCALHOST}:{peer.address.port}".encode()
        assert dialog.routes == [b"<sip:token@127.0.0.1:9;lr>", b"<sip:127.0.0.1:10;lr>"]
        leg.end(200)
        await leg.disconnected.wait()
    assert told.empty()


async def test_our_own_requests_carry_the_dialogs_from_and_to(direct: Stage) -> None:
    async with calling(direct) as (peer, leg, told):
        leg.answer()
        peer.send(ack_for(peer, await peer.expect("200 INVITE")))
        await leg.confirmed.wait()
        dialog = answered(leg.invite.dialog, (await told.get())[1])
        leg.end(200)
        bye = await peer.expect("BYE")
        tags = [header_of(bye, name).partition("tag=")[2].encode() for name in ("From", "To")]
        assert tags == [value.partition(b"tag=")[2] for value in (dialog.local, dialog.remote)]
        peer.send(response(bye, 200))


async def test_a_refusal_is_told_byte_for_byte(direct: Stage) -> None:
    async with calling(direct) as (peer, leg, told):
        leg.ring()
        leg.end(480)
        assert await told.get() == (480, await peer.expect("480 INVITE"))
        await leg.disconnected.wait()


async def test_the_end_of_a_cancelled_call_is_told_too(direct: Stage) -> None:
    async with calling(direct) as (peer, leg, told):
        leg.ring()
        await peer.expect("180 INVITE")
        peer.send(peer.request("CANCEL"))
        assert await told.get() == (487, await peer.expect("487 INVITE"))
        await leg.disconnected.wait()


async def test_a_call_refused_after_a_cancel_ends_once(direct: Stage) -> None:
    async with calling(direct) as (peer, leg, told):
        leg.ring()
        await peer.expect("180 INVITE")
        peer.send(peer.request("CANCEL"))
        await peer.expect("487 INVITE")
        leg.end(503)
        await leg.disconnected.wait()
        assert (await told.get())[0] == 487
    assert told.empty()
