"""What a refused or lost connection means: whether to try again, when, and how the call ends if not.

Pure; it opens nothing.
"""

import random
from collections.abc import Callable

from shared.agents.model import Reconnect
from shared.ending import CallEnd
from shared.errors import UpstreamError

_FINAL = {
    401: CallEnd.SESSION_UNAUTHORIZED,
    403: CallEnd.SESSION_FORBIDDEN,
    404: CallEnd.SESSION_NOT_FOUND,
}
"""HTTP statuses that stay the same however often one asks: wrong key, missing role, wrong address."""

_PASSING = (408, 425, 429)
"""The other statuses below 500 that pass."""

REFUSED = 400
"""The status of a session that was refused after the handshake: session.update met an error."""


def retryable(error: UpstreamError) -> bool:
    """Says whether trying again can help. What has no HTTP status is the network's or the service's own trouble."""
    status = error.status
    return status is None or not 400 <= status < 500 or status in _PASSING


def ending(error: UpstreamError) -> CallEnd:
    """Returns how a call ends that could not be answered because of this."""
    if error.status == 429:
        return CallEnd.SESSION_THROTTLED
    if retryable(error) or error.status is None:
        return CallEnd.SESSION_UNAVAILABLE
    return _FINAL.get(error.status, CallEnd.SESSION_REFUSED)


def delay_s(
    attempt: int, error: UpstreamError, policy: Reconnect, *, chance: Callable[[], float] = random.random
) -> float:
    """Returns how long to wait before attempt `attempt` (the first is 0), in seconds.

    Exponential, and much of it left to chance: the calls of a pool that lost its service must not come back all in the
    same moment. Retry-After (RFC 9110 section 10.2.3) is a lower bound.
    """
    if attempt == 0:
        wait = policy.first_delay_s * chance()
    else:  # 2 ** 16 and more is beyond every limit, and 2 ** 2000 is no float
        wait = min(policy.first_delay_s * 2.0 ** min(attempt - 1, 16), policy.max_delay_s) * (0.5 + chance() / 2)
    return max(wait, error.retry_after_s or 0.0)
