"""The other end of a webhook: posts one event, signed, and says what the answer means.

It tries nothing again and waits for no turn; `sender.py` does.
"""

import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp

from admin.webhooks.settings import WebhookSettings
from shared.backoff import retry_after_s
from shared.control.events import Event

REQUESTS_MAX = 20
"""Requests at once."""

_PASSING = (408, 425, 429)
"""The statuses between 400 and 499 that pass; the others stay the same however often one asks."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an event was not taken."""

    error: str
    """`HTTP 503`, `timeout`, or the kind of error: never an address or what the receiver has said."""
    passing: bool
    """Trying again may help."""
    retry_after_s: float = 0.0
    """How long the receiver asks to wait, 0 when it does not."""


class Receiver:
    """The receiver that the settings name."""

    def __init__(self, settings: WebhookSettings, session: aiohttp.ClientSession) -> None:
        self._url = settings.webhook_url
        self._secret = settings.webhook_secret.get_secret_value().encode()
        self._session = session

    async def offer(self, event: Event, attempt: int) -> Refusal | None:
        """Posts the event and returns None when it was taken: any status from 200 to 299."""
        body = body_of(event)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "voicepool",
            "X-Voicepool-Event": event.name,
            "X-Voicepool-Delivery": f"{event.position}/{attempt}",
            "X-Voicepool-Signature": signature(self._secret, body, int(time.time())),
        }
        try:
            async with self._session.post(self._url, data=body, headers=headers, allow_redirects=False) as response:
                return _refusal(response)  # what else it says is not read: leaving the block closes the connection then
        except TimeoutError:
            return Refusal("timeout", passing=True)
        except (aiohttp.ClientError, OSError, ValueError) as error:  # the last one of a name that cannot be looked up
            return Refusal(type(error).__name__, passing=True)


@asynccontextmanager
async def receiver(settings: WebhookSettings) -> AsyncIterator[Receiver]:
    """Gives the receiver for the block. One connection serves many events; cookies and proxies are not used."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=REQUESTS_MAX),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=settings.webhook_timeout_s),
    ) as session:
        yield Receiver(settings, session)


def body_of(event: Event) -> bytes:
    """Returns the JSON that is posted."""
    return json.dumps(event.flat(), separators=(",", ":")).encode()


def signature(secret: bytes, body: bytes, at_s: int) -> str:
    """Returns the header that proves who has sent the body, and when (Unix time): HMAC (RFC 2104) with SHA-256."""
    digest = hmac.new(secret, f"{at_s}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at_s},v1={digest}"


def _refusal(response: aiohttp.ClientResponse) -> Refusal | None:
    status = response.status
    if 200 <= status < 300:
        return None
    asked_s = retry_after_s(response.headers.get("Retry-After", ""), datetime.now(UTC))
    return Refusal(f"HTTP {status}", passing=not 400 <= status < 500 or status in _PASSING, retry_after_s=asked_s)
