"""The benchmarks' RTP tool over real sockets: against a UDP echo, and two of them against each other."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.load import rtp
from bench.load.clips import PCMA, PCMU, decode, tone
from bench.load.packets import OPENS, Capture, lost, spacing_ms
from bench.load.rtp import KEY_BYTES, RtpLoad, RtpLoadError, SrtpKeys

HOST = "127.0.0.1"


class Echo(asyncio.DatagramProtocol):
    """Answers each packet with itself and keeps what came."""

    def __init__(self) -> None:
        self.packets: list[bytes] = []
        self.port = 0
        self._arrived = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        self.transport: asyncio.DatagramTransport = transport
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.packets.append(data)
        self._arrived.set()
        self.transport.sendto(data, addr)

    async def until(self, count: int) -> list[bytes]:
        """Returns `count` packets or more from now on."""
        begin = len(self.packets)
        async with asyncio.timeout(20):
            while len(self.packets) < begin + count:
                self._arrived.clear()
                await self._arrived.wait()
        return self.packets[begin:]


@asynccontextmanager
async def echo() -> AsyncIterator[Echo]:
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(Echo, local_addr=(HOST, 0))
    try:
        yield protocol
    finally:
        transport.close()


@pytest.fixture
async def load(tmp_path: Path) -> AsyncIterator[RtpLoad]:
    async with RtpLoad(tmp_path / "load") as running:
        yield running


async def test_a_call_is_a_steady_stream_of_silence(load: RtpLoad) -> None:
    async with echo() as remote:
        await load.add(7, HOST, remote.port, PCMA)
        packets = await remote.until(30)

    headers = np.array([np.frombuffer(packet[:12], ">u2") for packet in packets]).astype(np.int64)
    timestamps = headers[:, 2] << 16 | headers[:, 3]
    assert {len(packet) for packet in packets} == {172}
    assert {packet[:2] for packet in packets} == {b"\x80\x88", b"\x80\x08"}  # the marker on the first packet only
    assert packets[0][1] == 0x88
    assert {packet[8:12] for packet in packets} == {packets[0][8:12]}
    assert {packet[12:] for packet in packets} == {b"\xd5" * 160}
    assert set(np.diff(headers[:, 1]) % 2**16) == {1}
    assert set(np.diff(timestamps) % 2**32) == {160}


async def test_packets_are_recorded_in_both_directions_while_recording_is_on(load: RtpLoad) -> None:
    async with echo() as remote, echo() as other:
        await load.add(1, HOST, remote.port, PCMU)
        await load.add(2, HOST, other.port, PCMU)
        await remote.until(3)
        await load.record(True)
        await remote.until(25)
        await load.record(False)
        await remote.until(3)
        await load.record(True)
        await remote.until(5)
        stats = await load.stats()
        packets = await load.finish()

    sent, received = packets.sent(1), packets.received(1)
    assert len(sent) >= 30
    assert abs(len(received) - len(sent)) <= 2
    assert np.count_nonzero(received["kind"] & OPENS) == 2
    assert set(packets.records["call"]) == {1, 2}
    assert set(received["length"]) == {160}
    assert lost(received) == lost(packets.sent(2)) == 0
    assert np.median(spacing_ms(packets.sent())) == pytest.approx(20, abs=1)
    first = np.flatnonzero(sent["sequence"] == received["sequence"][1])[0]
    assert sent["time_ns"][first] < received["time_ns"][1]
    assert stats.sent > len(sent)
    assert stats.unknown_source == stats.receive_drops == stats.send_errors == 0


async def test_a_clip_is_played_once_or_for_ever_and_silenced(load: RtpLoad) -> None:
    clip = tone(500, 0.05, -6)  # two and a half packets
    async with echo() as remote:
        await load.clip("beep", clip)
        await load.add(1, HOST, remote.port, PCMU)
        await load.play(1, "beep")
        once = b"".join(packet[12:] for packet in await remote.until(6))
        await load.loop(1, "beep", 100)
        looped = b"".join(packet[12:] for packet in await remote.until(8))
        await load.silence(1)
        after = await remote.until(3)

    assert clip + b"\xff" * 80 in once
    assert clip[100:] + clip + clip in looped
    assert after[-1][12:] == b"\xff" * 160


async def test_levels_tell_speech_from_silence(load: RtpLoad) -> None:
    async with echo() as remote:
        await load.clip("beep", tone(400, 0.1, -6, PCMA))
        await load.add(1, HOST, remote.port, PCMA)
        await load.record(True)
        await remote.until(3)
        await load.play(1, "beep")
        await remote.until(12)
        packets = await load.finish()

    expected = np.abs(decode(tone(400, 0.1, -6, PCMA), PCMA).astype(np.int32)).mean()
    assert packets.received(1)["level"].min() == 8  # PCMA has no zero
    assert packets.received(1)["level"].max() == pytest.approx(expected, rel=0.01)
    first = packets.first_voiced(1, after_ns=0)
    assert first is not None
    assert packets.last_voiced(1, after_ns=first, before_ns=2**62) == packets.received(1)["time_ns"][
        packets.received(1)["level"] > 8
    ].max()  # fmt: skip


async def test_a_captured_call_is_rebuilt_to_the_sample(load: RtpLoad) -> None:
    clip = tone(440, 0.2, -10)
    async with echo() as remote:
        await load.clip("tone", clip)
        await load.add(1, HOST, remote.port, PCMU)
        file = await load.capture(1)
        await load.play(1, "tone")
        await remote.until(15)
        await load.remove(1)

    capture = Capture.load(file)
    wanted = decode(clip, PCMU).tobytes()
    for stream in (capture.sent(), capture.received()):
        assert wanted in stream.samples.tobytes()
        assert stream.arrived.all()


async def test_two_tools_speak_srtp_with_each_other(tmp_path: Path) -> None:
    keys = SrtpKeys(bytes(range(KEY_BYTES)), bytes(range(100, 100 + KEY_BYTES)))
    async with RtpLoad(tmp_path / "a") as first, RtpLoad(tmp_path / "b") as second:
        await first.clip("tone", tone(440, 1, -10))
        await second.add(9, HOST, first.port, PCMU, SrtpKeys(send=keys.receive, receive=keys.send))
        await first.add(1, HOST, second.port, PCMU, keys)
        await first.loop(1, "tone")
        for tool in (first, second):
            await tool.record(True)
        async with echo() as clock:
            await first.add(2, HOST, clock.port, PCMU)
            await clock.until(20)
        stats = await second.stats()
        heard, answered = await second.finish(), await first.finish()

    assert stats.srtp_errors == 0
    assert np.median(heard.received(9)["level"]) > 1000
    assert len(answered.received(1)) >= 15
    assert set(answered.received(1)["level"]) == {0}


async def test_plain_rtp_and_wrong_keys_are_srtp_errors(load: RtpLoad) -> None:
    keys = SrtpKeys(bytes(KEY_BYTES), b"\x01" * KEY_BYTES)  # the echo comes back under the wrong one
    async with echo() as remote:
        await load.add(1, HOST, remote.port, PCMU, keys)
        [packet, *_] = await remote.until(6)
        stats = await load.stats()

    assert len(packet) == 12 + 160 + 10
    assert stats.srtp_errors >= 4
    assert stats.received == 0


async def test_packets_from_strangers_and_removed_calls_are_counted_as_unknown(load: RtpLoad) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"\x80" + bytes(171), (HOST, load.port))
        stranger.sendto(b"\x80" + bytes(171), (HOST, load.port + 1))  # RTCP's port takes anything
    async with echo() as remote:
        assert (await load.stats()).unknown_source == 1
        await load.add(1, HOST, remote.port, PCMU)
        await remote.until(3)
        await load.remove(1)
        before = await load.stats()
        remote.transport.sendto(bytes(172), (HOST, load.port))
        after = await load.stats()
        await load.add(1, HOST, remote.port, PCMU)

    assert (after.sent, after.received) == (before.sent, before.received)
    assert after.unknown_source > before.unknown_source


async def test_packets_that_are_no_rtp_are_counted(load: RtpLoad) -> None:
    async with echo() as remote:
        await load.add(1, HOST, remote.port, PCMU)
        for packet in (b"\x80", b"\x00" + bytes(171), b"\x8f" + bytes(12), b"\x90" + bytes(12)):
            remote.transport.sendto(packet, (HOST, load.port))
        assert (await load.stats()).malformed == 4


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["dance"], "no such command"),
        (["add", 1], "how many words"),
        (["add", "x", HOST, 4000, 0], "not a number"),
        (["add", 1, "localhost", 4000, 0], "not an IPv4 address"),
        (["add", 1, HOST, 0, 0], "the port"),
        (["add", 1, HOST, 4000, 9], "payload type"),
        (["add", 1, HOST, 4000, 0, "short", "keys"], "the keys"),
        (["add", 1, HOST, 4000, 0, "A" * 40], "the keys"),
        (["play", 1, "nothing"], "no such call"),
        (["remove", 1], "no such call"),
        (["clip", "name", "no-such-file"], "No such file"),
        (["record", "maybe"], "on or off"),
        (["x" * 5000], "too long"),
    ],
    ids=lambda value: " ".join(map(str, value))[:40] if isinstance(value, list) else "",
)
async def test_bad_commands_are_refused(load: RtpLoad, words: list[object], complaint: str) -> None:
    with pytest.raises(RtpLoadError, match=complaint):
        await load._command(*words)


async def test_calls_and_addresses_are_not_taken_twice(load: RtpLoad) -> None:
    async with echo() as remote, echo() as other:
        await load.add(1, HOST, remote.port, PCMU)
        with pytest.raises(RtpLoadError, match="a call of that id"):
            await load.add(1, HOST, other.port, PCMU)
        with pytest.raises(RtpLoadError, match="a call with that address"):
            await load.add(2, HOST, remote.port, PCMU)
        with pytest.raises(RtpLoadError, match="no such clip"):
            await load.play(1, "nothing")


async def test_calls_are_spread_over_the_20_ms(load: RtpLoad) -> None:
    async with echo() as remote:
        for call in range(100):
            await load.add(call, f"127.0.1.{call + 1}", remote.port, PCMU)
        await load.record(True)
        await load.add(100, HOST, remote.port, PCMU)
        await remote.until(20)
        sent = (await load.finish()).sent()

    phases_ms = np.array([np.median(sent["time_ns"][sent["call"] == call] // 1_000_000 % 20) for call in range(100)])
    assert len(set(phases_ms)) >= 15


async def test_it_runs_on_the_core_it_is_pinned_to(tmp_path: Path) -> None:
    async with RtpLoad(tmp_path, cpu=0) as load:
        assert os.sched_getaffinity(load.pid) == {0}


async def test_the_end_of_its_input_ends_it(load: RtpLoad) -> None:
    process = load._running()
    assert process.stdin is not None
    process.stdin.close()

    async with asyncio.timeout(10):
        assert await process.wait() == 0
    with pytest.raises(RtpLoadError, match="has ended with status 0"):
        await load.stats()


async def test_a_missing_compiler_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(RtpLoadError, match="apt-get install build-essential"):
        rtp.build()


async def test_a_missing_libsrtp_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(rtp, "LIBRARIES", ("-lsrtp2-is-not-here",))

    with pytest.raises(RtpLoadError, match="apt-get install libsrtp2-dev"):
        rtp.build()
