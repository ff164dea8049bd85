"""What the caller says, on its way into the audio port: how much of it has been said, and when it began.

It does not choose the words.
"""

from statistics import median_low

import numpy as np

from simulator.phone.analysis import RATE, Signal
from simulator.phone.plan import CallFailed
from simulator.phone.telephone import Leg

COUGH_AMPLITUDE = 8000
"""A noise as loud as speech (int16 units)."""


class Speaking:
    """One utterance in the port: how much of it has been said, and where it lies on the axis of what was heard.

    The bridge takes from a port and gives to it once per tick, so captured samples count the ticks: the utterance began
    at `captured - played`. A snapshot in the middle of a tick is a frame off, hence the median of several.
    """

    def __init__(self, leg: Leg, utterance: Signal) -> None:
        self._port = leg.port
        self._before = self._port.counters().played
        self._starts: list[int] = []
        self.played = 0
        audio = utterance.astype("<i2").tobytes()
        if self._port.write(audio) < len(audio):
            raise CallFailed("the utterance is longer than the telephone's audio port holds")
        self._length = len(utterance)
        self._port.finish()

    @property
    def start(self) -> int:
        """The sample at which the utterance began."""
        return max(median_low(self._starts), 0)

    def look(self) -> None:
        """Reads the port's counters."""
        counters = self._port.counters()
        self.played = counters.played - self._before
        if 0 < self.played < self._length:
            self._starts.append(counters.captured - self.played)


def cough(length_ms: int) -> Signal:
    """Returns a burst of noise, the same each time."""
    noise = np.random.default_rng(1).uniform(-COUGH_AMPLITUDE, COUGH_AMPLITUDE, length_ms * RATE // 1000)
    return noise.astype(np.int16)
