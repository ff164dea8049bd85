"""Answers on the native audio port: cut off by a flush, ended, run empty, timed, accounted for."""

import random
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.unit.worker.pjsip.bridge import DOWN_RING_MS, Bridge, Samples, noise, register_thread, samples

BOTH_RATES = pytest.mark.parametrize("open_bridge", [8000, 16000], indirect=True)


@BOTH_RATES
def test_flushed_audio_is_not_played_from_the_next_tick_on(bridge: Bridge) -> None:
    speaker, listener = bridge.port(), bridge.port()
    bridge.pair(speaker, listener)
    speaker.write(noise(2 * 10 * bridge.frame))
    bridge.tick(3)
    listener.read()
    assert speaker.flush() == 7 * bridge.frame
    bridge.tick()
    assert not samples(listener.read()).any()
    counters = speaker.counters()
    assert (counters.played, counters.flushed, counters.queued) == (3 * bridge.frame, 7 * bridge.frame, 0)


def test_the_answer_after_a_flush_is_played_from_its_beginning(bridge: Bridge) -> None:
    speaker, listener = bridge.port(), bridge.port()
    bridge.pair(speaker, listener)
    speaker.write(noise(2 * 10 * bridge.frame))
    bridge.tick()
    listener.read()
    speaker.flush()
    audio = noise(2 * 2 * bridge.frame, seed=2)
    speaker.write(audio)
    bridge.tick(2)
    assert listener.read() == audio


def test_flushing_an_empty_port_drops_nothing(bridge: Bridge) -> None:
    port = bridge.port()
    assert port.flush() == 0
    assert port.counters().flushed == 0


