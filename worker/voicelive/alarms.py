"""Moments a session waits for, by name. It reads no clock: whoever owns it asks with `now`."""

from enum import StrEnum


class Alarm(StrEnum):
    """What a session waits for."""

    SILENCE = "silence"
    """The caller has said nothing for too long."""
    WARNING = "warning"
    """The call is near its longest."""
    LENGTH = "length"
    """The call is at its longest."""
    LEAVE = "leave"
    """The goodbye has not been heard in time: hang up all the same."""
    DEAD_AIR = "dead_air"
    """The answer is long in coming."""
    STUCK = "stuck"
    """The answer will not come."""
    FILLER = "filler"
    """The caller should hear something again."""
    GIVE_UP = "give_up"
    """The connection has been away for too long."""
    DIGITS = "digits"
    """No further digit has come."""
    ROLLOVER = "rollover"
    """The connection will end soon: open the next one."""
    ROLLOVER_FORCE = "rollover_force"
    """The connection will end at once: the next one takes over, whatever is going on."""


class Alarms:
    """One moment per name."""

    def __init__(self) -> None:
        self._at: dict[Alarm, float] = {}

    @property
    def next(self) -> float | None:
        """The earliest moment; None while there is none."""
        return min(self._at.values(), default=None)

    def set(self, alarm: Alarm, at: float) -> None:
        """Sets an alarm, in place of the one of that name."""
        self._at[alarm] = at

    def clear(self, *alarms: Alarm) -> None:
        """Takes alarms back, those that are set."""
        for alarm in alarms:
            self._at.pop(alarm, None)

    def is_set(self, alarm: Alarm) -> bool:
        """Says whether an alarm of that name is waiting."""
        return alarm in self._at

    def due(self, now: float) -> Alarm | None:
        """Returns the earliest alarm that is due, and forgets it; None when there is none."""
        due = [(at, alarm) for alarm, at in self._at.items() if at <= now]
        if not due:
            return None
        _, alarm = min(due)
        del self._at[alarm]
        return alarm
