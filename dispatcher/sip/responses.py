"""Responses that the dispatcher makes itself (RFC 3261 section 8.2.6).

It does not send them; responses that come from workers are passed on by `message.py`.
"""

from collections.abc import Sequence

from dispatcher.sip.message import Header, Request, header, render

REASONS = {
    100: b"Trying", 180: b"Ringing", 200: b"OK", 302: b"Moved Temporarily", 400: b"Bad Request", 403: b"Forbidden",
    405: b"Method Not Allowed", 408: b"Request Timeout", 416: b"Unsupported URI Scheme", 420: b"Bad Extension",
    481: b"Call/Transaction Does Not Exist", 482: b"Loop Detected", 483: b"Too Many Hops",
    487: b"Request Terminated", 500: b"Server Internal Error", 503: b"Service Unavailable",
    505: b"Version Not Supported", 513: b"Message Too Large",
}  # fmt: skip

ALLOW = header(b"Allow", b"INVITE, ACK, CANCEL, BYE, OPTIONS")
"""What is understood outside a dialog."""

ACCEPT = header(b"Accept", b"application/sdp")

_COPIED = frozenset((b"via", b"from", b"to", b"call-id", b"cseq"))
_NO_BODY = header(b"Content-Length", b"0")


def response_to(request: Request, status: int, tag: bytes, extra: Sequence[Header] = ()) -> bytes:
    """Returns a response without a body; `tag` goes into To unless the request has one or `status` is 100."""
    copied = [item for item in request.headers if item[0] in _COPIED]
    if status > 100:
        copied = [_tagged(item, tag) if item[0] == b"to" else item for item in copied]
    return render(b"SIP/2.0 %d %b" % (status, REASONS[status]), [*copied, *extra, _NO_BODY], b"")


def _tagged(to: Header, tag: bytes) -> Header:
    key, value, raw = to
    if b"tag=" in value.lower():
        return to
    return key, value + b";tag=" + tag, raw + b";tag=" + tag
