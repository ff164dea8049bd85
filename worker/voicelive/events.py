"""The Voice Live server events that a call acts on, decoded straight from the wire.

It does not model what the call ignores: every other event type decodes to `Other`. Audio is decoded from base64 into
bytes in the same pass, which costs a tenth of what the SDK's typed models do.
"""

from typing import get_args

import msgspec


class _Event(msgspec.Struct, frozen=True, tag_field="type", gc=False):
    """A server event; the class's tag is the `type` on the wire."""


class TurnDetectionInfo(msgspec.Struct, frozen=True):
    """The part of a session's turn detection that times are worked out with."""

    silence_duration_ms: float | None = None


class SessionInfo(msgspec.Struct, frozen=True):
    """What a call needs to know of its session."""

    id: str = ""
    turn_detection: TurnDetectionInfo | None = None
    expires_at: float | None = None
    """Unix time in s at which the service will end the session."""


class SessionCreated(_Event, frozen=True, tag="session.created"):
    """The connection stands; the session still has the service's defaults."""

    session: SessionInfo


class SessionUpdated(_Event, frozen=True, tag="session.updated"):
    """The service has accepted our session.update."""

    session: SessionInfo


class ErrorInfo(msgspec.Struct, frozen=True):
    """The body of an error event. `message` may quote the conversation: it is never logged."""

    type: str | None = None
    code: str | None = None
    param: str | None = None
    event_id: str | None = None
    """Of the client event that was refused, if it had one."""


class Error(_Event, frozen=True, tag="error"):
    """Something we sent was refused; the session goes on."""

    error: ErrorInfo


class SpeechStarted(_Event, frozen=True, tag="input_audio_buffer.speech_started"):
    """The caller began to speak."""

    item_id: str
    audio_start_ms: int


class SpeechStopped(_Event, frozen=True, tag="input_audio_buffer.speech_stopped"):
    """The caller stopped speaking."""

    item_id: str
    audio_end_ms: int


class InputTokens(msgspec.Struct, frozen=True):
    """Tokens by kind; those of `cached_tokens_details` are among them."""

    text_tokens: int = 0
    audio_tokens: int = 0
    cached_tokens: int = 0
    cached_tokens_details: "InputTokens | None" = None


class OutputTokens(msgspec.Struct, frozen=True):
    """Tokens by kind."""

    text_tokens: int = 0
    audio_tokens: int = 0


class UsageInfo(msgspec.Struct, frozen=True):
    """What a response cost, in tokens."""

    input_token_details: InputTokens | None = None
    output_token_details: OutputTokens | None = None


class ResponseInfo(msgspec.Struct, frozen=True):
    """Which response, and how it went."""

    id: str
    status: str | None = None
    usage: UsageInfo | None = None


class ResponseCreated(_Event, frozen=True, tag="response.created"):
    """The model begins an answer."""

    response: ResponseInfo


class AudioDelta(_Event, frozen=True, tag="response.audio.delta"):
    """A piece of the answer's audio, in the session's output format."""

    response_id: str
    item_id: str
    delta: bytes


class AudioDone(_Event, frozen=True, tag="response.audio.done"):
    """The answer's audio is complete."""

    response_id: str
    item_id: str


class TranscriptDelta(_Event, frozen=True, tag="response.audio_transcript.delta"):
    """A few words of the answer; they may come long before their audio."""

    response_id: str
    item_id: str
    delta: str


class TranscriptDone(_Event, frozen=True, tag="response.audio_transcript.done"):
    """The answer's words."""

    response_id: str
    item_id: str
    transcript: str


class OutputItem(msgspec.Struct, frozen=True):
    """One thing a response consists of: a message, a function call, or something of the service's own."""

    id: str
    type: str | None = None
    name: str = ""
    call_id: str = ""
    arguments: str = ""


class ItemCreated(_Event, frozen=True, tag="conversation.item.created"):
    """The conversation has one more item, ours or the service's."""

    item: OutputItem


class OutputItemDone(_Event, frozen=True, tag="response.output_item.done"):
    """One output of a response is complete."""

    response_id: str
    item: OutputItem


class CallerTranscript(_Event, frozen=True, tag="conversation.item.input_audio_transcription.completed"):
    """What the caller said. May come twice for an item, the second time empty."""

    item_id: str
    transcript: str


class CallerTranscriptFailed(_Event, frozen=True, tag="conversation.item.input_audio_transcription.failed"):
    """What the caller said was not understood."""

    item_id: str


class ResponseDone(_Event, frozen=True, tag="response.done"):
    """The answer is complete, cancelled or failed."""

    response: ResponseInfo


class Other(msgspec.Struct, frozen=True):
    """An event that no call acts on."""

    type: str = ""


ServerEvent = (
    SessionCreated
    | SessionUpdated
    | Error
    | SpeechStarted
    | SpeechStopped
    | ResponseCreated
    | AudioDelta
    | AudioDone
    | TranscriptDelta
    | TranscriptDone
    | ItemCreated
    | OutputItemDone
    | CallerTranscript
    | CallerTranscriptFailed
    | ResponseDone
)

_decoder = msgspec.json.Decoder(ServerEvent)
_other_decoder = msgspec.json.Decoder(Other)


class MalformedEvent(ValueError):
    """What arrived is not JSON, not an object, or lacks what its type must have."""


_KNOWN = frozenset(event.__struct_config__.tag for event in get_args(ServerEvent))


def decode(text: str | bytes) -> ServerEvent | Other:
    """Returns the event in one WebSocket message; raises MalformedEvent for what is none."""
    try:
        event: ServerEvent = _decoder.decode(text)
        return event
    except msgspec.DecodeError as error:
        return _decode_other(text, error)


def _decode_other(text: str | bytes, cause: msgspec.DecodeError) -> Other:
    try:
        other = _other_decoder.decode(text)
    except msgspec.DecodeError as error:
        raise MalformedEvent(str(error)) from error
    if other.type in _KNOWN:
        raise MalformedEvent(f"{other.type}: {cause}") from cause
    return other
