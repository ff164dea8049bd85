"""Text frames to events and back. Does not look into events.

`input_audio_buffer.append` comes fifty times a second per call, so it is decoded straight into bytes, without a model
or a dict; everything else is plain JSON.
"""

from typing import Any

import msgspec

# Where in a frame its type is looked for; a client writes it first, or last after the audio.
_SNIFF = 120

_APPEND = "input_audio_buffer.append"


class Append(msgspec.Struct):
    """`input_audio_buffer.append`, its audio decoded from base64."""

    type: str
    audio: bytes


_append_decoder = msgspec.json.Decoder(Append)
_encoder = msgspec.json.Encoder()


def decode(text: str) -> object:
    """The event in a text frame: an Append, or decoded JSON; None when it is not JSON at all."""
    if _APPEND in text[:_SNIFF] or _APPEND in text[-_SNIFF:]:
        try:
            append = _append_decoder.decode(text)
        except msgspec.MsgspecError:
            return _plain(text)
        return append if append.type == _APPEND else _plain(text)
    return _plain(text)


def encode(event: dict[str, Any]) -> bytes:
    """The text frame of an event; bytes in it become base64."""
    return _encoder.encode(event)


def _plain(text: str) -> object:
    try:
        return msgspec.json.decode(text)
    except msgspec.MsgspecError:
        return None
