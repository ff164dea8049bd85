"""What TLS is spoken with: contexts made of the files of SIP_TLS_, and made anew once these have changed.

A peer is known by its address, and no name is looked for in its certificate. With an authority of their own peers have
to show one that it has signed, whoever opened the connection; without, the connection is encrypted and that is all.
"""

import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

import structlog

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files by their paths."""

    certificate: str
    """Of this side, with what is between it and its authority."""
    key: str = ""
    """Of the certificate; empty looks for it in the same file."""
    authority: str = ""
    """Whoever signs peers' certificates; empty asks for none."""

    def problem(self) -> tuple[str, str] | None:
        """Returns the variable of a file that is no good and what is wrong with it, None when all is well."""
        for variable, path in self._given():
            try:
                with open(path, "rb"):
                    pass
            except OSError as error:
                return variable, f"cannot be read ({error.strerror})"
        if not _has_certificates(self.certificate):
            return "SIP_TLS_CERT_FILE", "holds no certificate in PEM format"
        if self.authority and not _has_certificates(self.authority):
            return "SIP_TLS_CA_FILE", "holds no certificate in PEM format"
        try:
            self.context(ssl.PROTOCOL_TLS_SERVER)
        except ssl.SSLError:
            return "SIP_TLS_KEY_FILE", "holds no unlocked key that belongs to the certificate"
        return None

    def context(self, protocol: int) -> ssl.SSLContext:
        """Returns a context for one side of connections; raises OSError, of which ssl.SSLError is one."""
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = False
        # A password, although a wrong one: without any, OpenSSL would ask the terminal for that of a locked key.
        context.load_cert_chain(self.certificate, self.key or None, password="")
        context.verify_mode = ssl.CERT_REQUIRED if self.authority else ssl.CERT_NONE
        if self.authority:
            context.load_verify_locations(self.authority)
        return context

    def versions(self) -> tuple[tuple[int, ...], ...]:
        """Returns what differs once a file was written or replaced; a link counts as what it leads to."""
        return tuple(_version(path) for _, path in self._given())

    def _given(self) -> Iterator[tuple[str, str]]:
        yield "SIP_TLS_CERT_FILE", self.certificate
        if self.key:
            yield "SIP_TLS_KEY_FILE", self.key
        if self.authority:
            yield "SIP_TLS_CA_FILE", self.authority


class Tls:
    """The contexts for new connections. Those that are open keep the certificate they began with."""

    def __init__(self, files: TlsFiles) -> None:
        """Raises OSError when `files.problem` has something to say."""
        self._files = files
        self._versions = files.versions()
        self._read()

    @property
    def server(self) -> ssl.SSLContext:
        """For connections that peers open."""
        self._refresh()
        return self._server

    @property
    def client(self) -> ssl.SSLContext:
        """For connections to peers."""
        self._refresh()
        return self._client

    def _refresh(self) -> None:
        """Reads the files again if they have changed. Bad ones are told of once, and change nothing."""
        versions = self._files.versions()
        if versions != self._versions:
            self._versions = versions
            try:
                self._read()
            except OSError:
                variable, problem = self._files.problem() or ("SIP_TLS_CERT_FILE", "was being written")
                log.warning("sip.certificate_not_reloaded", variable=variable, problem=problem)
            else:
                log.info("sip.certificate_reloaded")

    def _read(self) -> None:
        server = self._files.context(ssl.PROTOCOL_TLS_SERVER)
        self._client = self._files.context(ssl.PROTOCOL_TLS_CLIENT)
        self._server = server


def _has_certificates(path: str) -> bool:
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        return False
    return True


def _version(path: str) -> tuple[int, ...]:
    try:
        stat = os.stat(path)
    except OSError:
        return ()
    return stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size
