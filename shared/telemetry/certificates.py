"""When the certificates of a process end, for the metric that warns before they do.

It checks nothing else about them: whoever uses a certificate refuses a bad one.
"""

from collections.abc import Mapping
from pathlib import Path

from cryptography import x509

from shared.control.address import RedisAddress


def of_redis(address: RedisAddress) -> dict[str, str]:
    """Returns the certificate files that a process needs to reach Redis, by purpose; empty for what it does without."""
    return {"redis_ca": address.ca_file, "redis_client": address.cert_file}


def expiries(files: Mapping[str, str]) -> dict[str, float]:
    """Returns the Unix time, in s, at which the first certificate in each PEM file ends, by purpose. It reads files.

    `files` has a path for each purpose; what is empty, or cannot be read just now, is left out.
    """
    found = {purpose: _first_end(Path(path)) for purpose, path in files.items() if path}
    return {purpose: end for purpose, end in found.items() if end is not None}


def _first_end(path: Path) -> float | None:
    try:
        certificates = x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError):
        return None
    return min(each.not_valid_after_utc.timestamp() for each in certificates)
