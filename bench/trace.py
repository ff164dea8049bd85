"""What went over the WebSockets, read from the simulator's trace: when which audio was sent and received.

It only reads. Times are those of the simulator: after it has received, before it sends, so that its own delay counts
against the worker.
"""

import base64
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench.load.clips import PCMU, decode
from bench.load.packets import VOICED

_APPEND = b'"input_audio_buffer.append"'
_REQUEST = b'"response.create"'
_DELTA = b'"response.audio.delta"'
_SPEECH_STARTED = b'"input_audio_buffer.speech_started"'


@dataclass(slots=True)
class SessionTrace:
    """One session's moments, Unix time in ns, each list in order."""

    voiced_ns: list[int] = field(default_factory=list)
    """Appends that bring the first voiced audio after silence."""
    answers_ns: list[int] = field(default_factory=list)
    """First audio delta of each response."""
    pcm16: bool = False
    """Whether audio is PCM16 rather than u-law."""
    speech_started_ns: list[int] = field(default_factory=list)
    requests_ns: list[int] = field(default_factory=list)
    """Each response.create of the client."""
    _voiced: bool = False
    _response: str = ""

    def take(self, at_ns: int, inbound: bool, text: bytes) -> None:
        """Takes a message."""
        if inbound:
            if _APPEND in text:
                self._append(at_ns, text)
            elif _REQUEST in text:
                self.requests_ns.append(at_ns)
        elif _DELTA in text:
            self._delta(at_ns, text)
        elif _SPEECH_STARTED in text:
            self.speech_started_ns.append(at_ns)

    def _append(self, at_ns: int, text: bytes) -> None:
        voiced = is_voiced(base64.b64decode(json.loads(text)["audio"]), self.pcm16)
        if voiced and not self._voiced:
            self.voiced_ns.append(at_ns)
        self._voiced = voiced

    def _delta(self, at_ns: int, text: bytes) -> None:
        response = json.loads(text)["response_id"]
        if response != self._response:
            self._response = response
            self.answers_ns.append(at_ns)


def read(path: Path, audio_format: str) -> dict[str, SessionTrace]:
    """Returns the sessions of a trace (see simulator/README.md), by id; their audio is `g711` (u-law) or `pcm16`."""
    sessions: dict[str, SessionTrace] = {}
    with path.open("rb") as file:
        for line in file:
            at_ns, session, direction, text = line.split(b" ", 3)
            known = sessions.setdefault(session.decode(), SessionTrace(pcm16=audio_format == "pcm16"))
            known.take(int(at_ns), direction == b"in", text)
    return sessions


def is_voiced(audio: bytes, pcm16: bool) -> bool:
    """Whether audio, u-law or PCM16, has more than silence in it anywhere."""
    samples = np.frombuffer(audio, np.int16) if pcm16 else decode(audio, PCMU)
    return bool(np.abs(samples.astype(np.int32)).max(initial=0) > VOICED)
