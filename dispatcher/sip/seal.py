"""Branches and tags that every replica writes alike, and that show they are the pool's.

A request that two replicas forward has the same branch both times: its worker takes the second for a retransmission.
And whoever is left recognises the answer to a request that a dead replica forwarded. It keeps nothing.
"""

import hmac
from hashlib import blake2b

from dispatcher.sip.message import Request

MAGIC = b"z9hG4bK"
"""First bytes of every RFC 3261 branch (section 8.1.1.7)."""

_DIGEST_BYTES = 10
_MAC_BYTES = 8
"""Truncated, as in a flow token. Nobody is told whether a guess was good."""

_CONTEXT = b"voicepool branch 1"
"""Keeps this use of the pool's secret apart from tokens."""


class Seal:
    """Makes and recognises the pool's branches, and makes its tags, with the pool's secret."""

    def __init__(self, secret: str) -> None:
        self._key = hmac.digest(secret.encode(), _CONTEXT, "sha256")

    def branch(self, request: Request, salt: bytes = b"") -> bytes:
        """Returns the branch that `request` is forwarded with (RFC 3261 section 16.11).

        `salt` tells one attempt to place a call from the next. A CANCEL has the branch of its INVITE (section 9.1).
        """
        method = b"INVITE" if request.method == b"CANCEL" else request.method
        via, cseq = request.via, b"%d" % request.cseq
        parts = (via.branch, via.sent_by.lower(), request.call_id, request.from_tag, cseq, method, salt)
        digest = blake2b(b"\0".join(parts), key=self._key, digest_size=_DIGEST_BYTES).digest()
        return MAGIC + (digest + self._mac(digest, request.call_id)).hex().encode()

    def holds(self, branch: bytes, call_id: bytes) -> bool:
        """Whether a branch is the pool's, made for a request with this Call-ID."""
        if branch[: len(MAGIC)] != MAGIC or len(branch) != len(MAGIC) + 2 * (_DIGEST_BYTES + _MAC_BYTES):
            return False
        try:
            raw = bytes.fromhex(branch[len(MAGIC) :].decode())
        except ValueError:
            return False
        return hmac.compare_digest(raw[_DIGEST_BYTES:], self._mac(raw[:_DIGEST_BYTES], call_id))

    def tag(self, request: Request) -> bytes:
        """Returns the To tag of our answers, the same for a retransmission and for its CANCEL (section 8.2.7)."""
        text = request.call_id + b"\0" + request.first[b"from"]
        return blake2b(text, key=self._key, digest_size=8, person=b"tag").hexdigest().encode()

    def _mac(self, digest: bytes, call_id: bytes) -> bytes:
        return blake2b(digest + call_id, key=self._key, digest_size=_MAC_BYTES, person=b"mac").digest()
