"""Calls in which a caller says something now and then and the model answers with recordings, kept from both sides.

    caller    bursts of a tone, at moments that the benchmark chooses; every packet both ways is kept
    model     plays `Recordings` in turn; every message is in its trace

What was to be expected of them is the benchmark's business.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench import dialogue
from bench.audio_call import of_packets
from bench.callers import Caller, Callers
from bench.density import Load, LoadWatch
from bench.dialogue import Answer, Dialogue
from bench.load.clips import PCMU, encode, tone
from bench.load.packets import VOICED, Capture
from bench.load.sip import Refused
from bench.positions import Recordings
from bench.rig import PoolOptions, Rig, RigError, pool
from shared.ids import CallId
from shared.messages import CallRecord

BURST = "burst"
BURST_S = 0.6

AUDIBLE = 33
"""Level from which on a packet counts as sound (-60 dBFS): below it is the tail of a filler's note."""

RAMP_PER_S = 10.0
"""New calls per second."""


@dataclass(frozen=True, slots=True)
class Sound:
    """A part of a recording as it reached the caller; positions are samples."""

    recording: int
    begin: int
    end: int
    first_ns: int
    last_ns: int
    """When the packets with its first and its last sample arrived."""


@dataclass(frozen=True, slots=True)
class Ear:
    """One caller's side of a call; times are Unix time in ns."""

    said: list[tuple[int, int]]
    """First and last packet of each burst."""
    sounds: list[Sound]
    audible_ns: NDArray[np.int64]
    """Every packet with sound in it, of whatever kind."""


@dataclass(frozen=True, slots=True)
class Played:
    """An answer that was a recording, and what the caller heard of it."""

    answer: Answer
    recording: int
    sounds: list[Sound]
    """In order."""

    @property
    def heard(self) -> int:
        """The sample of the answer after the last one heard."""
        return max((sound.end for sound in self.sounds), default=0)


@dataclass(frozen=True, slots=True)
class Talked:
    """One call, when it is over."""

    record: CallRecord
    dialogues: list[Dialogue]
    """Of its sessions, in order."""
    ear: Ear
    played: list[Played]
    """Of all sessions, in order."""


class Talk:
    """Calls that are up."""

    def __init__(self, rig: Rig, callers: Callers) -> None:
        self.rig = rig
        self.callers = callers

    async def say(self, caller: Caller) -> None:
        """Has a caller say a burst, from the next packet on."""
        await self.callers.rtp.play(caller.number, BURST)

    async def hang_up(self, caller: Caller) -> None:
        """Hangs up a call that is done before the others: one in which nothing is said is ended by the worker."""
        await self.callers.hang_up_one(caller)


@dataclass(frozen=True, slots=True)
class Minutes:
    """What is left of all calls."""

    calls: list[Talked]
    lost_calls: int
    """Calls that ended otherwise than by the caller hanging up."""
    all_dialogues: dict[str, Dialogue]
    load: Load


async def hold(
    calls: int,
    recordings: Recordings,
    model: Sequence[str],
    directory: Path,
    conduct: Callable[[Talk], Awaitable[None]],
) -> Minutes:
    """Sets up a pool and the calls, lets `conduct` hold them, hangs up and returns what happened.

    `model` are further options of the simulator. Raises RigError when the load side was saturated, as its times would
    be those of the load then.
    """
    wire = directory / "trace.log"
    files = await asyncio.to_thread(recordings.write, directory)
    simulator = ["--mode", "play", *(word for file in files for word in ("--play", str(file)))]
    simulator += ["--trace", str(wire), *model]
    options = PoolOptions(calls=calls, simulator=simulator)
    captures: dict[CallId, Path] = {}
    async with pool(options, directory) as started:
        async with _up(started, calls, directory, captures) as callers:
            watch = LoadWatch(started, callers.rtp)
            await conduct(Talk(started, callers))
            load = await watch.load()
            await callers.hang_up()
        await started.until_idle(15.0)
        records = {record.call_id: record for record in await started.records(10_000)}
    if load.saturated:
        raise RigError(f"not reported, because the load side was the bottleneck: {load.saturated}")
    return await asyncio.to_thread(_minutes, captures, records, wire, recordings, load)


