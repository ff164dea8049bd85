"""Alarms: in order, once, and gone when cancelled."""

import gc
import weakref

from dispatcher.sip.alarms import Alarms


class Sleeper:
    """Notes when it is woken."""

    def __init__(self) -> None:
        self.alarms: dict[str, int] = {}
        self.woken: list[tuple[str, float]] = []

    def alarm(self, name: str, now: float) -> None:
        self.woken.append((name, now))


def test_alarms_ring_in_order_and_once() -> None:
    clock, sleeper = Alarms(), Sleeper()
    clock.set(sleeper, "late", 3.0)
    clock.set(sleeper, "early", 1.0)
    assert clock.next_at() == 1.0
    clock.run(0.9)
    assert sleeper.woken == []
    clock.run(5.0)
    clock.run(6.0)
    assert sleeper.woken == [("early", 5.0), ("late", 5.0)]
    assert clock.next_at() is None


def test_an_alarm_that_is_set_again_is_moved() -> None:
    clock, sleeper = Alarms(), Sleeper()
    clock.set(sleeper, "a", 1.0)
    clock.set(sleeper, "a", 2.0)
    clock.run(1.5)
    assert (sleeper.woken, clock.next_at(), len(clock)) == ([], 2.0, 1)


def test_a_cancelled_alarm_keeps_nobody_alive() -> None:
    clock, sleeper = Alarms(), Sleeper()
    clock.set(sleeper, "a", 1.0)
    clock.set(sleeper, "b", 2.0)
    clock.cancel_all(sleeper)
    clock.cancel(sleeper, "never set")
    gone = weakref.ref(sleeper)
    del sleeper
    gc.collect()
    assert (gone(), len(clock), clock.next_at()) == (None, 0, None)


def test_cancelled_alarms_do_not_pile_up() -> None:
    clock, sleeper = Alarms(), Sleeper()
    clock.set(sleeper, "stays", 5.0)
    for number in range(50_000):
        clock.set(sleeper, "moves", 10.0 + number)
    assert clock.entries < 10_000
    clock.run(5.0)
    assert sleeper.woken == [("stays", 5.0)]


def test_an_alarm_set_while_ringing_rings_in_the_same_run_if_it_is_due() -> None:
    class Again(Sleeper):
        def alarm(self, name: str, now: float) -> None:
            super().alarm(name, now)
            if len(self.woken) < 3:
                clock.set(self, name, now)

    clock, again = Alarms(), Again()
    clock.set(again, "a", 1.0)
    clock.run(1.0)
    assert len(again.woken) == 3
