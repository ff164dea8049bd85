"""The bridge's clock as the ports see it: counted once for all of them, late ones apart."""

import time

import pytest
from pjaudioport import take_ticks

from tests.unit.worker.pjsip.bridge import Bridge

LATE_S = 0.035


@pytest.fixture(autouse=True)
def nothing_counted(bridge: Bridge) -> None:
    """Forgets the ticks of the tests before."""
    bridge.tick()
    take_ticks()


def test_a_tick_is_one_however_many_ports_there_are(bridge: Bridge) -> None:
    for _ in range(20):
        bridge.port()
    bridge.tick()  # the additions; where the ports come in is no tick to compare with
    take_ticks()
    bridge.tick(100)
    counted, _, longest_ns = take_ticks()
    assert counted == 100
    assert 0 < longest_ns


def test_what_was_taken_is_not_told_again(bridge: Bridge) -> None:
    bridge.port()
    bridge.tick(5)
    assert take_ticks() != (0, 0, 0)
    assert take_ticks() == (0, 0, 0)


def test_a_tick_that_comes_too_late_is_counted_as_late(bridge: Bridge) -> None:
    bridge.port()
    bridge.tick(2)
    take_ticks()
    time.sleep(LATE_S)
    bridge.tick()
    assert take_ticks()[:2] == (1, 1)


def test_ticks_that_catch_up_are_not_late(bridge: Bridge) -> None:
    bridge.port()
    bridge.tick(2)
    take_ticks()
    time.sleep(3 * LATE_S)
    bridge.tick(6)
    counted, late, longest_ns = take_ticks()
    assert (counted, late) == (6, 1)
    assert longest_ns >= 3 * LATE_S * 1e9


def test_without_ports_there_are_no_ticks_and_their_time_is_nobodys(bridge: Bridge) -> None:
    port = bridge.port()
    bridge.tick(2)
    port.close()
    bridge.tick()  # carries out the removal
    take_ticks()
    bridge.tick(5)
    time.sleep(LATE_S)
    bridge.port()
    bridge.tick()
    assert take_ticks() == (0, 0, 0)
    bridge.tick(2)
    assert take_ticks()[0] > 0


def test_a_port_that_comes_or_goes_does_not_hide_a_late_tick(bridge: Bridge) -> None:
    first, second = bridge.port(), bridge.port()
    bridge.tick(2)
    take_ticks()
    second.close()
    time.sleep(LATE_S)
    bridge.tick()  # carries out the removal
    bridge.port()
    time.sleep(LATE_S)
    bridge.tick()
    assert take_ticks()[1] == 2
    assert first.slot >= 0
