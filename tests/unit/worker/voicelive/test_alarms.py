"""Moments a session waits for."""

from worker.voicelive.alarms import Alarm, Alarms


def test_without_alarms_there_is_nothing_to_wait_for() -> None:
    alarms = Alarms()
    assert alarms.next is None and alarms.due(1e9) is None


def test_the_earliest_alarm_is_next() -> None:
    alarms = Alarms()
    alarms.set(Alarm.LENGTH, 20.0)
    alarms.set(Alarm.SILENCE, 10.0)
    assert alarms.next == 10.0


def test_alarms_come_due_in_order_and_once() -> None:
    alarms = Alarms()
    alarms.set(Alarm.LENGTH, 20.0)
    alarms.set(Alarm.SILENCE, 10.0)
    assert alarms.due(9.9) is None
    assert [alarms.due(30.0), alarms.due(30.0), alarms.due(30.0)] == [Alarm.SILENCE, Alarm.LENGTH, None]


def test_an_alarm_is_due_at_its_very_moment() -> None:
    alarms = Alarms()
    alarms.set(Alarm.SILENCE, 10.0)
    assert alarms.due(10.0) is Alarm.SILENCE


def test_an_alarm_that_is_set_again_takes_its_own_place() -> None:
    alarms = Alarms()
    alarms.set(Alarm.SILENCE, 10.0)
    alarms.set(Alarm.SILENCE, 30.0)
    assert alarms.due(20.0) is None and alarms.next == 30.0


def test_alarms_can_be_taken_back_whether_set_or_not() -> None:
    alarms = Alarms()
    alarms.set(Alarm.SILENCE, 10.0)
    assert alarms.is_set(Alarm.SILENCE)
    alarms.clear(Alarm.SILENCE, Alarm.LENGTH)
    assert not alarms.is_set(Alarm.SILENCE) and alarms.next is None
