"""The call that `audio` judges: the test signal in both directions at once, and what passed at four places.

    caller_sent -> pool -> model_received        caller_received <- pool <- model_sent

It keeps samples and when they passed; what became of them is not its business.
"""

import asyncio
import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import signals
from bench.callers import Callers
from bench.load.clips import PCMU, decode, encode, speech_samples, write_wav
from bench.load.packets import Capture, Stream
from bench.progress import Progress
from bench.rig import PoolOptions, RigError, pool
from bench.signals import Signal

RATE = 24000
TELEPHONE_RATE = 8000
STEP = RATE // TELEPHONE_RATE
FRAME = RATE // 50

PEAK = 32767 * 10 ** (-10 / 20)
"""Of sine and chirp: 10 dB below full scale."""

SINE_HZ = 1019.3
"""Near the 1020 Hz of ITU-T O.6; 1000 Hz would meet the same eight samples over and over, this one meets new ones for
ten seconds."""

SINE_S = 4.0

FIRST_HZ, LAST_HZ, CHIRP_S = 100.0, 3300.0, 5.0

SENTENCES = (
    "The parcel left our warehouse yesterday in the afternoon.",
    "Please hold the line while I look for your order.",
    "Which of these two addresses should we use for the bill?",
    "Seven boxes of fresh cherries are waiting by the door.",
)

PAUSE_S = 0.3

SETTLE_S = 1.5
"""Before the test signal begins in either direction: the jitter buffer has filled, and the capture is on."""


@dataclass(frozen=True)
class ProbeSignal:
    """What is said, at `RATE`; positions are samples at that rate, whole ones at 8 kHz too."""

    samples: Signal
    sine: tuple[int, int]
    chirp: tuple[int, int]
    sentences: tuple[tuple[int, int], ...]

    @classmethod
    def make(cls) -> "ProbeSignal":
        said = [
            signals.sine(SINE_HZ, SINE_S, RATE, PEAK),
            signals.chirp(FIRST_HZ, LAST_HZ, CHIRP_S, RATE, PEAK),
            *(_spoken(text) for text in SENTENCES),
        ]
        pause = np.zeros(round(PAUSE_S * RATE))
        pieces, places, position = [pause], [], len(pause)
        for each in said:
            pieces += [each, pause]
            places.append((position, position + len(each)))
            position += len(each) + len(pause)
        pieces.append(np.zeros(-position % RATE))
        return cls(np.concatenate(pieces), places[0], places[1], tuple(places[2:]))

    @cached_property
    def at_telephone_rate(self) -> Signal:
        """The same at 8 kHz."""
        return signals.resample(self.samples, RATE, TELEPHONE_RATE)

    @cached_property
    def g711(self) -> bytes:
        """The same as PCMU."""
        return encode(whole(self.at_telephone_rate), PCMU)

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.samples) / RATE


