"""Redis servers as operators run them, started once for this directory where they are not changed by a test."""

import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis

from shared.control.address import RedisAddress
from shared.control.connection import connect

PATIENCE_S = 20.0
"""Longer than a busy machine takes for anything here."""


@pytest.fixture
async def client() -> AsyncIterator[Callable[[RedisAddress | str], Redis]]:
    """Makes clients that wait long enough for a busy machine, and closes them."""
    clients: list[Redis] = []

    def make(where: RedisAddress | str) -> Redis:
        clients.append(connect(where, timeout_s=PATIENCE_S))
        return clients[-1]

    yield make
    for made in clients:
        await made.aclose()


class Authority:
    """A certificate authority, made by the openssl command line."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.certificate, self._key = directory / "ca.pem", directory / "ca.key"
        self._openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
            "-subj", "/CN=test authority", "-keyout", str(self._key), "-out", str(self.certificate),
        )  # fmt: skip

    def issue(self, name: str, subject_alternative_name: str) -> tuple[Path, Path]:
        """Returns the paths of a new certificate and its key."""
        certificate, key, request = (self._directory / f"{name}.{suffix}" for suffix in ("pem", "key", "csr"))
        extensions = self._directory / f"{name}.ext"
        extensions.write_text(f"subjectAltName={subject_alternative_name}\n")
        self._openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(request),
        )  # fmt: skip
        self._openssl(
            "x509", "-req", "-days", "1", "-in", str(request), "-CA", str(self.certificate), "-CAkey", str(self._key),
            "-CAcreateserial", "-extfile", str(extensions), "-out", str(certificate),
        )  # fmt: skip
        return certificate, key

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=30)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that nobody trusts who is not told to."""
    return Authority(tmp_path_factory.mktemp("authority"))
