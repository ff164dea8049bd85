"""When certificates end."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from shared.control.address import RedisAddress
from shared.telemetry.certificates import expiries, of_redis

SOON = datetime(2031, 2, 3, 4, 5, 6, tzinfo=UTC)
LATER = SOON + timedelta(days=365)


def certificate(ends: datetime) -> bytes:
    """Returns a certificate in PEM format."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    dated = builder.not_valid_before(SOON - timedelta(days=1)).not_valid_after(ends)
    return dated.serial_number(x509.random_serial_number()).sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def test_the_first_one_of_a_file_to_end_counts(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(certificate(LATER) + certificate(SOON))
    (tmp_path / "client.pem").write_bytes(certificate(LATER))
    address = RedisAddress("rediss://redis", ca_file=str(tmp_path / "ca.pem"), cert_file=str(tmp_path / "client.pem"))
    assert expiries(of_redis(address)) == {"redis_ca": SOON.timestamp(), "redis_client": LATER.timestamp()}


def test_what_is_not_used_not_there_or_no_certificate_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n")
    assert (
        expiries({"redis_ca": "", "redis_client": str(tmp_path / "none"), "sip_tls": str(tmp_path / "key.pem")}) == {}
    )
