"""The Voice Live server events that a call acts on, decoded straight from the wire.

It does not model what the call ignores: every other event type decodes to `Other`. Audio is decoded from base64 into
bytes in the same pass, which costs a tenth of what the SDK's typed models do.
"""

from typing import get_args

import msgspec


class _Event(msgspec.Struct, frozen=True, tag_field="type", gc=False):
    """A server event; the class's tag is the `type` on the wire."""


class SessionInfo(msgspec.Struct, frozen=True):
    """What a call needs to know of its session."""

    id: str = ""
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


class ResponseInfo(msgspec.Struct, frozen=True):
    """Which response, and how it went."""

    id: str
    status: str | None = None


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
