"""What was said over the WebSockets, read from the simulator's trace: turns, answers with their audio, truncations.

It only reads. Times are those of the simulator, Unix time in ns; audio is G.711. (`trace.py` tells when which audio
passed, and nothing else.)
"""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_APPEND = b'"input_audio_buffer.append"'
_HEAD = 64
"""Within so many bytes a message says what it is an append."""


@dataclass(slots=True)
class Answer:
    """One response with audio."""

    response_id: str
    item_id: str
    begun_ns: int
    """Its first audio was sent."""
    audio: bytearray = field(default_factory=bytearray)
    """All that was sent of it."""
    completed_ns: int | None = None
    """It was sent to its end; None when it was cancelled or lost."""
    truncations_ms: list[int] = field(default_factory=list)
    """What the client said was heard of it."""


@dataclass(slots=True)
class Dialogue:
    """One session."""

    ready_ns: int | None = None
    """session.updated."""
    speech_started_ns: list[int] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    """Codes of the error events it was sent."""

    def take(self, at_ns: int, message: dict[str, Any]) -> None:
        """Takes a message."""
        if (taking := _TAKING.get(message["type"])) is not None:
            taking(self, at_ns, message)

    def _updated(self, at_ns: int, _message: dict[str, Any]) -> None:
        self.ready_ns = self.ready_ns or at_ns

    def _speech_started(self, at_ns: int, _message: dict[str, Any]) -> None:
        self.speech_started_ns.append(at_ns)

    def _audio(self, at_ns: int, message: dict[str, Any]) -> None:
        if not self.answers or self.answers[-1].response_id != message["response_id"]:
            self.answers.append(Answer(message["response_id"], message["item_id"], at_ns))
        self.answers[-1].audio += base64.b64decode(message["delta"])

    def _done(self, at_ns: int, message: dict[str, Any]) -> None:
        response = message["response"]
        for answer in self.answers:
            if answer.response_id == response["id"] and response["status"] == "completed":
                answer.completed_ns = at_ns

    def _truncated(self, _at_ns: int, message: dict[str, Any]) -> None:
        for answer in self.answers:
            if answer.item_id == message["item_id"]:
                answer.truncations_ms.append(message["audio_end_ms"])

    def _error(self, _at_ns: int, message: dict[str, Any]) -> None:
        self.errors.append(str(message["error"]["code"]))


_TAKING: dict[str, Callable[[Dialogue, int, dict[str, Any]], None]] = {
    "session.updated": Dialogue._updated,
    "input_audio_buffer.speech_started": Dialogue._speech_started,
    "response.audio.delta": Dialogue._audio,
    "response.done": Dialogue._done,
    "conversation.item.truncate": Dialogue._truncated,
    "error": Dialogue._error,
}


def read(path: Path) -> dict[str, Dialogue]:
    """Returns the sessions of a trace (see simulator/README.md), by id."""
    sessions: dict[str, Dialogue] = {}
    with path.open("rb") as file:
        for line in file:
            at_ns, session, _, text = line.split(b" ", 3)
            known = sessions.setdefault(session.decode(), Dialogue())
            if _APPEND not in text[:_HEAD]:
                known.take(int(at_ns), json.loads(text))
    return sessions
