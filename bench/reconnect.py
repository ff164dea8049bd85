"""What callers hear when their connection to the model breaks, at any moment: while they speak, wait, listen, or rest.

    gap          the longest silence a waiting caller hears around the break
    reconnect    the connection is reset -> the next session of the call is ready

A turn is under way from the caller's first word until the model has sent the answer to its end. When the connection
breaks in that time, the caller waits: from the break on, or from their own last word when they are still speaking,
until the first sound of the answer that the new session gives. The gap is the longest time in there without a packet
that has sound in it, be it of the filler, or of what had already arrived of the old answer.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from numpy.typing import NDArray

from bench.callers import Caller
from bench.density import Load, load_json
from bench.figures import spread, summary
from bench.positions import Recordings
from bench.progress import Progress
from bench.rig import Rig, RigError
from bench.talk import Minutes, Played, Talk, Talked, hold

AT_ONCE = 50
"""Calls."""

SHORTEST_S, LONGEST_S = 3.0, 5.0
RECORDINGS = 40

SPEED = 2.5
"""How many times faster than heard answers arrive, as from the slower models: more breaks meet one that is arriving."""

CYCLE_S = (8.5, 10.0)
"""From one burst to the next: time for a turn that is broken, and a little rest."""

BREAKS_PER_S = 1.5

BAR_MS = 1500.0
"""What 95 % of the gaps are to stay under."""

RESET = 1006
"""Close code of a connection that was reset."""


@dataclass(frozen=True, slots=True)
class Options:
    """How many breaks, and which chance."""

    count: int = 100
    seed: int = 1


@dataclass(slots=True)
class Breaks:
    """What the breaks of some calls did."""

    count: int = 0
    gap_ms: list[float] = field(default_factory=list)
    """One for each turn under way that was answered."""
    reconnect_ms: list[float] = field(default_factory=list)
    unanswered: int = 0
    """Turns under way that nothing was said to before the caller spoke again."""


@dataclass(frozen=True, slots=True)
class Reconnects:
    """The result."""

    options: Options
    calls: int
    breaks: Breaks
    lost_calls: int
    load: Load

    def as_json(self) -> dict[str, Any]:
        """Returns the result as plain values."""
        breaks = self.breaks
        return {
            "count": breaks.count,
            "calls": self.calls,
            "seed": self.options.seed,
            "lost_calls": self.lost_calls,
            "gap_ms": summary(breaks.gap_ms),
            "reconnect_ms": summary(breaks.reconnect_ms),
            "turns_under_way": len(breaks.gap_ms) + breaks.unanswered,
            "answered_after": len(breaks.gap_ms),
            "spread": {
                "gap_ms": spread(breaks.gap_ms, BAR_MS),
                "reconnect_ms": spread(breaks.reconnect_ms, 0.0),
            },
            "load": load_json(self.load),
        }


async def run(options: Options, directory: Path, progress: Progress) -> Reconnects:
    """Measures; raises RigError when no turn was under way at any break, or the load side was saturated."""
    calls = min(AT_ONCE, options.count)
    chance = random.Random(options.seed)
    lengths = [chance.uniform(SHORTEST_S, LONGEST_S) for _ in range(RECORDINGS)]
    recordings = await asyncio.to_thread(Recordings, lengths, options.seed)
    reset_ns: dict[str, int] = {}

    async def conduct(talk: Talk) -> None:
        progress.say(f"{calls} calls, {options.count} breaks at random moments")
        async with asyncio.TaskGroup() as group:
            talking = [
                group.create_task(_talk(talk, caller, random.Random(f"{options.seed} {caller.number}")))
                for caller in talk.callers.up
            ]
            await asyncio.sleep(CYCLE_S[1])  # then all have begun
            reset_ns.update(await _break(talk.rig, options.count, chance))
            await asyncio.sleep(CYCLE_S[1])  # what was broken goes on
            for task in talking:
                task.cancel()

    progress.say("reconnect: starting the pool")
    model = ["--script-scope", "process", "--realtime-factor", str(SPEED)]
    minutes = await hold(calls, recordings, model, directory, conduct)
    return judge(options, calls, minutes, reset_ns)


async def _talk(talk: Talk, caller: Caller, chance: random.Random) -> None:
    await asyncio.sleep(chance.uniform(0.0, CYCLE_S[1]))
    while True:
        await talk.say(caller)
        await asyncio.sleep(chance.uniform(*CYCLE_S))


async def _break(rig: Rig, count: int, chance: random.Random) -> dict[str, int]:
    """Resets connections one after the other, none in its first cycle; returns when, by session, Unix time in ns."""
    control = rig.simulator_url.replace("ws", "http", 1) + "/simulator"
    broken: set[str] = set()
    closed_ns: dict[str, int] = {}
    async with aiohttp.ClientSession() as http, asyncio.timeout(60.0 + 10 * count):
        while len(broken) < count:
            await asyncio.sleep(chance.uniform(0.0, 2 / BREAKS_PER_S))
            sessions = await _sessions(http, control)
            old_enough = [
                each["id"]
                for each in sessions
                if each["closed"] is None and each["id"] not in broken and _age_s(each) > CYCLE_S[1]
            ]
            if old_enough:
                session = chance.choice(old_enough)
                fault = {"sessions": [{"kind": "abort", "session": session}]}
                async with http.post(f"{control}/faults", json=fault) as answer:
                    answer.raise_for_status()
                broken.add(session)
            # Ended sessions are not remembered for ever.
            closed_ns |= {each["id"]: _closed_ns(each) for each in await _sessions(http, control) if _reset(each)}
        while broken - closed_ns.keys():
            closed_ns |= {each["id"]: _closed_ns(each) for each in await _sessions(http, control) if _reset(each)}
            await asyncio.sleep(0.05)
    return {session: closed_ns[session] for session in broken}


async def _sessions(http: aiohttp.ClientSession, control: str) -> list[dict[str, Any]]:
    async with http.get(f"{control}/sessions") as answer:
        sessions: list[dict[str, Any]] = (await answer.json())["sessions"]
    return sessions


def _age_s(session: dict[str, Any]) -> float:
    return time.time() - float(session["marks"][0]["at_ms"]) / 1000


def _reset(session: dict[str, Any]) -> bool:
    closed = session["closed"]
    return bool(closed and closed["code"] == RESET)


def _closed_ns(session: dict[str, Any]) -> int:
    return round(float(session["closed"]["at_ms"]) * 1e6)


def judge(options: Options, calls: int, minutes: Minutes, reset_ns: dict[str, int]) -> Reconnects:
    """Returns what the calls show; raises RigError when no break met a turn."""
    breaks = Breaks()
    for talked in minutes.calls:
        for session, following in zip(talked.record.sessions, [*talked.record.sessions[1:], ""], strict=True):
            if session not in reset_ns:
                continue
            at_ns = reset_ns[session]
            breaks.count += 1
            after = minutes.all_dialogues.get(following)
            if after is not None and after.ready_ns is not None:
                breaks.reconnect_ms.append((after.ready_ns - at_ns) / 1e6)
            _around(talked, at_ns, breaks)
    if not breaks.gap_ms or not breaks.reconnect_ms:
        raise RigError("no break met a turn that was then answered: the calls did not go as they should")
    return Reconnects(options, calls, breaks, minutes.lost_calls, minutes.load)


def _around(talked: Talked, at_ns: int, breaks: Breaks) -> None:
    waiting = waited(talked.ear.said, talked.played, at_ns)
    if waiting is None:
        return
    begin_ns, end_ns = waiting
    if end_ns is None:
        breaks.unanswered += 1
    else:
        breaks.gap_ms.append(longest_silence_ms(talked.ear.audible_ns, begin_ns, end_ns))


def waited(said: Sequence[tuple[int, int]], played: Sequence[Played], at_ns: int) -> tuple[int, int | None] | None:
    """Returns from when to when the caller waited for an answer because of a break, None when they did not.

    The end is None when nothing was said to them before they spoke again. `said` are the caller's bursts.
    """
    before = [burst for burst in said if burst[0] <= at_ns]
    if not before:
        return None
    begin_ns, end_ns = before[-1]
    if any(begin_ns < (each.answer.completed_ns or at_ns) < at_ns for each in played):
        return None
    next_ns = min((burst[0] for burst in said if burst[0] > at_ns), default=None)
    for each in played:
        if each.answer.begun_ns > at_ns and each.sounds:
            heard_ns = each.sounds[0].first_ns
            return max(at_ns, end_ns), heard_ns if next_ns is None or heard_ns < next_ns else None
    return max(at_ns, end_ns), None


def longest_silence_ms(audible_ns: NDArray[np.int64], begin_ns: int, end_ns: int) -> float:
    """Returns the longest time between two moments in which no packet with sound arrived."""
    between = audible_ns[(audible_ns > begin_ns) & (audible_ns < end_ns)]
    return float(np.diff(np.concatenate([[begin_ns], between, [max(begin_ns, end_ns)]])).max() / 1e6)
