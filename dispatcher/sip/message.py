"""SIP messages as they stand on the wire: parsed just enough to route them, every header kept byte for byte.

It does not know transactions. A message is split once; a header that nobody edits is sent on as it came, and so is the
body (RFC 3261 section 16.6: a proxy passes on what it does not understand).
"""

from collections.abc import Iterable

from dispatcher.sip.actions import RELIABLE, Address
from dispatcher.sip.grammar import (
    CSEQ_MAX,
    Malformed,
    Via,
    is_token,
    number,
    parse_cseq,
    parse_via,
    parts,
    split,
    split_address,
    tag_of,
)
from dispatcher.sip.uri import Uri, parse_uri

MAX_BYTES = 16_384
"""Longest message: ten times an ordinary INVITE, and more than pjsip takes."""

MAX_HEADERS = 256
"""Most header lines of a message."""

MAX_FORWARDS_LIMIT = 256
"""Max-Forwards is below this (RFC 3261 section 20.22)."""

Header = tuple[bytes, bytes, bytes]
"""Name in lower case and long form, value unfolded and stripped, and the raw field without its line end."""

_COMPACT = {
    b"a": b"accept-contact", b"b": b"referred-by", b"c": b"content-type", b"d": b"request-disposition",
    b"e": b"content-encoding", b"f": b"from", b"i": b"call-id", b"j": b"reject-contact", b"k": b"supported",
    b"l": b"content-length", b"m": b"contact", b"o": b"event", b"r": b"refer-to", b"s": b"subject", b"t": b"to",
    b"u": b"allow-events", b"v": b"via", b"x": b"session-expires", b"y": b"identity",
}  # fmt: skip

_COMMON = (
    b"Via", b"From", b"To", b"Call-ID", b"CSeq", b"Contact", b"Max-Forwards", b"Content-Length", b"Content-Type",
    b"Record-Route", b"Route", b"Allow", b"Supported", b"User-Agent", b"Server", b"Require", b"Proxy-Require",
    b"Session-Expires", b"Min-SE", b"Accept", b"P-Asserted-Identity", b"Allow-Events", b"Date", b"Expires", b"Reason",
)  # fmt: skip

_KEYS: dict[bytes, bytes] = {
    **{name: name.lower() for name in _COMMON},
    **{name.lower(): name.lower() for name in _COMMON},
    **_COMPACT,
    **{name.upper(): long for name, long in _COMPACT.items()},
}
"""Names as most peers write them: found without looking at each byte."""

_SPACE = (b" ", b"\t")
_MANDATORY = frozenset((b"via", b"from", b"to", b"call-id", b"cseq"))
_SINGLE = frozenset((b"from", b"to", b"call-id", b"cseq", b"max-forwards", b"content-length"))


class Message:
    """What requests and responses have in common."""

    headers: list[Header]
    body: bytes
    first: dict[bytes, bytes]
    """The first value of each header."""
    via: Via
    """The topmost Via value."""
    cseq: int
    cseq_method: bytes

    def __init__(self, headers: list[Header], first: dict[bytes, bytes], body: bytes) -> None:
        self.headers = headers
        self.first = first
        self.body = body

    @property
    def call_id(self) -> bytes:
        """The Call-ID as written."""
        return self.first[b"call-id"]

    def values(self, key: bytes) -> list[bytes]:
        """Returns all values of a header that may be a list, over all of its lines."""
        return [value for name, text, _ in self.headers if name == key for value in split(text, b",")]


class Request(Message):
    """A request. From the parser its mandatory headers are there and make sense."""

    uri: Uri
    """The Request-URI."""
    from_tag: bytes
    """The tag of the side that sent this, or empty."""
    to_tag: bytes
    """The tag of the other side: empty outside a dialog."""
    max_forwards: int | None
    """The hops left, None for a request that does not count them."""
    routes: list[tuple[bytes, Uri]]
    """The Route values as written, with their URIs."""

    def __init__(
        self, method: bytes, target: bytes, headers: list[Header], first: dict[bytes, bytes], body: bytes
    ) -> None:
        super().__init__(headers, first, body)
        self.method = method
        self.target = target
        """The Request-URI as written."""

    def arrived_from(self, source: Address) -> Address:
        """Writes `received` and `rport` into the topmost Via and returns where responses go.

        RFC 3261 sections 18.2.1 and 18.2.2 with RFC 3581. Always the address the request came from: a `received` that
        the peer wrote itself, or a `maddr`, could point responses at somebody else. Over a connection, or without it to
        the same host at the port of its Via.
        """
        via, host = self.via, source.host
        asked, params = False, b""
        for part in parts(via.params, b";")[1:]:
            if part[:5].lower() == b"rport":
                asked = True
                params += b";rport=%d" % source.port
            elif part[:8].lower() != b"received":
                params += b";" + part
        if asked or via.host != host:
            params += b";received=" + host.encode()
        if params != via.params:
            self._replace_top_via(via, params)
        if source.transport in RELIABLE:
            return source._replace(listens=via.port)
        return Address(source.transport, host, source.port if asked else via.port)

    def _replace_top_via(self, via: Via, params: bytes) -> None:
        index = next(i for i, header in enumerate(self.headers) if header[0] == b"via")
        others = split(self.headers[index][1], b",")[1:]
        self.via = via._replace(params=params)
        top = b"SIP/2.0/%b %b%b" % (via.transport, via.sent_by, params)
        self.headers[index] = header(b"Via", b", ".join([top, *others]))


