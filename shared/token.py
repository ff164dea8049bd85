"""The lease token: a lease, signed, in the form a SIP header or URI parameter can carry.

It does not ask Redis: a token proves that a dispatcher with the pool's secret made the lease, not that it still stands.
"""

import base64
import binascii
import hmac

from shared.errors import TokenInvalid
from shared.ids import CallId, WorkerId
from shared.messages import Lease, MessageError

HEADER = "X-Voicepool-Lease"
"""SIP header that carries the token from dispatcher to worker; a dispatcher removes any that comes from outside."""

URI_PARAMETER = "voicepool-lease"
"""Contact URI parameter that carries the token in redirect mode, where no header of ours survives."""

MAX_AGE_MS = 10_000
"""A token is good for this long after the offer: longer than an offer stands, too short to be of use to a thief."""

_MAC_BYTES = 16
"""Truncated HMAC-SHA256: 128 bits, half the header length of the full digest."""


def sign(lease: Lease, secret: str) -> str:
    """Returns the token: URL-safe base64 of MAC and packed lease, without padding."""
    payload = lease.pack()
    return base64.urlsafe_b64encode(_mac(payload, secret) + payload).rstrip(b"=").decode()


def verify(token: str, secret: str, *, worker_id: WorkerId, call_id: CallId, now_ms: int) -> Lease:
    """Returns the lease in `token`; raises TokenInvalid unless it is signed, fresh, and for this worker and call."""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        raise TokenInvalid("not base64") from None
    mac, payload = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
    if not hmac.compare_digest(mac, _mac(payload, secret)):
        raise TokenInvalid("wrong signature")
    try:
        lease = Lease.unpack(payload)
    except MessageError as error:
        raise TokenInvalid(str(error)) from error
    if lease.worker_id != worker_id:
        raise TokenInvalid("for another worker")
    if lease.call_id != call_id:
        raise TokenInvalid("for another call")
    if now_ms - lease.offered_at_ms > MAX_AGE_MS:
        raise TokenInvalid("stale")
    return lease


def _mac(payload: bytes, secret: str) -> bytes:
    return hmac.digest(secret.encode(), payload, "sha256")[:_MAC_BYTES]