@asynccontextmanager
async def _up(started: Rig, calls: int, directory: Path, captures: dict[CallId, Path]) -> AsyncIterator[Callers]:
    async with Callers.open(directory, started.dispatcher_port, started.cores.load) as callers:
        await callers.rtp.clip(BURST, tone(440, BURST_S, -10.0))
        await callers.rtp.record(True)
        for _ in range(calls):
            try:
                caller = await callers.call()
            except Refused as refused:
                raise RigError(f"a call was refused: {refused}; {len(captures)} of {calls} calls were up") from refused
            captures[caller.call_id] = await callers.rtp.capture(caller.number)
            await asyncio.sleep(1 / RAMP_PER_S)
        yield callers


def _minutes(
    captures: dict[CallId, Path], records: dict[CallId, CallRecord], wire: Path, recordings: Recordings, load: Load
) -> Minutes:
    dialogues = dialogue.read(wire)
    talked = []
    for call_id, capture in captures.items():
        if (record := records.get(call_id)) is None:
            continue
        sessions = [dialogues[session_id] for session_id in record.sessions if session_id in dialogues]
        ear = listen(Capture.load(capture), recordings)
        answers = [answer for each in sessions for answer in each.answers]
        talked.append(Talked(record, sessions, ear, played(answers, ear.sounds, recordings)))
    kept = sum(each.record.reason == "caller_hangup" for each in talked)
    return Minutes(talked, len(captures) - kept, dialogues, load)


def listen(capture: Capture, recordings: Recordings) -> Ear:
    """Returns what a captured call says of its caller's side."""
    sent, received = capture.sent(), capture.received()
    if not len(received.records):
        return Ear(_bursts(sent.records), [], np.empty(0, np.int64))
    track = of_packets(received)
    found = recordings.find(np.frombuffer(encode(received.samples, PCMU), np.uint8))
    sounds = [
        Sound(
            recording=each.recording,
            begin=each.begin,
            end=each.end,
            first_ns=track.passed_ns(each.at),
            last_ns=track.passed_ns(each.at + each.end - each.begin - 1),
        )
        for each in found
    ]
    loud = received.records["level"] > AUDIBLE
    return Ear(_bursts(sent.records), sounds, np.sort(received.records["time_ns"][loud]).astype(np.int64))


def _bursts(records: NDArray[np.void]) -> list[tuple[int, int]]:
    voiced = np.concatenate([[False], records["level"] > VOICED, [False]])
    begins, ends = np.flatnonzero(~voiced[:-1] & voiced[1:]), np.flatnonzero(voiced[:-1] & ~voiced[1:]) - 1
    times = records["time_ns"]
    return [(int(times[begin]), int(times[end])) for begin, end in zip(begins, ends, strict=True)]


def played(answers: Iterable[Answer], sounds: Sequence[Sound], recordings: Recordings) -> list[Played]:
    """Returns the answers of one call that were recordings, in order, each with what was heard of it.

    A recording that comes again is another answer, and what is heard from its first audio on counts for that one.
    """
    found: list[Played] = []
    latest: dict[int, Played] = {}
    of_recordings = [(answer, number) for answer in answers if (number := recordings.of(answer.audio)) is not None]
    waiting = deque(sorted(of_recordings, key=lambda each: each[0].begun_ns))
    for sound in [*sorted(sounds, key=lambda sound: sound.first_ns), None]:
        while waiting and (sound is None or waiting[0][0].begun_ns <= sound.first_ns):
            answer, number = waiting.popleft()
            latest[number] = Played(answer, number, [])
            found.append(latest[number])
        if sound is not None and sound.recording in latest:
            latest[sound.recording].sounds.append(sound)
    return found