def test_a_flush_gives_the_ring_back_at_once_without_a_tick(bridge: Bridge) -> None:
    port = bridge.port()
    whole = bytes(DOWN_RING_MS * bridge.rate // 1000 * 2)
    assert port.write(whole) == len(whole)
    assert port.write(b"\0\0") == 0
    port.flush()
    assert port.write(whole) == len(whole)


def test_owner_can_tell_how_much_of_each_chunk_was_heard(bridge: Bridge) -> None:
    speaker, listener = bridge.port(), bridge.port()
    bridge.pair(speaker, listener)
    chunks: list[tuple[int, int]] = []
    for length in (200, 500, 300):
        before = speaker.counters().written
        speaker.write(noise(2 * length))
        chunks.append((before, speaker.counters().written))
    bridge.tick(2)
    end_of_heard = speaker.counters().written - speaker.flush()
    heard = [max(0, min(end_of_heard - before, after - before)) for before, after in chunks]
    assert heard == [200, 2 * bridge.frame - 200, 0]


def test_accounts_balance_whatever_is_done_in_whichever_order(bridge: Bridge) -> None:
    choose = random.Random(3)
    speaker, listener = bridge.port(rate=24000), bridge.port("g711_alaw")
    bridge.pair(speaker, listener)
    read = 0
    for _ in range(3000):
        step = choose.choice(("write", "write", "tick", "tick", "tick", "read", "flush", "finish"))
        if step == "write":
            speaker.write(bytes(2 * choose.randrange(4000)))
        elif step == "tick":
            bridge.tick(choose.randrange(6))
        elif step == "read":
            read += len(listener.read(choose.randrange(3000)))
        elif step == "flush":
            speaker.flush()
        else:
            speaker.finish()
        mine, its = speaker.counters(), listener.counters()
        assert mine.written == mine.played + mine.flushed + mine.queued
        assert its.captured == its.uplink_dropped + its.uplink_queued + read


@pytest.mark.usefixtures("eager_threads")
def test_every_sample_is_either_heard_or_flushed_while_the_clock_runs(bridge: Bridge) -> None:
    """Barge-ins race with the clock's thread; what is heard must be what was written without what flush() reported."""
    choose = random.Random(4)
    speaker, listener = bridge.port(), bridge.port()
    bridge.pair(speaker, listener)
    pattern = np.arange(1, 30001, dtype=np.int16)  # never 0, which is silence
    expected: list[Samples] = [np.empty(0, np.int16)]
    heard: list[Samples] = []

    def listen() -> None:
        audio = samples(listener.read())
        heard.append(audio[audio != 0])

    def write() -> None:
        first = choose.randrange(29000)
        taken = speaker.write(pattern[first : first + 800].tobytes()) // 2
        expected.append(pattern[first : first + taken])

    def flush() -> None:
        dropped = speaker.flush()
        while dropped >= len(expected[-1]):
            dropped -= len(expected.pop())
            if not expected:
                expected.append(np.empty(0, np.int16))
                break
        expected[-1] = expected[-1][: len(expected[-1]) - dropped]

    with ThreadPoolExecutor(1, initializer=register_thread) as clock:
        for _ in range(3000):
            ticking = clock.submit(bridge.tick, 90)  # not more frames than the listener's ring holds
            while not ticking.done():
                write()
                if choose.random() < 0.7:
                    flush()
            listen()
    write()
    while speaker.counters().queued:
        bridge.tick()
        listen()
    assert np.array_equal(np.concatenate(heard), np.concatenate(expected))
    assert sum(map(len, heard)) == speaker.counters().played > 0
    assert speaker.counters().flushed > 0


# End of an answer


def test_running_empty_in_the_middle_of_an_answer_is_an_underrun(bridge: Bridge) -> None:
    speaker, listener = bridge.port(), bridge.port()
    bridge.pair(speaker, listener)
    bridge.tick(2)
    assert speaker.counters().underruns == 0
    speaker.write(bytes(2 * (bridge.frame + 10)))
    bridge.tick(4)  # whole, in part, empty, empty
    assert speaker.counters().underruns == 3
    speaker.write(bytes(2 * bridge.frame))
    bridge.tick()
    assert speaker.counters().underruns == 3


def test_running_empty_at_the_end_of_an_answer_is_none(bridge: Bridge) -> None:
    speaker, listener = bridge.port(), bridge.port()
    bridge.pair(speaker, listener)
    for _ in range(2):
        speaker.write(bytes(2 * (bridge.frame + 10)))
        assert speaker.finish()
        bridge.tick(4)
    assert speaker.counters().underruns == 0
    assert speaker.finish()  # nothing is open: nothing happens


def test_running_empty_after_a_flush_is_none(bridge: Bridge) -> None:
    speaker, listener = bridge.port(), bridge.port()
    bridge.pair(speaker, listener)
    speaker.write(bytes(2 * 10 * bridge.frame))
    bridge.tick()
    speaker.flush()
    bridge.tick(3)
    assert speaker.counters().underruns == 0


def test_the_first_sample_of_every_answer_is_timed(bridge: Bridge) -> None:
    speaker, listener = bridge.port(), bridge.port()
    bridge.pair(speaker, listener)
    bridge.tick()
    assert speaker.counters().first_played_ns == speaker.counters().playout_started_ns == 0
    assert 0 < speaker.counters().first_captured_ns <= time.time_ns()
    before = time.time_ns()
    speaker.write(bytes(2 * 2 * bridge.frame))
    speaker.finish()
    speaker.write(bytes(2 * bridge.frame))  # the next answer, right behind
    bridge.tick(2)
    first = speaker.counters()
    assert before <= first.first_played_ns == first.playout_started_ns <= time.time_ns()
    bridge.tick()
    second = speaker.counters()
    assert second.first_played_ns == first.first_played_ns
    assert second.playout_started_ns > first.playout_started_ns


def test_an_answer_is_timed_also_if_it_was_complete_before_it_began(bridge: Bridge) -> None:
    speaker, listener = bridge.port(), bridge.port()
    bridge.pair(speaker, listener)
    starts = []
    for flushed in (True, False, False):
        speaker.write(bytes(2 * bridge.frame))
        speaker.finish()
        if flushed:
            speaker.flush()
        bridge.tick(2)
        starts.append(speaker.counters().playout_started_ns)
    assert starts[0] == 0 < starts[1] < starts[2]
    assert speaker.counters().first_played_ns == starts[1]


def test_audio_after_an_underrun_belongs_to_the_same_answer(bridge: Bridge) -> None:
    speaker, listener = bridge.port(), bridge.port()
    bridge.pair(speaker, listener)
    speaker.write(bytes(2 * bridge.frame))
    bridge.tick(2)
    started = speaker.counters().playout_started_ns
    speaker.write(bytes(2 * bridge.frame))
    bridge.tick()
    assert speaker.counters().playout_started_ns == started
