"""What a caller heard: where in a recording a text was said, by Voice Live or by the worker itself, and how much of it.

It judges nothing; thresholds belong to the tests.
"""

import asyncio
from dataclasses import dataclass
from functools import cache

import numpy as np

from simulator.phone.analysis import RATE, Signal, align, resemblance
from simulator.voicelive.audio import AudioFormat
from simulator.voicelive.speech import Speech
from tests.acceptance.telephone import PhoneCall
from worker.clip_audio import resample
from worker.clip_maker import speech

SAID = 0.8
"""Resemblance of what was heard and what was said: packets that came late cost a little, a missing word costs more."""

SAME_VOICE = 0.55
"""More than two texts in the voice of one espeak-ng have in common."""


@dataclass(frozen=True)
class Place:
    """Where a text fits best into what was heard."""

    start: int
    """First sample."""
    end: int
    resemblance: float
    """1 for all of it as it was said."""


@cache
def by_service(text: str) -> bytes:
    """Returns what the simulator makes of a text: 16 bit, 8 kHz."""
    return asyncio.run(Speech().render(text, AudioFormat("pcm16", RATE)))


@cache
def by_worker(text: str) -> bytes:
    """Returns what the worker makes of a text that it says itself: 16 bit, 8 kHz."""
    rate, signal = speech(text, "en")
    return np.rint(resample(signal, rate, RATE)).astype("<i2").tobytes()


def find(audio: bytes, heard: Signal) -> Place:
    """Returns where the audio fits best."""
    wanted = np.frombuffer(audio, "<i2").astype(np.int16)
    start = max(align(wanted, heard).lag, 0)
    there = heard[start : start + len(wanted)]
    return Place(start, start + len(there), resemblance(wanted, there) if len(there) else 0.0)


def heard_in_order(call: PhoneCall, *said: bytes) -> list[Place]:
    """Returns where each was heard; fails unless all of each was, once, one after the other."""
    heard = call.tracks()[1].copy()
    places = [find(audio, heard) for audio in said]
    for number, (audio, place) in enumerate(zip(said, places, strict=True)):
        assert place.resemblance >= SAID, f"number {number} of what was said: {places}\n{call.report}"
        if said.count(audio) > 1:
            continue
        rest = heard.copy()
        rest[place.start : place.end] = 0
        assert find(audio, rest).resemblance < SAME_VOICE, f"number {number} of what was said was heard twice"
    starts = [place.start for place in places]
    assert starts == sorted(starts), f"heard in another order: {places}"
    return places
