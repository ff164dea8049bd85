"""SIP messages cut out of a byte stream (RFC 3261 section 18.3), and the keep-alives of RFC 5626 section 4.4.1.

It reads nothing of a message but where it ends. And it is strict: whoever loses count in a stream takes the words of
one caller for the headers of another.
"""

import re

from dispatcher.sip.grammar import TOKEN, Malformed
from dispatcher.sip.message import MAX_BYTES

PING = b"\r\n\r\n"
"""What a peer sends between messages to see whether the connection is there."""

PONG = b"\r\n"
"""The answer to it."""

SKIPPED_MAX = 262_144
"""Bytes of a message too long for us that are read past to reach the next one."""

_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\n(?:content-length|l)[ \t]*:([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)", re.IGNORECASE)
_DIGITS_MAX = 9


class Framer:
    """One direction of a connection: bytes go in, messages come out, the same ones however the bytes were split."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0
        """Bytes of the buffer in which no head ends."""
        self._length = 0
        """Of the message at the front of the buffer, once its head is there."""
        self._skipping = 0

    @property
    def unfinished(self) -> bool:
        """Whether a message has begun and not ended."""
        return bool(self._skipping or (self._buffer and self._buffer[0] not in PING))

    def feed(self, data: bytes | memoryview) -> None:
        """Takes what was read."""
        self._buffer += data

    def next(self) -> bytes | None:
        """Returns the next message, or PING, or None until there is more; raises Malformed where no message can be.

        Of one longer than MAX_BYTES, which nobody takes, only the beginning is returned: MAX_BYTES and one more.
        """
        if self._skipping:
            skipped = min(self._skipping, len(self._buffer))
            del self._buffer[:skipped]
            self._skipping -= skipped
        while self._buffer and not self._skipping:
            if self._buffer[0] not in PING:
                return self._message()
            if self._buffer.startswith(PING):
                return self._cut(len(PING))
            if PING.startswith(self._buffer):
                return None
            if not self._buffer.startswith(PONG):
                raise Malformed("line end")
            del self._buffer[: len(PONG)]  # a PONG, or a line end too many (RFC 3261 section 7.5)
        return None

    def _message(self) -> bytes | None:
        if not self._length and not self._find_length():
            return None
        taken = min(self._length, MAX_BYTES + 1)
        if len(self._buffer) < taken:
            return None
        self._skipping = self._length - taken
        self._length = self._searched = 0
        return self._cut(taken)

    def _find_length(self) -> bool:
        if self._buffer[0] not in TOKEN:
            raise Malformed("not SIP")  # a TLS handshake, for one
        end = self._buffer.find(_END_OF_HEAD, max(0, self._searched - len(_END_OF_HEAD)))
        self._searched = len(self._buffer)
        head = self._searched + 1 if end < 0 else end + len(_END_OF_HEAD)
        if head > MAX_BYTES:
            raise Malformed("headers never end")
        if end < 0:
            return False
        self._length = head + _content_length(bytes(self._buffer[:end]))
        return True

    def _cut(self, length: int) -> bytes:
        data = bytes(self._buffer[:length])
        del self._buffer[:length]
        return data


def _content_length(head: bytes) -> int:
    """Returns how many bytes follow the head. No header but this one may say so, and it has to (section 20.14)."""
    if head.count(b"\n") != head.count(b"\r\n"):
        raise Malformed("line end")
    found = _LENGTH.findall(head)
    if len(found) != 1:
        raise Malformed("Content-Length twice" if found else "no Content-Length")
    value = found[0].strip()
    if not value.isdigit() or len(value) > _DIGITS_MAX or int(value) > SKIPPED_MAX:
        raise Malformed("Content-Length")
    return int(value)
