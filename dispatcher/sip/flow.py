"""The flow token: both ends of a call, signed, as the user part of our Record-Route.

With it any replica routes a request inside a dialog without state, Redis or name resolution, and without being a relay.
The idea is that of RFC 5626 section 5.2. It does not say who may send what; `dialog.py` does.
"""

import base64
import binascii
import hmac
from functools import lru_cache
from ipaddress import ip_address
from typing import NamedTuple

from dispatcher.sip.actions import Address

_TRANSPORTS = ("udp", "tcp", "tls")
"""By their number in a token: the upper bits of the byte that has the length of the host in its lower ones."""

_LENGTH_BITS = 5

_MAC_BYTES = 8
"""Truncated HMAC-SHA256. Forging one needs 2^63 requests on average, each of them an answered SIP request."""

_CONTEXT = b"voicepool flow token 1"
"""Keeps this use of the pool's secret apart from lease tokens."""


class Flow(NamedTuple):
    """The two ends of a call."""

    caller: Address
    """Where the INVITE came from."""
    worker: Address
    """Where it was sent."""


class FlowTokens:
    """Makes and reads flow tokens with the pool's secret."""

    def __init__(self, secret: str) -> None:
        self._key = hmac.digest(secret.encode(), _CONTEXT, "sha256")

    def make(self, flow: Flow, sip_call_id: bytes) -> bytes:
        """Returns the token of a call: URL-safe base64, about 28 bytes for IPv4."""
        ends = _packed(flow.caller) + _packed(flow.worker)
        return base64.urlsafe_b64encode(self._mac(ends, sip_call_id) + ends).rstrip(b"=")

    def read(self, token: bytes, sip_call_id: bytes) -> Flow | None:
        """Returns the ends of a call, None when the token is not ours or was made for another call."""
        try:
            raw = base64.b64decode(token + b"=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except binascii.Error:
            return None
        mac, ends = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(ends, sip_call_id)):
            return None
        caller, rest = _unpacked(ends)
        worker, _ = _unpacked(rest)
        return Flow(caller, worker)

    def _mac(self, ends: bytes, sip_call_id: bytes) -> bytes:
        return hmac.digest(self._key, ends + sip_call_id, "sha256")[:_MAC_BYTES]


def _packed(address: Address) -> bytes:
    host = _packed_host(address.host)
    kind = _TRANSPORTS.index(address.transport) << _LENGTH_BITS | len(host)
    return bytes((kind,)) + host + address.port.to_bytes(2, "big")


def _unpacked(ends: bytes) -> tuple[Address, bytes]:
    transport, length = divmod(ends[0], 1 << _LENGTH_BITS)
    end = 1 + length
    port = int.from_bytes(ends[end : end + 2], "big")
    return Address(_TRANSPORTS[transport], _host(ends[1:end]), port), ends[end + 2 :]


@lru_cache(maxsize=1024)
def _packed_host(host: str) -> bytes:
    return ip_address(host).packed


@lru_cache(maxsize=1024)
def _host(packed: bytes) -> str:
    return str(ip_address(packed))
