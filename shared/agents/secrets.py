"""Where the agent file's `{secret: NAME}` are looked up: the environment, `.env`, and a directory of files.

It keeps nothing: what was found is in the agents, as SecretStr.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dotenv import dotenv_values


@dataclass(frozen=True)
class Secrets:
    """Called with a name it returns the secret; raises ValueError that says what is wrong with it, never what it is."""

    environment: Mapping[str, str]
    directory: Path | None = None
    """Files named as the secrets: how Kubernetes mounts them."""

    def __call__(self, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
            raise ValueError("the name of a secret has letters, digits, _ . and - only")
        secret = self.environment.get(name) or self._in_directory(name)
        if not secret:
            where = "the environment" + (f" and no file in {self.directory}" if self.directory else "")
            raise ValueError(f"secret {name} is not in {where}")
        if re.search(r"[\x00-\x1f\x7f]", secret):
            raise ValueError(f"secret {name} is more than one line")
        return secret

    def _in_directory(self, name: str) -> str:
        try:
            return (self.directory / name).read_text("utf-8").strip() if self.directory else ""
        except (OSError, ValueError):
            return ""


def process_secrets(directory: str) -> Secrets:
    """Returns the secrets of this process; `directory` is SECRETS_DIR, empty for none."""
    file = {name: value for name, value in dotenv_values(".env").items() if value is not None}
    return Secrets({**file, **os.environ}, Path(directory) if directory else None)
