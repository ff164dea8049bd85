"""One eventfd for all ports: wakes when audio waits, never too seldom, seldom too often."""

import os
import random
import select
from concurrent.futures import ThreadPoolExecutor

import pytest
from pjaudioport import AudioPort, take_ready, wake_fd

from tests.unit.worker.pjsip.bridge import Bridge, register_thread


def readable() -> bool:
    return bool(select.select([wake_fd()], [], [], 0)[0])


def capturing_port(bridge: Bridge, wake_ms: int = 20) -> AudioPort:
    port = bridge.port(wake_ms=wake_ms)
    port.connect(0)  # the master's silence
    return port


def test_one_frame_wakes_the_owner_of_a_port(bridge: Bridge) -> None:
    port = capturing_port(bridge)
    assert not readable()
    bridge.tick()
    assert readable()
    assert take_ready() == [port.id]
    assert not readable()
    assert take_ready() == []


def test_a_port_is_ready_when_as_much_audio_waits_as_its_owner_wants(bridge: Bridge) -> None:
    port = capturing_port(bridge, wake_ms=60)
    for _ in range(2):
        bridge.tick(2)
        assert not readable()
        bridge.tick()
        assert take_ready() == [port.id]
        assert len(port.read()) == 2 * 3 * bridge.frame


def test_a_port_that_is_not_read_is_named_again_with_its_next_frame(bridge: Bridge) -> None:
    port = capturing_port(bridge)
    bridge.tick()
    take_ready()
    bridge.tick()
    assert readable()
    assert take_ready() == [port.id]


def test_a_full_ring_keeps_waking_its_owner(bridge: Bridge) -> None:
    port = capturing_port(bridge)
    bridge.tick(200)
    take_ready()
    bridge.tick()
    assert port.counters().uplink_dropped > 0
    assert take_ready() == [port.id]


def test_many_ports_in_one_tick_cause_one_wake_up(bridge: Bridge) -> None:
    ports = [capturing_port(bridge) for _ in range(50)]
    bridge.tick(2)  # the bridge carries out a hundred of the additions and connections in a tick
    take_ready()
    bridge.tick()
    assert int.from_bytes(os.read(wake_fd(), 8), "little") == 1
    assert sorted(take_ready()) == sorted(port.id for port in ports)


@pytest.mark.usefixtures("eager_threads")
def test_an_owner_that_reads_at_once_is_woken_once_a_tick(bridge: Bridge) -> None:
    ports = {port.id: port for port in (bridge.port("pcm16", 24000) for _ in range(50))}
    for port in ports.values():
        port.connect(0)
    bridge.tick(2)
    take_ready()
    wakes = 0
    with ThreadPoolExecutor(1, initializer=register_thread) as clock:
        ticking = clock.submit(bridge.tick, 500)
        while not ticking.done() or readable():
            if readable():
                wakes += int.from_bytes(os.read(wake_fd(), 8), "little")
            for port_id in take_ready():
                ports[port_id].read()
    assert 0 < wakes <= 500


def test_the_last_port_of_a_tick_may_go(bridge: Bridge) -> None:
    first, last = capturing_port(bridge), capturing_port(bridge)
    bridge.tick()
    assert sorted(take_ready()) == sorted((first.id, last.id))
    last.close()
    bridge.tick()  # carries out the removal
    assert readable()
    assert take_ready() == [first.id]
    new = bridge.port()  # not connected, in the last port's place
    bridge.tick()
    assert new.slot > first.slot
    assert readable()
    assert take_ready() == [first.id]


def test_a_port_nobody_reads_any_more_wakes_nobody(bridge: Bridge) -> None:
    port = capturing_port(bridge)
    bridge.tick()
    port.close()
    assert take_ready() == []
    bridge.tick(2)
    assert not readable()


def test_an_id_is_used_again_when_bridge_and_owner_have_let_go(bridge: Bridge) -> None:
    first, second = AudioPort(bridge_rate=8000, encoding="pcm16", rate=8000), bridge.port()
    first_id = first.id
    assert first_id != second.id
    first.close()
    assert bridge.port().id != first_id
    bridge.tick()
    assert bridge.port().id != first_id
    del first
    assert bridge.port().id == first_id


def test_the_eventfd_is_one_for_the_whole_process_and_not_inherited() -> None:
    assert wake_fd() == wake_fd()
    assert not os.get_inheritable(wake_fd())


@pytest.mark.usefixtures("eager_threads")
def test_no_wake_up_is_lost_while_ticks_and_readers_race(bridge: Bridge) -> None:
    """Whenever a round of ticks is over and all named ports are read, either nothing waits or the eventfd is set."""
    choose = random.Random(5)
    # Few ports: among many, the next one's wake-up would make up for a lost one.
    ports = {port.id: port for port in (capturing_port(bridge) for _ in range(3))}
    with ThreadPoolExecutor(1, initializer=register_thread) as clock:
        for _ in range(5000):
            ticking = clock.submit(bridge.tick, choose.randrange(1, 30))
            while not ticking.done():
                for port_id in take_ready():
                    ports[port_id].read()
            ticking.result()
            waiting = {port.id for port in ports.values() if port.counters().uplink_queued}
            assert readable() or not waiting
            named = set(take_ready())
            assert waiting <= named
            for port_id in named:
                ports[port_id].read()
