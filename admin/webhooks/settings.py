"""The settings of `voicepool webhooks`, in the manner of `shared/settings.py`.

It opens no connection.
"""

from fnmatch import fnmatchcase
from ipaddress import ip_address
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import SecretStr, field_validator
from pydantic_settings import NoDecode

from shared.control.events import EventName
from shared.settings import RedisSettings, setting


class WebhookSettings(RedisSettings):
    """Where events are delivered to, which, and how persistently."""

    webhook_url: str = setting("WEBHOOK_URL", ..., "URL that events are posted to; https:// beyond this machine.")
    webhook_secret: SecretStr = setting(
        "WEBHOOK_SECRET",
        ...,
        "Signs what is posted, known to the receiver; 16 characters or more (for example: openssl rand -hex 32).",
    )
    webhook_events: Annotated[tuple[str, ...], NoDecode] = setting(
        "WEBHOOK_EVENTS",
        ("call.*",),
        "Comma-separated names of the events to deliver, * stands for anything: call.*,worker.lost.",
    )
    webhook_timeout_s: float = setting(
        "WEBHOOK_TIMEOUT_S", 5.0, "Longest wait for the receiver's answer, in seconds.", gt=0, le=60
    )
    webhook_attempts: int = setting(
        "WEBHOOK_ATTEMPTS", 8, "How often an event is tried before it is put aside.", ge=1, le=100
    )

    @field_validator("webhook_url")
    @classmethod
    def _url(cls, value: str) -> str:
        try:
            url = urlsplit(value)
            _ = url.port, (url.hostname or "").encode("idna")  # raise for what can be none
        except ValueError:
            raise ValueError("is not a URL") from None
        if url.scheme not in ("https", "http") or not url.hostname:
            raise ValueError("must be a URL that starts with https:// or http://")
        if url.scheme == "http" and not _is_here(url.hostname):
            raise ValueError("must start with https:// beyond this machine")
        return value

    @field_validator("webhook_secret")
    @classmethod
    def _long_enough(cls, value: SecretStr) -> SecretStr:
        if len(value.get_secret_value()) < 16:
            raise ValueError("must have 16 characters or more")
        return value

    @field_validator("webhook_events", mode="before")
    @classmethod
    def _patterns(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("webhook_events")
    @classmethod
    def _match_something(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("names no event")
        for number, pattern in enumerate(value, 1):
            if not any(fnmatchcase(name, pattern) for name in EventName):
                raise ValueError(f"part {number} is the name of no event")
        return value

    def wants(self, event: str) -> bool:
        """Says whether events of this name are delivered."""
        return any(fnmatchcase(event, pattern) for pattern in self.webhook_events)


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
