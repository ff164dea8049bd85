"""The conversation's rules: Voice Live events in, actions out.

It does no IO and knows no clock, socket, SIP or audio device, so every case is a three-line test.

    connected -> session.update -> session.updated -> Ready (and the greeting is asked for)
    speech_started  -> the playout is flushed, whatever is still coming of the old answer is dropped
    audio.delta     -> played, unless its answer was cut off
    playout flushed -> conversation.item.truncate: the model learns how much of each answer was heard
"""

from dataclasses import dataclass, field
from typing import Any

from worker.voicelive import events


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What a session is set up with."""

    voice: str
    instructions: str
    audio_format: str
    """Both ways, in Voice Live's words: pcm16, g711_ulaw or g711_alaw."""
    audio_rate: int
    """Samples per second."""
    greeting: str = ""
    """Spoken word for word before the caller speaks; empty is no greeting."""
    max_output_tokens: int | None = None
    auto_truncate: bool = False
    """Whether the service works out by itself what the caller heard of an answer, from when it sent it."""


@dataclass(frozen=True, slots=True)
class UpdateSession:
    """Send session.update with this session."""

    session: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Send:
    """Send this client event."""

    message: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ready:
    """The session is set up: the call may be answered."""

    session_id: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The session cannot be set up as asked; `param` names what the service objects to."""

    code: str
    param: str


@dataclass(frozen=True, slots=True)
class Play:
    """Queue this audio of an item for the caller."""

    item_id: str
    audio: bytes


@dataclass(frozen=True, slots=True)
class FinishAnswer:
    """The answer's audio is complete: running empty now is no underrun."""


@dataclass(frozen=True, slots=True)
class FlushPlayout:
    """Drop what the caller has not heard yet, and say what it was: `Session.cut_off`."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something worth a line in the call's timeline happened."""

    name: str


Action = UpdateSession | Send | Ready | Refused | Play | FinishAnswer | FlushPlayout | Mark


@dataclass(slots=True)
class Session:
    """One Voice Live session, from its first event to its last."""

    options: SessionOptions
    ready: bool = False
    errors: int = 0
    """Error events received after set-up."""
    _response: str = ""
    """The answer that is being generated."""
    _cut_off: set[str] = field(default_factory=set)
    """Answers the caller spoke over; what is still on its way of them is not played."""
    _awaits_audio: str = ""
    """Mark to set at the next first audio: `greeting_audio` or `answer_audio`."""

    def receive(self, event: events.ServerEvent | events.Other) -> list[Action]:
        """Returns what is to be done about `event`, in order."""
        match event:
            case events.AudioDelta():
                return self._audio(event)
            case events.SessionCreated():
                return [Mark("connected"), UpdateSession(session_update(self.options))]
            case events.SessionUpdated():
                return self._updated(event)
            case events.SpeechStarted():
                return self._speech_started()
            case events.SpeechStopped():
                self._awaits_audio = "answer_audio"
                return [Mark("speech_stopped")]
            case events.ResponseCreated():
                self._response = event.response.id
                return []
            case events.AudioDone():
                return [] if event.response_id in self._cut_off else [FinishAnswer()]
            case events.ResponseDone():
                return self._response_done(event)
            case events.Error():
                return self._error(event)
            case _:
                return []

    def cut_off(self, item_id: str, heard_ms: int) -> list[Action]:
        """Returns what is to be done when an item's audio was dropped after `heard_ms` of it had been heard."""
        return [] if self.options.auto_truncate else [Send(truncation(item_id, heard_ms))]

    def _updated(self, event: events.SessionUpdated) -> list[Action]:
        if self.ready:
            return []
        self.ready = True
        actions: list[Action] = [Mark("session_ready"), Ready(event.session.id)]
        if self.options.greeting:
            self._awaits_audio = "greeting_audio"
            actions.append(Send(greeting_request(self.options.greeting)))
        return actions

    def _audio(self, event: events.AudioDelta) -> list[Action]:
        if event.response_id in self._cut_off:
            return []
        actions: list[Action] = [Play(event.item_id, event.delta)]
        if self._awaits_audio:
            actions.insert(0, Mark(self._awaits_audio))
            self._awaits_audio = ""
        return actions

    def _speech_started(self) -> list[Action]:
        # Audio arrives far faster than it is heard: the playout may hold a whole answer whose response is long done,
        # so it is flushed whether or not one is active. The service cancels an active one itself (interrupt_response).
        if self._response:
            self._cut_off.add(self._response)
        return [Mark("speech_started"), FlushPlayout()]

    def _response_done(self, event: events.ResponseDone) -> list[Action]:
        self._cut_off.discard(event.response.id)
        if self._response == event.response.id:
            self._response = ""
        return []

    def _error(self, event: events.Error) -> list[Action]:
        if not self.ready:
            return [Refused(event.error.code or event.error.type or "unknown", event.error.param or "")]
        if not _harmless(event.error):
            self.errors += 1
        return []


def session_update(options: SessionOptions) -> dict[str, Any]:
    """Returns the whole `session` of session.update: the service treats each update as a replacement."""
    session: dict[str, Any] = {
        "modalities": ["text", "audio"],
        "voice": voice(options.voice),
        "instructions": options.instructions,
        "input_audio_format": options.audio_format,
        "input_audio_sampling_rate": options.audio_rate,
        "output_audio_format": options.audio_format,
        "turn_detection": {
            "type": "azure_semantic_vad",
            "interrupt_response": True,
            "create_response": True,
            "auto_truncate": options.auto_truncate,
        },
        "input_audio_transcription": {"model": "azure-speech"},
    }
    if options.max_output_tokens is not None:
        session["max_response_output_tokens"] = options.max_output_tokens
    return session


_TRUNCATION = "truncate:"
"""Begins the event ids of truncations, by which an error that answers one is known."""


def truncation(item_id: str, heard_ms: int) -> dict[str, Any]:
    """Returns the conversation.item.truncate that leaves of an item what was heard."""
    return {
        "type": "conversation.item.truncate",
        "event_id": f"{_TRUNCATION}{item_id}",
        "item_id": item_id,
        "content_index": 0,
        "audio_end_ms": heard_ms,
    }


def _harmless(error: events.ErrorInfo) -> bool:
    """Whether an error only says that the service was faster: the answer was over, or shorter than what was heard."""
    return error.code == "response_cancel_not_active" or (error.event_id or "").startswith(_TRUNCATION)


def voice(name: str) -> dict[str, str]:
    """Returns the `voice` of that name: Azure voices carry their locale (en-US-AvaNeural), OpenAI's are one word."""
    return {"type": "azure-standard" if "-" in name else "openai", "name": name}


def greeting_request(text: str) -> dict[str, Any]:
    """Returns the response.create that has `text` spoken word for word, without asking the model."""
    message = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": text}]}
    return {"type": "response.create", "response": {"pre_generated_assistant_message": message}}
