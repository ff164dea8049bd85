"""What a barge-in costs, and whether the model is told the truth about what was heard.

    truncate error   audio_end_ms of the truncation <-> the last sample of that answer in RTP that reached the caller
    flush            speech_started leaves the model -> the last packet of the old answer has reached the caller

Answers are 2 to 20 s long and the caller speaks at any moment of them. What the caller heard is read from the audio
itself: the answers are `Recordings`, of which every millisecond tells where it belongs.
"""

import asyncio
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.callers import Caller
from bench.density import Load, load_json
from bench.figures import spread, summary
from bench.load.clips import RATE
from bench.positions import Recordings
from bench.progress import Progress
from bench.rig import RigError
from bench.talk import BURST_S, Minutes, Played, Talk, hold

SHORTEST_S, LONGEST_S = 2.0, 20.0

AT_ONCE = 20
"""Calls."""

FIRST_AUDIO_S = 0.2
"""How long the model thinks; in no figure."""

JITTER_S = 0.05
"""How late speech_started and answers come, at random: else all would meet the same moment of the bridge's clock."""

TURN_S = BURST_S + 0.5 + FIRST_AUDIO_S + JITTER_S
"""From the start of a burst to the answer's first audio, about: 0.5 s of silence end a turn."""

BAR_MS = 40.0
"""What both figures are to stay under: two packets."""

SPARE = 2
"""Bursts of each call beyond its share: the first one starts the conversation, and some meet the end of an answer."""

PER_MS = RATE // 1000


@dataclass(frozen=True, slots=True)
class Options:
    """How many barge-ins, at least, and which chance."""

    count: int = 200
    seed: int = 1


@dataclass(frozen=True, slots=True)
class BargeIns:
    """The result."""

    options: Options
    calls: int
    truncate_error_ms: list[float]
    flush_ms: list[float]
    protocol_errors: int
    untold: int
    """Answers of which the caller did not hear the end, and the model was not told."""
    lost_calls: int
    load: Load

    def as_json(self) -> dict[str, Any]:
        """Returns the result as plain values."""
        return {
            "count": len(self.truncate_error_ms),
            "calls": self.calls,
            "seed": self.options.seed,
            "truncate_error_ms": summary(self.truncate_error_ms),
            "flush_ms": summary(self.flush_ms),
            "protocol_errors": self.protocol_errors,
            "untold": self.untold,
            "lost_calls": self.lost_calls,
            "spread": {
                "truncate_error_ms": spread(self.truncate_error_ms, BAR_MS),
                "flush_ms": spread(self.flush_ms, BAR_MS),
            },
            "load": load_json(self.load),
        }


@dataclass(frozen=True, slots=True)
class Interrupted:
    """One answer that the caller spoke over."""

    error_ms: float
    flush_ms: float


async def run(options: Options, directory: Path, progress: Progress) -> BargeIns:
    """Measures; raises RigError when there were too few barge-ins, or the load side was saturated."""
    calls = min(AT_ONCE, options.count)
    bursts = math.ceil(options.count / calls) + SPARE
    chance = random.Random(options.seed)
    answers = [chance.uniform(SHORTEST_S, LONGEST_S) for _ in range(bursts)]
    recordings = await asyncio.to_thread(Recordings, answers, options.seed)

    async def conduct(talk: Talk) -> None:
        progress.say(f"{calls} calls with {bursts} bursts each")
        async with asyncio.TaskGroup() as group:
            for caller in talk.callers.up:
                group.create_task(_interrupt(talk, caller, answers, random.Random(f"{options.seed} {caller.number}")))

    progress.say("barge-in: starting the pool")
    model = ["--first-audio", str(FIRST_AUDIO_S), "--jitter", str(JITTER_S)]
    minutes = await hold(calls, recordings, model, directory, conduct)
    progress.say("comparing what was heard with what the model was told")
    return judge(options, calls, minutes)


async def _interrupt(talk: Talk, caller: Caller, answers: Sequence[float], chance: random.Random) -> None:
    """Speaks again and again while the model does; `answers` are the lengths of what it says, in s."""
    await asyncio.sleep(chance.uniform(0.0, 2.0))
    for length_s in answers:
        await talk.say(caller)
        await asyncio.sleep(TURN_S + chance.uniform(0.02, 0.98) * length_s)
    await talk.hang_up(caller)


def judge(options: Options, calls: int, minutes: Minutes) -> BargeIns:
    """Returns what the calls show; raises RigError when they show too few barge-ins."""
    interrupted: list[Interrupted] = []
    untold = 0
    for talked in minutes.calls:
        started_ns = sorted(at for each in talked.dialogues for at in each.speech_started_ns)
        cut, missed = interruptions(talked.played, started_ns)
        interrupted += cut
        untold += missed
    if len(interrupted) < options.count:
        raise RigError(f"only {len(interrupted)} of {options.count} barge-ins were seen: calls went otherwise")
    return BargeIns(
        options=options,
        calls=calls,
        truncate_error_ms=[each.error_ms for each in interrupted],
        flush_ms=[each.flush_ms for each in interrupted],
        protocol_errors=sum(len(each.errors) for each in minutes.all_dialogues.values()),
        untold=untold,
        lost_calls=minutes.lost_calls,
        load=minutes.load,
    )


def interruptions(played: Sequence[Played], started_ns: Sequence[int]) -> tuple[list[Interrupted], int]:
    """Returns the answers of a call that were spoken over, and how many were cut without the model being told.

    `started_ns` is when the model said that the caller began to speak, in order.
    """
    found: list[Interrupted] = []
    untold = 0
    for each in played:
        spoken_over_ns = next((at for at in started_ns if at > each.answer.begun_ns), None)
        if spoken_over_ns is None:
            continue  # the call was over before
        if not each.answer.truncations_ms:
            untold += each.heard < len(each.answer.audio)
            continue
        last_ns = max((sound.last_ns for sound in each.sounds), default=spoken_over_ns)
        error_ms = abs(each.answer.truncations_ms[-1] - each.heard / PER_MS)
        found.append(Interrupted(error_ms, max(0.0, (last_ns - spoken_over_ns) / 1e6)))
    return found, untold
