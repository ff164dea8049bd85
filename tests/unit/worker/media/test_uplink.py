"""Caller audio from a real audio port, through the pump, to whoever it is sent to."""

import asyncio
from functools import partial

from pjaudioport import take_ready, wake_fd

from tests.unit.worker.pjsip.bridge import Bridge, noise
from worker.media.formats import G711_ULAW
from worker.media.pump import Pump
from worker.media.uplink import KEPT_MAX_MS, PIECE_MS, SLACK_MS, WINDOW_MS, Uplink

BYTES_PER_MS = G711_ULAW.bytes_per_ms

TICK_MS = 20


class Sent:
    """Collects what an uplink sends and says when it was `enough`."""

    def __init__(self, enough: int = 0) -> None:
        self.chunks: list[bytes] = []
        self.complete = asyncio.Event()
        self.congested = False
        self._enough = enough

    @property
    def audio(self) -> bytes:
        return b"".join(self.chunks)

    def append(self, audio: bytes) -> None:
        self.chunks.append(audio)
        if sum(map(len, self.chunks)) >= self._enough:
            self.complete.set()


class Line:
    """A caller who can be made to speak, and the uplink that hears it."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._speaker, self.caller = bridge.port("g711_ulaw"), bridge.port("g711_ulaw")
        bridge.pair(self._speaker, self.caller)
        bridge.tick()
        self.caller.read()
        self.uplink = Uplink(self.caller, G711_ULAW)
        self._seed = 0

    def speak(self, ms: int) -> bytes:
        """Lets that much time pass in which the caller speaks; returns what the port has heard of it."""
        self._seed += 1
        speech = noise(ms * BYTES_PER_MS, self._seed)
        while speech:  # the port's ring is bounded
            taken = self._speaker.write(speech)
            for _ in range(taken // (TICK_MS * BYTES_PER_MS)):
                self._bridge.tick()
                self.uplink.send()
            speech = speech[taken:]
        return noise(ms * BYTES_PER_MS, self._seed)


def settled(bridge: Bridge) -> Line:
    """A line whose first ticks of delay are over."""
    line = Line(bridge)
    line.speak(100)
    return line


async def test_audio_is_sent_in_chunks_of_the_wake_time_and_nothing_is_lost(bridge: Bridge) -> None:
    speaker, caller = bridge.port("g711_ulaw"), bridge.port("g711_ulaw", wake_ms=40)
    bridge.pair(speaker, caller)
    bridge.tick()
    caller.read()
    sent = Sent(160 * 10)
    uplink = Uplink(caller, G711_ULAW)
    uplink.listen(sent)
    pump = Pump(wake_fd(), take_ready)
    pump.start()
    pump.add(caller.id, uplink.send)
    audio = bytes(range(160)) * 10
    speaker.write(audio)
    for _ in range(11):
        await asyncio.to_thread(bridge.tick)
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await sent.complete.wait()
    pump.stop()
    assert audio.replace(b"\x7f", b"\xff") in sent.audio.replace(b"\x7f", b"\xff")
    assert all(len(chunk) >= 2 * 160 for chunk in sent.chunks)


async def test_a_removed_port_wakes_nobody(bridge: Bridge) -> None:
    speaker, caller = bridge.port("g711_ulaw"), bridge.port("g711_ulaw")
    bridge.pair(speaker, caller)
    woken: list[int] = []
    somebody = asyncio.Event()

    def wake(port_id: int) -> None:
        woken.append(port_id)
        somebody.set()

    pump = Pump(wake_fd(), take_ready)
    pump.start()
    pump.add(speaker.id, partial(wake, speaker.id))
    pump.add(caller.id, partial(wake, caller.id))
    pump.remove(caller.id)
    pump.remove(caller.id)
    bridge.tick(2)
    async with asyncio.timeout(5):
        await somebody.wait()
    pump.stop()
    assert set(woken) == {speaker.id}


def test_while_the_connection_is_congested_audio_waits_in_the_port(bridge: Bridge) -> None:
    line, sent = settled(bridge), Sent()
    line.uplink.hold()
    line.uplink.listen(sent)
    sent.chunks.clear()
    sent.congested = True
    speech = line.speak(60)
    assert not sent.chunks
    sent.congested = False
    line.uplink.send()
    assert len(sent.chunks) == 1 and heard(speech, sent)


def heard(speech: bytes, sent: Sent) -> bool:
    """Whether what was said was sent in one piece; the last tick of it may still be on its way."""
    return speech[: -TICK_MS * BYTES_PER_MS] in sent.audio


def test_nothing_is_kept_before_somebody_listens(bridge: Bridge) -> None:
    line, sent = settled(bridge), Sent()
    line.speak(200)
    line.uplink.listen(sent)
    assert sent.audio == b"" and line.uplink.dropped_bytes == 0


def test_what_is_said_without_a_connection_is_sent_to_the_next(bridge: Bridge) -> None:
    line, sent = settled(bridge), Sent()
    line.uplink.listen(Sent())
    line.uplink.hold()
    speech = line.speak(3_000)
    line.uplink.listen(sent)
    assert heard(speech, sent)
    assert line.uplink.dropped_bytes == 0


def test_what_was_kept_is_sent_in_pieces(bridge: Bridge) -> None:
    line, sent = settled(bridge), Sent()
    line.uplink.hold()
    line.speak(2_500)
    line.uplink.listen(sent)
    assert [len(chunk) // BYTES_PER_MS for chunk in sent.chunks[:2]] == [PIECE_MS, PIECE_MS]
    assert all(len(chunk) <= PIECE_MS * BYTES_PER_MS for chunk in sent.chunks)


def test_what_is_said_next_follows_what_was_kept(bridge: Bridge) -> None:
    line, sent = settled(bridge), Sent()
    line.uplink.hold()
    before = line.speak(400)
    line.uplink.listen(sent)
    after = line.speak(400)
    assert heard(before + after, sent)


def test_without_a_connection_the_latest_is_kept_and_the_rest_counted(bridge: Bridge) -> None:
    line, sent = settled(bridge), Sent()
    line.uplink.hold()
    line.speak(2_000)
    speech = line.speak(KEPT_MAX_MS - 100)
    line.uplink.listen(sent)
    assert heard(speech, sent)
    assert len(sent.audio) <= KEPT_MAX_MS * BYTES_PER_MS
    dropped_ms = line.uplink.dropped_bytes / BYTES_PER_MS
    assert 1_800 <= dropped_ms <= 2_000


def test_another_connection_is_sent_the_moment_before_as_well(bridge: Bridge) -> None:
    line, sent = settled(bridge), Sent()
    line.uplink.listen(Sent())
    line.speak(2_000)
    speech = line.speak(WINDOW_MS - 2 * TICK_MS)
    line.uplink.listen(sent)
    assert heard(speech, sent)
    assert len(sent.audio) <= WINDOW_MS * BYTES_PER_MS
    assert line.uplink.dropped_bytes == 0


def test_what_waits_to_be_dropped_is_not_sent_when_the_connection_is_lost(bridge: Bridge) -> None:
    line, sent = settled(bridge), Sent()
    line.uplink.listen(Sent())
    line.speak(WINDOW_MS + SLACK_MS)
    line.uplink.hold()
    line.uplink.listen(sent)
    assert len(sent.audio) == WINDOW_MS * BYTES_PER_MS
    assert line.uplink.dropped_bytes == 0


def test_what_waits_to_be_dropped_does_not_become_part_of_what_the_caller_says(bridge: Bridge) -> None:
    line, sent = settled(bridge), Sent()
    line.uplink.listen(Sent())
    line.speak(WINDOW_MS + SLACK_MS)
    line.uplink.retain(True)
    speech = line.speak(400)
    line.uplink.listen(sent)
    assert heard(speech, sent)
    assert len(sent.audio) == (WINDOW_MS + 400) * BYTES_PER_MS


def test_another_connection_is_sent_all_of_what_the_caller_is_saying(bridge: Bridge) -> None:
    line, sent = settled(bridge), Sent()
    line.uplink.listen(Sent())
    line.uplink.retain(True)
    speech = line.speak(4_000)
    line.uplink.listen(sent)
    assert heard(speech, sent)


def test_what_was_understood_is_not_sent_again(bridge: Bridge) -> None:
    line, sent = settled(bridge), Sent()
    line.uplink.listen(Sent())
    line.uplink.retain(True)
    line.speak(4_000)
    line.uplink.retain(False)
    line.uplink.listen(sent)
    assert len(sent.audio) <= WINDOW_MS * BYTES_PER_MS


def test_what_is_said_to_deaf_ears_is_never_sent(bridge: Bridge) -> None:
    line, first, second = settled(bridge), Sent(), Sent()
    line.uplink.listen(first)
    line.uplink.deafen()
    first.chunks.clear()
    line.speak(500)
    line.uplink.listen(second)
    assert (first.audio, second.audio) == (b"", b"")
    assert heard(line.speak(200), second)


def test_a_port_does_not_fill_up_while_nobody_listens(bridge: Bridge) -> None:
    line, sent = settled(bridge), Sent()
    line.uplink.deafen()
    line.speak(5_000)
    line.uplink.listen(sent)
    assert heard(line.speak(200), sent)
    assert line.caller.counters().uplink_dropped == 0


def test_sent_audio_counts_from_when_the_connection_began_to_listen(bridge: Bridge) -> None:
    line, sent = settled(bridge), Sent()
    line.uplink.listen(Sent())
    line.speak(1_000)
    line.uplink.listen(sent)
    line.speak(300)
    assert line.uplink.sent_ms == len(sent.audio) / BYTES_PER_MS
