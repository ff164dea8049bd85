"""Caller audio from a real audio port, through the pump, to whoever sends it."""

import asyncio
from functools import partial

from pjaudioport import take_ready, wake_fd

from tests.unit.worker.pjsip.bridge import Bridge
from worker.media.pump import Pump
from worker.media.uplink import Uplink


class Sent:
    """Collects what an uplink sends and says when it was `enough`."""

    def __init__(self, enough: int = 0) -> None:
        self.chunks: list[bytes] = []
        self.complete = asyncio.Event()
        self.congested = False
        self._enough = enough

    def append(self, audio: bytes) -> None:
        self.chunks.append(audio)
        if sum(map(len, self.chunks)) >= self._enough:
            self.complete.set()


async def test_audio_is_sent_in_chunks_of_the_wake_time_and_nothing_is_lost(bridge: Bridge) -> None:
    speaker, caller = bridge.port("g711_ulaw"), bridge.port("g711_ulaw", wake_ms=40)
    bridge.pair(speaker, caller)
    bridge.tick()
    caller.read()
    sent = Sent(160 * 10)
    pump = Pump(wake_fd(), take_ready)
    pump.start()
    pump.add(caller.id, Uplink(caller, sent).send)
    audio = bytes(range(160)) * 10
    speaker.write(audio)
    for _ in range(11):
        await asyncio.to_thread(bridge.tick)
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await sent.complete.wait()
    pump.stop()
    assert audio.replace(b"\x7f", b"\xff") in b"".join(sent.chunks).replace(b"\x7f", b"\xff")
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
    speaker, caller = bridge.port("g711_ulaw"), bridge.port("g711_ulaw")
    bridge.pair(speaker, caller)
    bridge.tick()
    caller.read()
    sent = Sent()
    uplink = Uplink(caller, sent)
    sent.congested = True
    speaker.write(bytes(range(160)) * 3)
    for _ in range(4):
        bridge.tick()
        uplink.send()
    assert not sent.chunks
    sent.congested = False
    uplink.send()
    assert len(sent.chunks) == 1 and len(sent.chunks[0]) >= 3 * 160
