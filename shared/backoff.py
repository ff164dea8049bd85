"""When to try again something that has failed: longer each time, partly by chance, and as the other side asks.

Pure: it waits for nothing, and who tries what again, and how often, is decided where it fails.
"""

import random
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def delay_s(
    failures: int,
    *,
    first_s: float,
    longest_s: float,
    asked_s: float = 0.0,
    chance: Callable[[], float] = random.random,
) -> float:
    """Returns how long to wait after so many failures (1 or more) in a row, in seconds.

    It doubles from `first_s` up to `longest_s`, and half of it is left to chance: what failed together must not come
    back in the same moment. What the other side has asked for is a lower bound, as far as `longest_s` allows.
    """
    # 2 ** 32 and more is beyond every limit, and 2 ** 2000 is no float
    wait = min(first_s * 2.0 ** min(failures - 1, 32), longest_s) * (0.5 + chance() / 2)
    return max(wait, min(asked_s, longest_s))


def retry_after_s(value: str, now: datetime) -> float:
    """Returns the seconds that a Retry-After header asks to wait (RFC 9110 section 10.2.3), 0 for none it can be."""
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    # A date without a zone (-0000) is UTC like all the others.
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - now).total_seconds())
