"""Key presses: which of pjsip's reports are new ones, and what an INFO says.

It does not touch pjsua2; `leg.py` does. No digit is logged.
"""

import re

DIGITS = "0123456789*#ABCD"
"""What a telephone can send, in the order of RFC 4733's event codes (section 3.2)."""

PAUSE = ","
"""Stands for PAUSE_S of silence between digits that are sent."""

PAUSE_S = 0.5

TONE_MS = 160
"""Length of a digit that is sent: networks want 40 ms at least, old equipment 100 ms (ITU-T Q.24)."""

GAP_MS = 100
"""From the end of a digit to the next, of which two packets repeat the end."""

_BODY = re.compile(r"application/dtmf(?P<relay>-relay)?\s*(?:;|$)", re.IGNORECASE)
_CONTENT_TYPE = re.compile(r"^(?:Content-Type|c)[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
_SIGNAL = re.compile(r"^[ \t]*Signal[ \t]*=[ \t]*([^\s;]+)", re.IGNORECASE | re.MULTILINE)


class KeyPresses:
    """Decides for one call which reports are new key presses.

    The first way in which a digit comes is the only one that counts from then on: some gateways send each key both as
    RFC 4733 event and as INFO.
    """

    def __init__(self) -> None:
        self._by_info: bool | None = None
        self._last = ("", -1)
        """Digit and timestamp of the last event."""
        self._ended = False

    def event(self, digit: str, timestamp: int, *, update: bool, end: bool) -> bool:
        """Takes pjmedia's report of an RFC 4733 packet and returns whether it begins a new key press.

        pjmedia tells events apart by their duration, which grows: a late packet of the same event looks new to it, and
        the same key pressed again looks old once the packets of its beginning are lost. The RTP timestamp, the same in
        all packets of an event (section 2.3), tells both. It does so only in these cases, because some senders let the
        timestamp grow within an event.
        """
        known, moved = (digit, timestamp) == self._last, timestamp != self._last[1]
        new = (self._ended and moved) if update else not known
        self._last, self._ended = (digit, timestamp), end or (known and self._ended)
        return new and self._takes(by_info=False)

    def info(self) -> bool:
        """Takes an INFO and returns whether it is a new key press; pjsip has absorbed retransmissions."""
        return self._takes(by_info=True)

    def _takes(self, *, by_info: bool) -> bool:
        if self._by_info is None:
            self._by_info = by_info
        return self._by_info is by_info


def info_digit(message: str) -> str:
    """Returns the digit in an INFO, empty when it carries none.

    `application/dtmf-relay` has a line `Signal=5`, `application/dtmf` the digit alone; neither is a standard. Star and
    pound come as such or as the codes 10 and 11.
    """
    head, _, body = message.partition("\r\n\r\n")
    content = _CONTENT_TYPE.search(head)
    kind = _BODY.match(content[1].strip()) if content else None
    if not kind:
        return ""
    signal = _SIGNAL.search(body)
    if kind["relay"] and not signal:
        return ""
    text = (signal[1] if signal else body.strip()).upper()
    code = int(text) if text.isascii() and text.isdecimal() and len(text) == 2 else -1
    if 10 <= code < len(DIGITS):
        return DIGITS[code]
    return text if len(text) == 1 and text in DIGITS else ""
