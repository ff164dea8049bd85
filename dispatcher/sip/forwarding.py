"""Requests as they leave the dispatcher: our Via on top, one hop less, our own Route and stray lease tokens gone.

It does not decide where they go (`proxy.py`, `dialog.py`) and keeps no state.
"""

from collections.abc import Sequence

from dispatcher.sip.actions import Address
from dispatcher.sip.grammar import DEFAULT_PORT
from dispatcher.sip.message import Header, Request, Response, header, render
from dispatcher.sip.uri import Uri, bracketed
from shared import token

MAX_FORWARDS = 70
"""Hops given to a request that does not count them (RFC 3261 section 16.6 step 3)."""

_LEASE = token.HEADER.lower().encode()
_COUNTED_HOPS = header(b"Max-Forwards", b"%d" % MAX_FORWARDS)
_DROPPED = frozenset((b"route", _LEASE))


class Identity:
    """Who the dispatcher is: its own address in Via, and in Record-Route the one that all replicas share.

    Workers and callers answer to Via; where a later request of a call is to go, any replica will do.
    """

    def __init__(self, address: Address, shared: Address | None = None) -> None:
        """`shared` is where callers reach the pool; None when they know each replica by its own address."""
        self.sent_by = _sent_by(address)
        self._ends = {(each.host, each.port) for each in (address, shared or address)}
        self._via = b"SIP/2.0/%b %b;branch=" % (address.transport.upper().encode(), self.sent_by)
        self._route = _sent_by(shared or address)
        self.contact = header(b"Contact", b"<sip:%b>" % self._route)
        """For answers of our own that make an early dialog (RFC 3261 section 12.1.1)."""

    def via(self, branch: bytes) -> Header:
        """Returns our Via."""
        return header(b"Via", self._via + branch)

    def record_route(self, user: bytes) -> Header:
        """Returns our Record-Route; `user` comes back in the Route of every request in the dialog."""
        return header(b"Record-Route", b"<sip:%b@%b;lr>" % (user, self._route))

    def owns(self, uri: Uri) -> bool:
        """Whether a URI from a Route names us. One with the flow token of a call is ours, whomever it names."""
        return (uri.host, uri.port or DEFAULT_PORT) in self._ends

    def sent(self, response: Response) -> bool:
        """Whether a response is to a request that this replica forwarded, by its topmost Via."""
        return response.via.sent_by.lower() == self.sent_by

    def has_seen(self, request: Request) -> bool:
        """Whether one of our Vias is in it: a loop, since no request passes a dispatcher twice."""
        return any(self._via in value for key, value, _ in request.headers if key == b"via")


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


def _sent_by(address: Address) -> bytes:
    return b"%b:%d" % (bracketed(address.host), address.port)


def _dialog_headers(headers: Sequence[Header]) -> tuple[Header, Header, Header]:
    found = {item[0]: item for item in headers if item[0] in (b"from", b"to", b"call-id")}
    return found[b"from"], found[b"to"], found[b"call-id"]