class Response(Message):
    """A response."""

    def __init__(
        self, status: int, start: bytes, headers: list[Header], first: dict[bytes, bytes], body: bytes
    ) -> None:
        super().__init__(headers, first, body)
        self.status = status
        self.start = start
        """The status line as written."""

    def without_top_via(self) -> bytes:
        """Returns the message as it goes on to the previous hop (RFC 3261 section 16.7 step 3)."""
        index = next(i for i, header in enumerate(self.headers) if header[0] == b"via")
        others = split(self.headers[index][1], b",")[1:]
        between = [header(b"Via", b", ".join(others))] if others else []
        return render(self.start, [*self.headers[:index], *between, *self.headers[index + 1 :]], self.body)

    def back_along(self, request: Request) -> bytes:
        """Returns the message as it answers this copy of the request, which took another way here."""
        vias = [header for header in request.headers if header[0] == b"via"]
        others = [header for header in self.headers if header[0] != b"via"]
        return render(self.start, [*vias, *others], self.body)


def header(name: bytes, value: bytes) -> Header:
    """Returns a header of our own."""
    return name.lower(), value, b"%b: %b" % (name, value)


def render(start: bytes, headers: Iterable[Header], body: bytes) -> bytes:
    """Returns the bytes of a message."""
    return b"\r\n".join([start, *[raw for _, _, raw in headers], b"", body])


def parse(data: bytes) -> Request | Response | None:
    """Returns the message in a datagram, None for a keep-alive of line ends only; raises Malformed or BadRequest."""
    if len(data) > MAX_BYTES:
        raise Malformed("too long")
    data = data.lstrip(b"\r\n")  # RFC 3261 section 7.5
    if not data:
        return None
    lines, body = _cut(data)
    headers, first, repeated = _headers(lines)
    if not first.keys() >= _MANDATORY:
        raise Malformed("no " + b", ".join(sorted(_MANDATORY - first.keys())).decode())
    start = lines[0]
    if start[:8] == b"SIP/2.0 ":
        return _response(start, headers, first, body)
    return _request(start, headers, first, body, repeated)


def too_long(data: bytes) -> Malformed:
    """Returns why a message beyond MAX_BYTES, of which `data` is the beginning, is not taken; a request can be told."""
    try:
        lines, _ = _cut(data)
        headers, first, repeated = _headers(lines)
        message = _request(lines[0], headers, {**first, b"content-length": b"0"}, b"", repeated)
    except BadRequest as error:
        message = error.request
    except (Malformed, LookupError):
        return Malformed("too long")
    return BadRequest("too long", message, 513)


class BadRequest(Malformed):
    """A request that is wrong, but whole enough to be told so with `sip_status`."""

    def __init__(self, reason: str, request: Request, sip_status: int = 400) -> None:
        super().__init__(reason, sip_status)
        self.request = request


def _cut(data: bytes) -> tuple[list[bytes], bytes]:
    """Returns the lines of the head, and what comes after it."""
    end = data.find(b"\r\n\r\n")
    head, body = data[:end], data[end + 4 :]
    if end < 0 or head.count(b"\n") != head.count(b"\r\n"):
        head, body = _cut_at_bare_line_ends(data)
    lines = head.split(b"\r\n")
    # A lone CR or a NUL may be the end of a line to whoever parses this next: a way to smuggle headers past us.
    if head.count(b"\r") >= len(lines) or b"\0" in head:
        raise Malformed("control character in a header")
    if len(lines) > MAX_HEADERS:
        raise Malformed("too many headers")
    return lines, body


