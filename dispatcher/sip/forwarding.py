"""Requests as they leave the dispatcher: our Via on top, one hop less, our own Route and stray lease tokens gone.

It does not decide where they go (`proxy.py`, `dialog.py`) and keeps no state.
"""

from collections.abc import Sequence

from dispatcher.sip.actions import Address
from dispatcher.sip.message import Header, Request, Response, header, render
from dispatcher.sip.uri import Uri, bracketed
from shared import token
from shared.telemetry import trace

MAX_FORWARDS = 70
"""Hops given to a request that does not count them (RFC 3261 section 16.6 step 3)."""

_LEASE = token.HEADER.lower().encode()
_COUNTED_HOPS = header(b"Max-Forwards", b"%d" % MAX_FORWARDS)
_DROPPED = frozenset((b"route", _LEASE))


class Identity:
    """Who the dispatcher is: its own addresses in Via, and in Record-Route those that all replicas share.

    Workers and callers answer to Via; where a later request of a call is to go, any replica will do.
    """

    def __init__(self, own: Sequence[Address], shared: Sequence[Address] = ()) -> None:
        """`own` begins with UDP, which workers speak, and has one address for each transport.

        `shared`, of the same transports, is where callers reach the pool; empty when they know each replica by its own.
        """
        self.transports = {each.transport.encode(): each.transport for each in own}
        """Those that are spoken here, by their name in a URI."""
        self.sent_by = _sent_by(own[0])
        self._sent_by = frozenset(map(_sent_by, own))
        self._ends = {(each.host, each.port) for each in (*own, *shared)}
        self._vias = {each.transport: _via(each) for each in own}
        self._routes = {each.transport: _route(each) for each in shared or own}

    def via(self, branch: bytes, transport: str = "udp") -> Header:
        """Returns our Via."""
        return header(b"Via", self._vias[transport] + branch)

    def contact(self, transport: str) -> Header:
        """Returns a Contact for answers of our own that make an early dialog (RFC 3261 section 12.1.1)."""
        address, params = self._routes[transport]
        return header(b"Contact", b"<sip:%b%b>" % (address, params))

    def record_route(self, user: bytes, transport: str) -> list[Header]:
        """Returns our Record-Route; `user` comes back in the Route of every request in the dialog.

        Two for a caller who is not reached over UDP as the worker is, each for its own side (RFC 5658 section 4).
        """
        values = [self.route(user, each) for each in dict.fromkeys(("udp", transport))]
        return [header(b"Record-Route", value) for value in values]

    def route(self, user: bytes, transport: str) -> bytes:
        """Returns the value of our Record-Route for one side."""
        address, params = self._routes[transport]
        return b"<sip:%b@%b%b;lr>" % (user, address, params)

    def owns(self, uri: Uri) -> bool:
        """Whether a URI from a Route names us. One with the flow token of a call is ours, whomever it names."""
        return (uri.host, uri.reached_at) in self._ends

    def sent(self, response: Response) -> bool:
        """Whether a response is to a request that this replica forwarded, by its topmost Via."""
        return response.via.sent_by.lower() in self._sent_by

    def has_seen(self, request: Request) -> bool:
        """Whether one of our Vias is in it: a loop, since no request passes a dispatcher twice."""
        vias = self._vias.values()
        return any(via in value for key, value, _ in request.headers if key == b"via" for via in vias)


class Forwarded:
    """A request that was sent on, and the requests that follow from it hop by hop."""

    def __init__(self, source: Request, target: bytes, via: Header, routes: Sequence[bytes]) -> None:
        self.method = source.method
        self.target = target
        self.via = via
        self.routes = [header(b"Route", route) for route in routes]
        self.cseq = source.cseq
        self._from, self._to, self._call_id = _dialog_headers(source.headers)

    def render(self, headers: Sequence[Header], body: bytes) -> bytes:
        """Returns the request itself; `headers` are those of `onward` and what is added to them."""
        start = b"%b %b SIP/2.0" % (self.method, self.target)
        return render(start, [self.via, *self.routes, *headers], body)

    def cancel(self) -> bytes:
        """Returns its CANCEL (RFC 3261 section 9.1)."""
        return self._follow(b"CANCEL", self._to)

    def ack(self, response: Response) -> bytes:
        """Returns the ACK for a response other than 2xx (RFC 3261 section 17.1.1.3)."""
        to = next(item for item in response.headers if item[0] == b"to")
        return self._follow(b"ACK", to)

    def _follow(self, method: bytes, to: Header) -> bytes:
        start = b"%b %b SIP/2.0" % (method, self.target)
        cseq = header(b"CSeq", b"%d %b" % (self.cseq, method))
        empty = header(b"Content-Length", b"0")
        parts = [self.via, *self.routes, _COUNTED_HOPS, self._from, to, self._call_id, cseq, empty]
        return render(start, parts, b"")


def onward(request: Request) -> list[Header]:
    """Returns the headers that go on: Route headers and lease tokens left out, Max-Forwards counted down."""
    if request.max_forwards is None:
        return [*(item for item in request.headers if item[0] not in _DROPPED), _COUNTED_HOPS]
    hops = header(b"Max-Forwards", b"%d" % (request.max_forwards - 1))
    return [hops if item[0] == b"max-forwards" else item for item in request.headers if item[0] not in _DROPPED]


def lease_header(lease_token: str) -> Header:
    """Returns the header that proves the lease to its worker."""
    return header(token.HEADER.encode(), lease_token.encode())


def traced(headers: Sequence[Header], traceparent: str) -> list[Header]:
    """Returns the headers with that Traceparent in place of any other; without one they stay as they came."""
    if not traceparent:
        return list(headers)
    ours = header(trace.HEADER.encode(), traceparent.encode())
    return [*(item for item in headers if item[0] != ours[0]), ours]


def _sent_by(address: Address) -> bytes:
    return b"%b:%d" % (bracketed(address.host), address.port)


def _via(address: Address) -> bytes:
    return b"SIP/2.0/%b %b;branch=" % (address.transport.upper().encode(), _sent_by(address))


def _route(address: Address) -> tuple[bytes, bytes]:
    """Returns an address as it stands in a URI, and the parameters that it needs; UDP needs none."""
    params = b"" if address.transport == "udp" else b";transport=%b" % address.transport.encode()
    return _sent_by(address), params


def _dialog_headers(headers: Sequence[Header]) -> tuple[Header, Header, Header]:
    found = {item[0]: item for item in headers if item[0] in (b"from", b"to", b"call-id")}
    return found[b"from"], found[b"to"], found[b"call-id"]
