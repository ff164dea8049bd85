"""Drives a simulated session without sockets, speech synthesis or waiting: a clock that tests turn by hand.

It makes no assertions.
"""

import base64
import json
import random
import wave
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from simulator.voicelive.actions import Action, Render, Send
from simulator.voicelive.audio import AudioFormat, Samples, convert, encode
from simulator.voicelive.behaviour import Behaviour
from simulator.voicelive.ids import Ids
from simulator.voicelive.recordings import Recording
from simulator.voicelive.script import Script
from simulator.voicelive.session import Opening, Session
from simulator.voicelive.wire import encode as encode_event

Event = dict[str, Any]

ULAW = AudioFormat("g711_ulaw", 8000)
G711 = {"input_audio_format": "g711_ulaw", "output_audio_format": "g711_ulaw"}

# What the fake voice makes of a character; a sentence of twenty lasts two seconds.
_MS_PER_CHARACTER = 100

EPOCH_S = 1_700_000_000.0


def tone(ms: float, rate: int = 8000, level: float = 0.2) -> Samples:
    """A voice of sorts: 300 Hz at `level` of full scale."""
    time = np.arange(round(ms * rate / 1000)) / rate
    return np.rint(level * 32767 * np.sin(2 * np.pi * 300 * time)).astype(np.int16)


def noise(ms: float, level_db: float, rate: int = 8000) -> Samples:
    """White noise, `level_db` under full scale."""
    samples = np.random.default_rng(7).normal(0.0, 32768 * 10 ** (level_db / 20), round(ms * rate / 1000))
    return np.clip(np.rint(samples), -32768, 32767).astype(np.int16)


def voice(ms: float, fmt: AudioFormat = ULAW) -> bytes:
    return encode(tone(ms, fmt.rate), fmt)


def silence(ms: float, fmt: AudioFormat = ULAW) -> bytes:
    return encode(np.zeros(round(ms * fmt.rate / 1000), dtype=np.int16), fmt)


def spoken(text: str, fmt: AudioFormat = ULAW) -> bytes:
    """What the fake voice makes of `text`."""
    return encode(tone(len(text) * _MS_PER_CHARACTER, fmt.rate, level=0.1), fmt)


def write_wav(path: Path, samples: Samples, rate: int = 8000, channels: int = 1) -> Path:
    """A 16-bit WAV file with these samples."""
    with wave.open(str(path), "wb") as wav:
        wav.setnchannels(channels)
        wav.setsampwidth(2)
        wav.setframerate(rate)
        wav.writeframes(samples.astype("<i2").tobytes())
    return path


class Drive:
    """A session and its clock. `sent` is everything it sent so far, as JSON would show it, with the time of each."""

    def __init__(
        self,
        model: str | None = "gpt-4.1-mini",
        *,
        behaviour: Behaviour | None = None,
        agent: str | None = None,
        renders: bool = True,
        script: Script | None = None,
    ) -> None:
        self.now = 100.0
        self.sent: list[tuple[float, Event]] = []
        self.other: list[Action] = []
        self.renders = renders
        opening = Opening(model, agent, EPOCH_S - self.now)
        self.session = Session(opening, behaviour or Behaviour(), self.now, Ids(random.Random(1)), script)

    def start(self, **update: object) -> "Drive":
        """Open the session; with keywords, configure it too."""
        self._take(self.session.start(self.now))
        if update:
            self.send("session.update", session=update)
        return self

    def send(self, kind: str, **fields: object) -> list[Event]:
        """Send a client event; what came back at once."""
        return self._new(lambda: self._take(self.session.receive({"type": kind, **fields}, self.now)))

    def append(self, audio: bytes) -> list[Event]:
        """Append audio in one piece, in no time."""
        return self._new(lambda: self._take(self.session.append(audio, self.now)))

    def hear(self, audio: bytes, fmt: AudioFormat = ULAW) -> list[Event]:
        """Append audio in pieces of 20 ms as a telephone does, time going on meanwhile."""
        return self._new(lambda: self._stream(audio, fmt))

    def wait(self, seconds: float) -> list[Event]:
        """Let time pass, every timer at its own time."""
        return self._new(lambda: self._pass(self.now + seconds))

    def settle(self) -> list[Event]:
        """Let time pass until nothing is planned but the session's end, an hour on."""
        return self._new(self._pass_all)

    def say(self, ms: float = 1000.0, pause_ms: float = 700.0) -> list[Event]:
        """A caller's turn in u-law: a voice, then silence that ends it."""
        return self.hear(voice(ms) + silence(pause_ms))

    @property
    def events(self) -> list[Event]:
        return [event for _, event in self.sent]

    def last(self, kind: str) -> Event:
        """The last event of this type."""
        return next(event for event in reversed(self.events) if event["type"] == kind)

    def at(self, kind: str) -> float:
        """When the last event of this type was sent."""
        return next(when for when, event in reversed(self.sent) if event["type"] == kind)

    def _new(self, act: Callable[[], None]) -> list[Event]:
        before = len(self.sent)
        act()
        return self.events[before:]

    def _stream(self, audio: bytes, fmt: AudioFormat) -> None:
        step = 20 * fmt.bytes_per_ms
        for at in range(0, len(audio), step):
            self._pass(self.now + 0.02)
            self._take(self.session.append(audio[at : at + step], self.now))

    def _pass(self, until: float) -> None:
        while (wake := self.session.next_wake) is not None and wake <= until:
            self.now = max(self.now, wake)
            self._take(self.session.advance(self.now))
        self.now = until

    def _pass_all(self) -> None:
        while (wake := self.session.next_wake) is not None and wake < self.now + 600:
            self._pass(wake)

    def _take(self, actions: Iterable[Action]) -> None:
        for action in actions:
            if isinstance(action, Send):
                self.sent.append((self.now, json.loads(encode_event(action.event))))
            elif isinstance(action, Render) and self.renders:
                self._take(self.session.rendered(action.ref, _render(action), self.now))
            else:
                self.other.append(action)


def _render(action: Render) -> bytes:
    if isinstance(action.source, str):
        return spoken(action.source, action.to)
    clip = action.source.clip if isinstance(action.source, Recording) else action.source
    return convert(clip, action.to)


def types(events: Iterable[Event]) -> list[str]:
    """The event types, runs of equal ones written once (deltas come in any number)."""
    kinds: list[str] = []
    for event in events:
        if not kinds or kinds[-1] != event["type"]:
            kinds.append(event["type"])
    return kinds


def audio_of(events: Iterable[Event]) -> bytes:
    """The audio in the deltas, joined."""
    return b"".join(base64.b64decode(e["delta"]) for e in events if e["type"] == "response.audio.delta")
