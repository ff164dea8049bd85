"""Settings of the HTTP API, in the manner of `shared/settings.py`."""

import ipaddress

from pydantic import field_validator

from shared.settings import RedisSettings, setting


class AdminSettings(RedisSettings):
    """Settings of `voicepool api`."""

    admin_host: str = setting("ADMIN_HOST", "127.0.0.1", "Address the HTTP API listens on.")
    admin_port: int = setting(
        "ADMIN_PORT", 8080, "TCP port the HTTP API listens on; 0 takes any free one.", ge=0, le=65535
    )
    admin_tokens_file: str = setting(
        "ADMIN_TOKENS_FILE", "", "File that says who may use the HTTP API; see voicepool api token."
    )

    @field_validator("admin_host")
    @classmethod
    def _ip_address(cls, value: str) -> str:
        ipaddress.ip_address(value)
        return value
