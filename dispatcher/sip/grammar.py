"""The pieces of SIP's grammar that header values are made of: lists, parameters, addresses, Via and CSeq.

It does not know messages, and it checks no more than a proxy needs in order to route (RFC 3261 section 16.3).
"""

from collections.abc import Iterator
from typing import NamedTuple

from shared.errors import PeerError

DEFAULT_PORT = 5060
"""Port of a SIP host that names none (RFC 3261 section 19.1.2)."""

TLS_PORT = 5061
"""The same where TLS is spoken."""

CSEQ_MAX = 2**31
"""CSeq numbers are below this (RFC 3261 section 8.1.1.5)."""

TOKEN = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.!%*_+`'~"
"""The bytes of a token (RFC 3261 section 25.1)."""

_HOST = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._"
"""The bytes of a host name; the underscore is not in the grammar, but it is in real networks."""

_V6_HOST = b"abcdefABCDEF0123456789:."


class Malformed(PeerError):
    """What was received is not SIP as RFC 3261 writes it; `sip_status` is for requests that can be answered."""


class Via(NamedTuple):
    """One Via value (RFC 3261 section 20.42)."""

    transport: bytes
    sent_by: bytes
    """Host and port as written, without spaces."""
    host: str
    port: int
    params: bytes
    """Everything after sent-by, with its leading semicolon, or empty."""

    @property
    def branch(self) -> bytes:
        """The branch parameter, or empty."""
        return parameter(self.params, b"branch") or b""


def is_token(value: bytes) -> bool:
    """Whether `value` is a token: not empty, and made of token bytes only."""
    return bool(value) and not value.translate(None, TOKEN)


def parts(value: bytes, separator: bytes) -> list[bytes]:
    """Returns the parts of `value` between separators that stand outside quotes and angle brackets, spaces kept."""
    if separator not in value:
        return [value]
    if b'"' not in value and b"<" not in value:
        return value.split(separator)
    return list(_careful_parts(value, separator[0]))


def split(value: bytes, separator: bytes) -> list[bytes]:
    """Returns the same with surrounding spaces stripped."""
    return [part.strip() for part in parts(value, separator)]


def _careful_parts(value: bytes, separator: int) -> Iterator[bytes]:
    start = position = 0
    in_brackets = False
    while position < len(value):
        byte = value[position]
        if byte == 0x22 and not in_brackets:
            position = end_of_quoted(value, position)
            continue
        if byte == 0x3C:
            in_brackets = True
        elif byte == 0x3E:
            in_brackets = False
        elif byte == separator and not in_brackets:
            yield value[start:position]
            start = position + 1
        position += 1
    yield value[start:]


def end_of_quoted(value: bytes, start: int) -> int:
    """Returns the index after the quoted string that opens at `start`; raises Malformed when it never closes."""
    position = start + 1
    while True:
        quote = value.find(b'"', position)
        if quote < 0:
            raise Malformed("quoted string never ends")
        backslash = value.find(b"\\", position, quote)
        if backslash < 0:
            return quote + 1
        position = backslash + 2


def parameter(params: bytes, name: bytes) -> bytes | None:
    """Returns the value of a parameter in `;a=b;c`: empty for one without a value, None when it is absent."""
    for part in parts(params, b";"):
        key, _, value = part.partition(b"=")
        if key == name or key.strip().lower() == name:
            return value.strip()
    return None


def split_address(value: bytes) -> tuple[bytes, bytes]:
    """Returns URI and header parameters of a name-addr or addr-spec (RFC 3261 section 20.10)."""
    start = value.find(b"<", end_of_quoted(value, 0) if value[:1] == b'"' else 0)
    if start < 0:
        uri, semicolon, params = value.partition(b";")
        return uri.strip(), semicolon + params
    end = value.find(b">", start)
    if end < 0:
        raise Malformed("address has no closing bracket")
    return value[start + 1 : end].strip(), value[end + 1 :]


def tag_of(value: bytes) -> bytes:
    """Returns the tag of a From or To value, or empty."""
    return parameter(split_address(value)[1], b"tag") or b""


def parse_via(value: bytes) -> Via:
    """Returns the value of a Via header with one value; raises Malformed."""
    sent, semicolon, params = value.partition(b";")
    if sent[:8] == b"SIP/2.0/" and b" " in sent:
        transport, _, sent_by = sent[8:].partition(b" ")
    else:
        transport, sent_by = _spaced_out_via(sent)
    if b" " in sent_by or b"\t" in sent_by:
        sent_by = b"".join(sent_by.split())
    host, port = parse_host_port(sent_by)
    if not is_token(transport):
        raise Malformed("Via transport")
    return Via(transport, sent_by, host, port or default_port(transport), semicolon + params)


def _spaced_out_via(sent: bytes) -> tuple[bytes, bytes]:
    """The same with spaces around the slashes, which the grammar allows."""
    parts = sent.split(b"/")
    if len(parts) != 3 or parts[0].strip().upper() != b"SIP" or parts[1].strip() != b"2.0":
        raise Malformed("Via protocol")
    transport, *sent_by = parts[2].split(None, 1)[:2] or [b""]
    return transport, b"".join(sent_by)


def parse_host_port(value: bytes) -> tuple[str, int | None]:
    """Returns the host in lower case without brackets, and the port if there is one; raises Malformed."""
    if value[:1] == b"[":
        host, bracket, rest = value[1:].partition(b"]")
        if not bracket or (rest and rest[:1] != b":") or host.translate(None, _V6_HOST):
            raise Malformed("IPv6 reference")
        port = rest[1:]
        colon = rest[:1]
    else:
        host, colon, port = value.partition(b":")
        if host.translate(None, _HOST):
            raise Malformed("host")
    if not host:
        raise Malformed("no host")
    return host.decode("ascii").lower(), _port(port) if colon else None


def default_port(transport: bytes) -> int:
    """Returns the port of a host that names none, as a Via or a `transport` parameter has it."""
    return TLS_PORT if transport.upper() == b"TLS" else DEFAULT_PORT


def _port(value: bytes) -> int:
    if not value.isdigit() or len(value) > 5 or not 0 < int(value) < 65536:
        raise Malformed("port")
    return int(value)


def number(value: bytes, limit: int, what: str) -> int:
    """Returns a decimal number below `limit`; raises Malformed naming `what`."""
    if not value.isdigit() or len(value) > 10 or int(value) >= limit:
        raise Malformed(what)
    return int(value)


def parse_cseq(value: bytes) -> tuple[int, bytes]:
    """Returns number and method of a CSeq value (RFC 3261 section 20.16); raises Malformed."""
    parts = value.split()
    if len(parts) != 2:
        raise Malformed("CSeq")
    return number(parts[0], CSEQ_MAX, "CSeq number"), parts[1]