def _cut_at_bare_line_ends(data: bytes) -> tuple[bytes, bytes]:
    """The same for a peer that ends lines with LF: those line ends become CRLF."""
    lines: list[bytes] = []
    position = 0
    while True:
        end = data.find(b"\n", position)
        if end < 0 or len(lines) > MAX_HEADERS:
            raise Malformed("headers never end")
        line = data[position:end].removesuffix(b"\r")
        position = end + 1
        if not line:
            return b"\r\n".join(lines), data[position:]
        lines.append(line)


def _unfolded(lines: list[bytes]) -> list[bytes]:
    """Joins each folded header (RFC 3261 section 7.3.1), its line ends kept."""
    whole = lines[:1]
    for line in lines[1:]:
        if line[:1] not in _SPACE:
            whole.append(line)
        elif len(whole) == 1:
            raise Malformed("folded start line")
        else:
            whole[-1] += b"\r\n" + line
    return whole


def _headers(lines: list[bytes], folded: bool = False) -> tuple[list[Header], dict[bytes, bytes], bytes]:
    """Returns the headers, the first value of each, and the name of one that came twice but may not."""
    headers: list[Header] = []
    first: dict[bytes, bytes] = {}
    repeated = b""
    for raw in lines[1:]:
        name, colon, value = raw.partition(b":")
        key = _KEYS.get(name)
        if key is None:
            if raw[:1] in _SPACE:
                return _headers(_unfolded(lines), folded=True)
            key = _key(name, colon)
        value = b" ".join([part.strip() for part in value.split(b"\r\n")]) if folded else value.strip()
        headers.append((key, value, raw))
        if key not in first:
            first[key] = value
        elif key in _SINGLE:
            repeated = key
    return headers, first, repeated


def _key(name: bytes, colon: bytes) -> bytes:
    name = name.rstrip(b" \t").lower()
    if not colon or not is_token(name):
        raise Malformed("header name")
    return _KEYS.get(name, name)


def _response(start: bytes, headers: list[Header], first: dict[bytes, bytes], body: bytes) -> Response:
    status = start[8:].partition(b" ")[0]
    if len(status) != 3 or not status.isdigit() or not 100 <= int(status) < 700:
        raise Malformed("status line")
    response = Response(int(status), start, headers, first, _body(first, body))
    response.via = _top_via(first)
    response.cseq, response.cseq_method = parse_cseq(first[b"cseq"])
    return response


def _request(start: bytes, headers: list[Header], first: dict[bytes, bytes], body: bytes, repeated: bytes) -> Request:
    method, _, rest = start.partition(b" ")
    target, _, version = rest.rpartition(b" ")
    if not is_token(method) or version[:4].upper() != b"SIP/":
        raise Malformed("request line")
    request = Request(method, target, headers, first, body)
    request.via = _top_via(first)
    if version.upper() != b"SIP/2.0":
        raise BadRequest("version", request, 505)
    if repeated:
        raise BadRequest(f"{repeated.decode()} twice", request)
    try:
        _check(request)
    except Malformed as error:
        raise BadRequest(str(error), request) from error
    return request


def _check(request: Request) -> None:
    """Reads all that routing needs, so that nothing fails later."""
    request.cseq, request.cseq_method = parse_cseq(request.first[b"cseq"])
    if request.cseq_method != request.method:
        raise Malformed("CSeq method")
    first = request.first
    request.body = _body(first, request.body)
    request.uri = parse_uri(request.target)
    request.from_tag = tag_of(first[b"from"])
    request.to_tag = tag_of(first[b"to"])
    hops = first.get(b"max-forwards")
    request.max_forwards = None if hops is None else number(hops, MAX_FORWARDS_LIMIT, "Max-Forwards")
    routes = request.values(b"route") if b"route" in first else []
    request.routes = [(route, parse_uri(split_address(route)[0])) for route in routes]


def _top_via(first: dict[bytes, bytes]) -> Via:
    via = parse_via(split(first[b"via"], b",")[0])
    parts(via.params, b";")  # fails here, if at all
    return via


def _body(first: dict[bytes, bytes], rest: bytes) -> bytes:
    """The bytes that Content-Length counts; what a datagram holds beyond them is not part of it (section 18.3)."""
    length = first.get(b"content-length")
    if length is None:
        return rest
    expected = number(length, CSEQ_MAX, "Content-Length")
    if expected > len(rest):
        raise Malformed("body shorter than Content-Length")
    return rest[:expected]
