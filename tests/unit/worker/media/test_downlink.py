"""Model audio on its way into a real audio port, whose clock is the test."""

import numpy as np
import pytest
from pjaudioport import AudioPort

from tests.unit.worker.pjsip.bridge import Bridge
from worker.media.downlink import OVERFLOW_MAX_MS, Downlink
from worker.media.formats import G711_ULAW, PCM16_24K, WireFormat

BYTES_PER_MS = G711_ULAW.bytes_per_ms

SECOND = 1000 * BYTES_PER_MS

ITEM = "item_1"


def noise(ms: int) -> bytes:
    return np.random.default_rng(ms).integers(0, 256, ms * BYTES_PER_MS, np.uint8).tobytes()


def heard(bridge: Bridge, listener: AudioPort, ticks: int, downlink: Downlink) -> bytes:
    audio = bytearray()
    for _ in range(ticks):
        bridge.tick()
        downlink.top_up()
        audio += listener.read()
    return bytes(audio)


def test_an_answer_longer_than_the_ports_ring_is_heard_whole_and_in_order(bridge: Bridge) -> None:
    port, listener = bridge.port("g711_ulaw"), bridge.port("g711_ulaw")
    bridge.pair(port, listener)
    downlink = Downlink(port, G711_ULAW)
    answer = noise(25_000)
    for at in range(0, len(answer), SECOND // 2):
        downlink.play(ITEM, answer[at : at + SECOND // 2])
    downlink.finish()
    sound = heard(bridge, listener, 25 * 50 + 5, downlink)
    # u-law has two codes for zero; the second one comes back as the first
    assert answer.replace(b"\x7f", b"\xff") in sound.replace(b"\x7f", b"\xff")
    assert port.counters().underruns == 0
    assert downlink.dropped_bytes == 0


def test_a_flush_drops_the_overflow_as_well_as_the_ring(bridge: Bridge) -> None:
    port, listener = bridge.port("g711_ulaw"), bridge.port("g711_ulaw")
    bridge.pair(port, listener)
    downlink = Downlink(port, G711_ULAW)
    downlink.play(ITEM, noise(20_000))
    [cut_off] = downlink.flush()
    assert (cut_off.item_id, cut_off.heard_ms) == (ITEM, 0)
    downlink.top_up()
    assert port.counters().queued == 0


def test_what_comes_after_a_flush_is_heard(bridge: Bridge) -> None:
    port, listener = bridge.port("g711_ulaw"), bridge.port("g711_ulaw")
    bridge.pair(port, listener)
    downlink = Downlink(port, G711_ULAW)
    downlink.play(ITEM, noise(20_000))
    heard(bridge, listener, 3, downlink)
    downlink.flush()
    answer = noise(200).replace(b"\x7f", b"\xff")
    downlink.play(ITEM, answer)
    downlink.finish()
    assert answer in heard(bridge, listener, 15, downlink)


def test_a_flush_of_an_empty_playout_drops_nothing(bridge: Bridge) -> None:
    assert Downlink(bridge.port("g711_ulaw"), G711_ULAW).flush() == []


def test_audio_beyond_the_overflows_bound_is_dropped_and_counted(bridge: Bridge) -> None:
    port = bridge.port("g711_ulaw")
    downlink = Downlink(port, G711_ULAW)
    offered = 0
    while not downlink.dropped_bytes:
        downlink.play(ITEM, bytes(10 * SECOND))
        offered += 10 * SECOND
    kept = offered - downlink.dropped_bytes
    assert downlink.dropped_bytes == 10 * SECOND
    assert OVERFLOW_MAX_MS * BYTES_PER_MS <= kept <= (OVERFLOW_MAX_MS + 20_000) * BYTES_PER_MS


def test_the_end_of_an_answer_keeps_its_place_behind_the_overflow(bridge: Bridge) -> None:
    port, listener = bridge.port("g711_ulaw"), bridge.port("g711_ulaw")
    bridge.pair(port, listener)
    downlink = Downlink(port, G711_ULAW)
    downlink.play(ITEM, noise(17_000))
    downlink.finish()
    heard(bridge, listener, 17 * 50 + 10, downlink)
    assert (port.counters().queued, port.counters().underruns) == (0, 0)


def test_half_a_sample_does_not_hold_up_what_follows(bridge: Bridge) -> None:
    port = bridge.port("pcm16", 8000)
    downlink = Downlink(port, WireFormat("pcm16", 8000))
    downlink.play(ITEM, bytes(321))
    downlink.play(ITEM, bytes(320))
    downlink.top_up()
    assert port.counters().written == 320


@pytest.mark.parametrize("wire", [G711_ULAW, PCM16_24K])
def test_a_flush_says_how_much_of_each_answer_was_heard(bridge: Bridge, wire: WireFormat) -> None:
    port, listener = bridge.port(wire.encoding, wire.rate), bridge.port("g711_ulaw")
    bridge.pair(port, listener)
    downlink = Downlink(port, wire)
    for item in ("first", "second", "third"):
        downlink.play(item, bytes(200 * wire.bytes_per_ms))
        downlink.finish()
    start = port.counters().played
    bridge.tick(15)
    heard_ms = (port.counters().played - start) // 8
    assert heard_ms > 200, "the test itself: the second answer has to be reached"
    second, third = downlink.flush()
    assert (second.item_id, third.item_id, third.heard_ms) == ("second", "third", 0)
    # Each answer ends with what was still inside the resampler: under a millisecond.
    assert heard_ms - 200 - 1 <= second.heard_ms <= heard_ms - 200


def test_after_answers_that_were_heard_only_what_is_being_heard_counts(bridge: Bridge) -> None:
    port, listener = bridge.port("pcm16", 24000), bridge.port("g711_ulaw")
    bridge.pair(port, listener)
    downlink = Downlink(port, PCM16_24K)
    for number in range(20):
        downlink.play(str(number), bytes(60 * PCM16_24K.bytes_per_ms))
        downlink.finish()
        bridge.tick(6)
    assert downlink.flush() == []
    downlink.play("last", bytes(400 * PCM16_24K.bytes_per_ms))
    before = port.counters().played
    bridge.tick(10)
    [cut_off] = downlink.flush()
    assert cut_off.heard_ms == (port.counters().played - before) // 8


@pytest.mark.parametrize("wire", [G711_ULAW, PCM16_24K], ids=lambda wire: wire.encoding)
def test_it_is_known_how_long_the_playout_will_last(bridge: Bridge, wire: WireFormat) -> None:
    downlink = Downlink(bridge.port(wire.encoding, wire.rate), wire)
    assert downlink.queued_ms == 0
    downlink.play(ITEM, bytes(500 * wire.bytes_per_ms))
    downlink.finish()
    assert 498 <= downlink.queued_ms <= 502  # the resampler holds a little back, and adds it at the end


def test_the_overflow_counts_as_queued(bridge: Bridge) -> None:
    port, listener = bridge.port("g711_ulaw"), bridge.port("g711_ulaw")
    bridge.pair(port, listener)
    downlink = Downlink(port, G711_ULAW)
    downlink.play(ITEM, noise(25_000))
    before = downlink.queued_ms
    assert before == 25_000
    heard(bridge, listener, 50, downlink)
    assert before - downlink.queued_ms == pytest.approx(1000, abs=20)


def test_what_was_heard_or_flushed_is_not_queued_any_more(bridge: Bridge) -> None:
    port, listener = bridge.port("g711_ulaw"), bridge.port("g711_ulaw")
    bridge.pair(port, listener)
    downlink = Downlink(port, G711_ULAW)
    downlink.play(ITEM, noise(100))
    downlink.finish()
    heard(bridge, listener, 8, downlink)
    assert downlink.queued_ms == 0
    downlink.play(ITEM, noise(25_000))
    downlink.flush()
    assert downlink.queued_ms == 0
