"""Live hearing: whether the caller hears speech right now, when it began and when it last was there.

It does not keep audio and knows no clock: time is the number of samples heard.
"""

import numpy as np

from simulator.phone.analysis import FRAME, RATE, SPEECH_RMS, Signal, frame_rms

ONSET_FRAMES = 3
"""Loud frames (60 ms) that make speech; fewer are a click or a packet of the sound before."""


class Ear:
    """Follows what is heard; positions are samples since the audio began."""

    def __init__(self) -> None:
        self.position = 0
        self.onset: int | None = None
        """First sample of the speech heard since `listen`; None while there was none."""
        self.last_loud = 0
        """The sample after the last speech heard since `listen`."""
        self._from = 0
        self._loud_frames: list[int] = []
        self._rest: Signal = np.zeros(0, dtype=np.int16)

    def listen(self, since: int) -> None:
        """Forgets earlier speech: from now on only what lies at `since` or later counts."""
        self.onset, self._from, self._loud_frames = None, since, []
        self.last_loud = since

    def hear(self, samples: Signal) -> None:
        """Takes the next samples."""
        waiting = np.concatenate([self._rest, samples])
        loud = np.flatnonzero(frame_rms(waiting) >= SPEECH_RMS)
        for start in (self.position - len(self._rest) + loud * FRAME).tolist():
            self._loud(int(start))
        self.position += len(samples)
        self._rest = waiting[len(waiting) // FRAME * FRAME :]

    def quiet_ms(self) -> float:
        """Returns for how long there has been no speech, since `listen` at most."""
        return (self.position - self.last_loud) * 1000 / RATE

    def _loud(self, start: int) -> None:
        if start < self._from:
            return
        self.last_loud = start + FRAME
        self._loud_frames.append(start)
        if self.onset is None and len(self._loud_frames) >= ONSET_FRAMES:
            self.onset = self._loud_frames[0]
