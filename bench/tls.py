"""A certificate for one measurement, made by the openssl command line: for the simulator's wss:// endpoint.

It is trusted by nobody but the worker that is told its path (SSL_CERT_FILE), and dies with the directory it is in.
"""

import asyncio
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class Certificate:
    """Paths of a self-signed certificate and its key, both PEM."""

    certificate: Path
    key: Path

    @classmethod
    async def make(cls, directory: Path, address: str) -> Self:
        """Makes a certificate for an IP address, good for a day; raises RuntimeError with what openssl says."""
        made = cls(directory / "certificate.pem", directory / "key.pem")
        openssl = shutil.which("openssl")
        if openssl is None:
            raise RuntimeError("openssl is not installed (Debian: openssl)")
        process = await asyncio.create_subprocess_exec(
            *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-subj", "/CN=voicepool benchmark", "-days", "1", "-addext", f"subjectAltName=IP:{address}"),
            *("-keyout", str(made.key), "-out", str(made.certificate)),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await process.communicate()
        if process.returncode:
            raise RuntimeError(f"openssl: {said.decode(errors='replace').strip()}")
        return made
