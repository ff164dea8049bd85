"""Where Redis is and how a process gets in: the value that `connect` takes, made of the REDIS_ settings.

It opens no connection and knows no client library; it reads the TLS files, so that bad ones are found at start.
"""

import ssl
from dataclasses import dataclass, field
from urllib.parse import urlsplit

SENTINEL_PORT = 26379


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """One Redis, or the master that Sentinels name."""

    url: str
    """redis://, rediss:// or unix://, with user, password and database. Beside Sentinels its host is not used."""
    sentinels: tuple[tuple[str, int], ...] = ()
    """Host and port of each Sentinel; empty is none."""
    sentinel_service: str = "mymaster"
    """What the Sentinels call the master."""
    sentinel_password: str = field(default="", repr=False)
    ca_file: str = ""
    """PEM file of the only authorities trusted for rediss://; empty trusts those of the system."""
    cert_file: str = ""
    """PEM file of the certificate shown to Redis; empty shows none."""
    key_file: str = ""
    """PEM file of its key; empty looks for it in `cert_file`."""

    def tls_context(self) -> ssl.SSLContext | None:
        """Returns what rediss:// connections are made with, None for others.

        The server's certificate and the host name in it are always verified. Raises ValueError that names the variable
        of what is wrong with the files.
        """
        files = {"REDIS_CA_FILE": self.ca_file, "REDIS_CERT_FILE": self.cert_file, "REDIS_KEY_FILE": self.key_file}
        given = {variable: path for variable, path in files.items() if path}
        if urlsplit(self.url).scheme != "rediss":
            for variable in given:
                raise ValueError(f"{variable}: is of no use unless REDIS_URL starts with rediss://")
            return None
        for variable, path in given.items():
            _check_readable(variable, path)
        try:
            context = ssl.create_default_context(cafile=self.ca_file or None)
        except ssl.SSLError:
            raise ValueError("REDIS_CA_FILE: holds no certificate in PEM format") from None
        self._show_certificate(context)
        return context

    def _show_certificate(self, context: ssl.SSLContext) -> None:
        if not self.cert_file:
            if self.key_file:
                raise ValueError("REDIS_CERT_FILE: is missing beside REDIS_KEY_FILE")
            return
        try:
            ssl.create_default_context(cafile=self.cert_file)
        except ssl.SSLError:
            raise ValueError("REDIS_CERT_FILE: holds no certificate in PEM format") from None
        try:
            # A password, although a wrong one: without any, OpenSSL would ask the terminal for that of a locked key.
            context.load_cert_chain(self.cert_file, self.key_file or None, password="")
        except ssl.SSLError:
            raise ValueError("REDIS_KEY_FILE: holds no unlocked key that belongs to the certificate") from None


def sentinels_in(text: str) -> tuple[tuple[str, int], ...]:
    """Returns host and port of each part of "host:port,[2001:db8::1]:port,host"; raises ValueError."""
    found = []
    for part in filter(None, map(str.strip, text.split(","))):
        try:
            split = urlsplit(f"//{part}")
            host, port = split.hostname, split.port
        except ValueError:
            host, port = None, None
        if not host or split.path or split.username is not None:
            raise ValueError("must be host:port, with commas between several")
        found.append((host, port or SENTINEL_PORT))
    return tuple(found)


def _check_readable(variable: str, path: str) -> None:
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise ValueError(f"{variable}: cannot be read ({error.strerror})") from None
