"""SIP, SIPS and tel URIs as far as a proxy looks into them: scheme, user part, host, port, parameters.

It does not resolve names, and does not compare URIs (RFC 3261 section 19.1.4 is for registrars).
"""

from typing import NamedTuple

from dispatcher.sip.grammar import Malformed, default_port, is_token, parameter, parse_host_port

_SIP = (b"sip", b"sips")
_NEVER_IN_A_URI = bytes(range(0x21)) + b'<>"\x7f'


class Uri(NamedTuple):
    """A URI; host and port only for sip and sips."""

    scheme: bytes
    """In lower case."""
    user: bytes
    """Everything before the @, as written; for other schemes than sip and sips all of what follows the colon."""
    host: str
    port: int | None
    params: bytes
    """Parameters with their leading semicolon, or empty."""

    @property
    def loose(self) -> bool:
        """Whether the `lr` parameter says that this Route is a loose router's (RFC 3261 section 19.1.1)."""
        return parameter(self.params, b"lr") is not None

    @property
    def transport(self) -> bytes:
        """The `transport` parameter in lower case; UDP without one (RFC 3263 section 4.1, for addresses)."""
        return (parameter(self.params, b"transport") or b"udp").lower()

    @property
    def reached_at(self) -> int:
        """The port, or the one that the transport has by default."""
        return self.port or default_port(self.transport)


def parse_uri(value: bytes) -> Uri:
    """Returns the URI; raises Malformed. A URI of an unknown scheme is kept as it is."""
    scheme, _, rest = value.partition(b":")
    if not rest or len(rest) != len(rest.translate(None, _NEVER_IN_A_URI)):
        raise Malformed("URI")
    if scheme not in _SIP:
        scheme = scheme.lower()
        if not is_token(scheme):
            raise Malformed("URI scheme")
        if scheme not in _SIP:
            return Uri(scheme, rest, "", None, b"")
    user, at, host_part = rest.rpartition(b"@")
    if b"@" in user or (at and not user):
        raise Malformed("user part of a URI")
    host_port, semicolon, params = host_part.partition(b"?")[0].partition(b";")
    host, port = parse_host_port(host_port)
    return Uri(scheme, user, host, port, semicolon + params)


def bracketed(host: str) -> bytes:
    """Returns a host as it stands in a URI or Via: an IPv6 address gets its brackets."""
    return f"[{host}]".encode() if ":" in host else host.encode()


def retarget(uri: Uri, host: str, port: int) -> bytes:
    """Returns a sip URI for the same user at another host; URI parameters are the old host's and stay behind.

    A tel URI becomes the user part of a sip URI (RFC 3261 section 19.1.6).
    """
    user = uri.user + b"@" if uri.user else b""
    return b"sip:%b%b:%d%b" % (user, bracketed(host), port, b";user=phone" if uri.scheme == b"tel" else b"")
