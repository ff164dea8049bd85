"""Client events as bytes on the wire: masked WebSocket text frames.

It sends nothing. Each call makes up to 50 `input_audio_buffer.append` a second, so that there is one pass over the
audio and no object beside the bytes:

    audio -> base64 -> {"type":"input_audio_buffer.append","audio":"..."} -> XOR with the mask -> frame
"""

import binascii
import secrets
from typing import Any

import msgspec
from aiohttp._websocket.helpers import websocket_mask  # in C; the pure Python ways cost twice as much as all the rest

_HEAD = b'{"type":"input_audio_buffer.append","audio":"'
_TAIL = b'"}'

_FIN_TEXT = b"\x81"
_MASKED = 0x80
_LENGTH_16, _LENGTH_64 = 126, 127


def append_frame(audio: bytes) -> bytes:
    """Returns the frame of an append with this audio."""
    return _frame(bytearray(_HEAD + binascii.b2a_base64(audio, newline=False) + _TAIL))


def event_frame(event: dict[str, Any]) -> bytes:
    """Returns the frame of any other client event."""
    return _frame(bytearray(msgspec.json.encode(event)))


def _frame(payload: bytearray) -> bytes:
    """Returns the frame, as a client has to send it (RFC 6455 sections 5.2 and 5.3); `payload` is masked in place."""
    length = len(payload)
    if length < _LENGTH_16:
        header = bytes((_MASKED | length,))
    elif length < 65_536:
        header = bytes((_MASKED | _LENGTH_16,)) + length.to_bytes(2)
    else:
        header = bytes((_MASKED | _LENGTH_64,)) + length.to_bytes(8)
    mask = _masks.take()
    websocket_mask(mask, payload)
    return b"".join((_FIN_TEXT, header, mask, payload))


class _Masks:
    """Masking keys nobody can predict, from the system in bulk: a call of the system for each frame would cost more."""

    def __init__(self) -> None:
        self._pool = b""
        self._next = 0

    def take(self) -> bytes:
        if self._next == len(self._pool):
            self._pool, self._next = secrets.token_bytes(4096), 0
        self._next += 4
        return self._pool[self._next - 4 : self._next]


_masks = _Masks()
