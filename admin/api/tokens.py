"""Who may use the HTTP API: a file with a line for each bearer token, and never the token itself.

A line is `name role sha256:digest`; empty lines and those that begin with # are left out. A token is 256 random bits,
so that a plain digest is enough: there is nothing to be guessed.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import structlog

from shared.errors import ConfigError

PREFIX = "vp_"
"""Begins every token, so that those who look for leaked secrets can tell what it is."""

_RANDOM_BYTES = 32

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")

log = structlog.get_logger()


class Role(StrEnum):
    """What a token is good for."""

    READ = "read"
    """Look at everything but whole call records."""
    OPERATE = "operate"
    """Everything."""


@dataclass(frozen=True, slots=True)
class Token:
    """Somebody who may use the API."""

    name: str
    role: Role
    digest: bytes
    """SHA-256 of the token."""


def mint(name: str, role: Role) -> tuple[str, str]:
    """Returns a new token and its line for the file; raises ValueError for a name that is none."""
    if not NAME.fullmatch(name):
        raise ValueError("must be 1 to 64 letters, digits, dots, hyphens or underscores")
    token = PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    return token, f"{name} {role} sha256:{_digest(token).hex()}"


def parse(text: str) -> list[Token]:
    """Returns the tokens of a file; raises ValueError that names the first bad line by its number."""
    tokens: dict[str, Token] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match line.split():
            case [name, role, digest] if NAME.fullmatch(name) and role in list(Role) and _DIGEST.fullmatch(digest):
                if name in tokens:
                    raise ValueError(f"line {number}: there is another {name}")
                tokens[name] = Token(name, Role(role), bytes.fromhex(digest.removeprefix("sha256:")))
            case _:
                raise ValueError(f"line {number}: must be `name role sha256:digest`, with read or operate for the role")
    if not tokens:
        raise ValueError("has no tokens; see voicepool api token")
    return list(tokens.values())


class TokenFile:
    """The tokens of a file, read again when it has changed, so that one can be withdrawn at once."""

    def __init__(self, path: Path) -> None:
        """Reads it; raises ConfigError."""
        self._path = path
        try:
            self._version = self._seen()
            self._tokens: Sequence[Token] = parse(path.read_text("utf-8"))
        except OSError as error:
            raise ConfigError([f"ADMIN_TOKENS_FILE: cannot be read ({error.strerror})"]) from error
        except ValueError as error:
            raise ConfigError([f"ADMIN_TOKENS_FILE: {error}"]) from error

    def find(self, presented: str) -> Token | None:
        """Returns whose token this is. It takes as long for a wrong one, whatever is wrong with it."""
        self._refresh()
        digest, found = _digest(presented), None
        for token in self._tokens:
            if hmac.compare_digest(token.digest, digest):
                found = token
        return found

    def _refresh(self) -> None:
        """Reads a changed file; one that is no good any more leaves things as they were."""
        try:
            version = self._seen()
            if version == self._version:
                return
            self._version = version
            self._tokens = parse(self._path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            if self._version is not None:
                log.error("admin.tokens_refused", error=type(error).__name__)
            self._version = None
        else:
            log.info("admin.tokens_read", tokens=len(self._tokens))

    def _seen(self) -> tuple[int, int, int] | None:
        status = self._path.stat()
        return status.st_mtime_ns, status.st_size, status.st_ino


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
