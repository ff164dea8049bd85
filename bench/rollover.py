"""Sessions that reach their longest while callers talk and answers play: does anybody hear it?

    missing     audio of answers the model sent to their end that did not reach the caller
    repeated    audio that reached them twice

The model ends sessions after some seconds instead of an hour; the worker opens the next one before that and moves over
between two turns, or while an answer plays when there is no such moment. Answers are long enough for both to happen.
"""

import asyncio
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.callers import Caller
from bench.density import Load, load_json
from bench.load.clips import RATE
from bench.positions import Recordings
from bench.progress import Progress
from bench.rig import RigError
from bench.talk import BURST_S, Minutes, Played, Sound, Talk, Talked, hold

AT_ONCE = 20
"""Calls."""

SHORTEST_S, LONGEST_S = 3.0, 9.0
RECORDINGS = 60

TURN_S = BURST_S + 0.5 + 0.78
"""From the start of a burst to the answer's first audio, about: 0.5 s of silence end a turn, then the model thinks."""

REST_S = (0.5, 1.5)
"""Between the end of the longest answer and the next burst."""

PER_MS = RATE // 1000

EXPIRED = "session_expired"
"""Code of the error event with which the model ends a session that has not been left in time."""


@dataclass(frozen=True, slots=True)
class Options:
    """How many rollovers, at least, how long sessions live, and which chance."""

    count: int = 60
    max_session_s: float = 16.0
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Rollovers:
    """The result."""

    options: Options
    calls: int
    rollovers: int
    during_answers: int
    """Rollovers while the caller was hearing an answer."""
    expired: int
    """Sessions that were not left in time."""
    turns: int
    """How often callers spoke."""
    answers: int
    """Answers the model sent to their end: one for each turn."""
    broken_off: int
    """Answers that were still arriving when their session was left: another one was asked for in their place."""
    missing_ms: float
    repeated_ms: float
    lost_calls: int
    load: Load

    def as_json(self) -> dict[str, Any]:
        """Returns the result as plain values."""
        return {
            "rollovers": self.rollovers,
            "during_answers": self.during_answers,
            "calls": self.calls,
            "max_session_s": self.options.max_session_s,
            "seed": self.options.seed,
            "missing_ms": self.missing_ms,
            "repeated_ms": self.repeated_ms,
            "turns": self.turns,
            "answers": self.answers,
            "broken_off": self.broken_off,
            "expired": self.expired,
            "lost_calls": self.lost_calls,
            "load": load_json(self.load),
        }


async def run(options: Options, directory: Path, progress: Progress) -> Rollovers:
    """Measures; raises RigError when there were too few rollovers, or the load side was saturated."""
    calls = min(AT_ONCE, options.count)
    chance = random.Random(options.seed)
    lengths = [chance.uniform(SHORTEST_S, LONGEST_S) for _ in range(RECORDINGS)]
    recordings = await asyncio.to_thread(Recordings, lengths, options.seed)
    seconds = (math.ceil(options.count / calls) + 0.5) * options.max_session_s

    async def conduct(talk: Talk) -> None:
        progress.say(f"{calls} calls for {seconds:.0f} s, sessions of {options.max_session_s:.0f} s")
        until = asyncio.get_running_loop().time() + seconds
        async with asyncio.TaskGroup() as group:
            for caller in talk.callers.up:
                group.create_task(_talk(talk, caller, until, random.Random(f"{options.seed} {caller.number}")))

    progress.say("rollover: starting the pool")
    model = ["--script-scope", "process", "--max-session", str(options.max_session_s)]
    minutes = await hold(calls, recordings, model, directory, conduct)
    result = judge(options, calls, minutes)
    if result.rollovers < options.count:
        raise RigError(f"only {result.rollovers} of {options.count} rollovers were seen")
    return result


async def _talk(talk: Talk, caller: Caller, until: float, chance: random.Random) -> None:
    """Speaks, hears the answer to its end, whichever it is, and speaks again.

    The last answer is heard to its end, too, even if it was broken off and another one came behind it.
    """
    loop = asyncio.get_running_loop()
    await asyncio.sleep(chance.uniform(0.0, LONGEST_S))
    while loop.time() < until:
        await talk.say(caller)
        await asyncio.sleep(TURN_S + LONGEST_S + chance.uniform(*REST_S))
    await asyncio.sleep(LONGEST_S)
    await talk.hang_up(caller)


def judge(options: Options, calls: int, minutes: Minutes) -> Rollovers:
    """Returns what the calls show."""
    moments = [(talked, at_ns) for talked in minutes.calls for at_ns in _moved_ns(talked)]
    complete = [each for talked in minutes.calls for each in talked.played if each.answer.completed_ns is not None]
    everything = sum(len(talked.played) for talked in minutes.calls)
    heard = [compared(each) for each in complete]
    return Rollovers(
        options=options,
        calls=calls,
        rollovers=len(moments),
        during_answers=sum(hears(talked.played, at_ns) for talked, at_ns in moments),
        expired=sum(EXPIRED in each.errors for each in minutes.all_dialogues.values()),
        turns=sum(len(talked.ear.said) for talked in minutes.calls),
        answers=len(complete),
        broken_off=everything - len(complete),
        missing_ms=sum(missing for missing, _ in heard) / PER_MS,
        repeated_ms=sum(repeated for _, repeated in heard) / PER_MS,
        lost_calls=minutes.lost_calls,
        load=minutes.load,
    )


def compared(played: Played) -> tuple[int, int]:
    """Returns how many samples of an answer were never heard, and how many again.

    Of an answer that the caller spoke over, as happens where another one was asked for, only what the model was told.
    """
    told_ms = played.answer.truncations_ms
    times = np.zeros(min([len(played.answer.audio), *(PER_MS * told for told in told_ms)]), np.int64)
    for sound in played.sounds:
        times[sound.begin : sound.end] += 1
    return int((times == 0).sum()), int((times - 1).clip(0).sum())


def hears(played: Sequence[Played], at_ns: int) -> bool:
    """Says whether the caller was hearing an answer at a moment."""
    return any(_within(sound, at_ns) for each in played for sound in each.sounds)


def _within(sound: Sound, at_ns: int) -> bool:
    return sound.first_ns <= at_ns <= sound.last_ns


def _moved_ns(talked: Talked) -> list[int]:
    return [at_ms * 1_000_000 for name, at_ms in talked.record.marks if name == "session_resumed"]