def _spoken(text: str) -> Signal:
    spoken = speech_samples(text).astype(np.float64)
    return signals.resample(np.pad(spoken, TELEPHONE_RATE // 10), TELEPHONE_RATE, RATE)


def whole(signal: Signal) -> NDArray[np.int16]:
    """Returns the signal rounded to samples."""
    return np.asarray(np.clip(np.rint(signal), -32768, 32767), dtype=np.int16)


@dataclass(frozen=True)
class Track:
    """Audio as it passed one place, in pieces (packets, messages) that passed at known times."""

    samples: Signal
    rate: int
    begins: NDArray[np.int64]
    """First sample of each piece, rising."""
    times_ns: NDArray[np.int64]

    def passed_ns(self, sample: int) -> int:
        """Returns when the piece with a sample passed."""
        return int(self.times_ns[np.searchsorted(self.begins, sample, side="right") - 1])

    @cached_property
    def resampled(self) -> Signal:
        """The samples at `RATE`."""
        if self.rate == RATE:
            return self.samples
        even = np.pad(self.samples, (0, len(self.samples) % 2))
        return signals.resample(even, self.rate, RATE)


@dataclass(frozen=True, slots=True)
class Heard:
    """One call, at all four places."""

    caller_sent: Track
    caller_received: Track
    model_sent: Track
    """The first answer only; it is the test signal from its first sample on."""
    model_received: Track


async def make_call(name: str, test: ProbeSignal, uplink_ms: int, directory: Path, progress: Progress) -> Heard:
    said, wire = directory / "said.wav", directory / "trace.log"
    pcm = name == "pcm16"
    write_wav(said, whole(test.samples if pcm else test.at_telephone_rate), RATE if pcm else TELEPHONE_RATE)
    model = ("--monologue", "--mode", "play", "--play", str(said), "--pace", "openai")
    simulator = (*model, "--first-audio", str(SETTLE_S), "--trace", str(wire))
    progress.say(f"{name}: starting the pool")
    pool_options = PoolOptions(calls=1, audio_format=name, uplink_ms=uplink_ms, simulator=simulator)
    async with pool(pool_options, directory) as started:
        async with Callers.open(directory, started.dispatcher_port, started.cores.load) as callers:
            await callers.rtp.clip("test", test.g711)
            caller = await callers.call()
            captured = await callers.rtp.capture(caller.number)
            progress.say(f"{name}: caller and model say the test signal, {test.seconds:.0f} s")
            await asyncio.sleep(SETTLE_S)
            await callers.rtp.play(caller.number, "test")
            await asyncio.sleep(test.seconds + 1.0)
            await callers.hang_up()
        await started.until_idle(15.0)
        [record] = await started.records(1)
    capture = await asyncio.to_thread(Capture.load, captured)
    appends, deltas = await asyncio.to_thread(read_trace, wire, record.session_id)
    return Heard(
        caller_sent=of_packets(capture.sent()),
        caller_received=of_packets(capture.received()),
        model_sent=_of_messages(deltas, pcm),
        model_received=_of_messages(appends, pcm),
    )


def of_packets(stream: Stream) -> Track:
    """Returns one direction of a captured call, which must have packets."""
    begins = np.concatenate([[0], np.cumsum(np.diff(stream.records["timestamp"]).astype(np.int32), dtype=np.int64)])
    begins -= begins.min()
    order = np.argsort(begins, kind="stable")
    samples = stream.samples.astype(np.float64)
    return Track(samples, TELEPHONE_RATE, begins[order], stream.records["time_ns"][order])


_Messages = list[tuple[int, bytes]]


def _of_messages(messages: _Messages, pcm: bool) -> Track:
    audio = b"".join(data for _, data in messages)
    samples = np.frombuffer(audio, "<i2") if pcm else decode(audio, PCMU)
    sizes = [len(data) // (2 if pcm else 1) for _, data in messages]
    return Track(
        samples.astype(np.float64),
        RATE if pcm else TELEPHONE_RATE,
        np.cumsum([0, *sizes[:-1]], dtype=np.int64),
        np.array([at_ns for at_ns, _ in messages], dtype=np.int64),
    )


def read_trace(path: Path, wanted: str) -> tuple[_Messages, _Messages]:
    """Returns what a session was sent, and the first answer it gave (see simulator/README.md for the file)."""
    appends, deltas, answer = [], [], ""
    for at_ns, message in _messages(path, wanted):
        if message["type"] == "input_audio_buffer.append":
            appends.append((at_ns, base64.b64decode(message["audio"])))
        elif message["type"] == "response.audio.delta":
            answer = answer or message["response_id"]
            if message["response_id"] == answer:
                deltas.append((at_ns, base64.b64decode(message["delta"])))
    if not appends or not deltas:
        raise RigError(f"the trace has {len(appends)} pieces of the caller's audio and {len(deltas)} of the model's")
    return appends, deltas


def _messages(path: Path, wanted: str) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open("rb") as file:
        for line in file:
            at_ns, session, _, text = line.split(b" ", 3)
            if session.decode() == wanted:
                yield int(at_ns), json.loads(text)
