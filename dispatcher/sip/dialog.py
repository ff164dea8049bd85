"""Requests inside a dialog: where they may go, and their way there and back.

It keeps no dialogs: Route, Request-URI and the signed flow token in our Route say it all (RFC 3261 section 16.12).

The rule that makes us no open relay. A request goes
- from anybody but a worker: only to a worker; the one that Route or Request-URI names, or that the flow token names;
- from a worker: to where Route or Request-URI says if that is the address of an allowed peer, else to where the call's
  INVITE came from, as the flow token says (a Contact may be a name, or an address behind NAT);
- else nowhere.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from dispatcher.admission import Admission, WorkerAddresses
from dispatcher.sip.actions import Address
from dispatcher.sip.branch import Branch, Failure
from dispatcher.sip.flow import Flow, FlowTokens
from dispatcher.sip.forwarding import MAGIC, Forwarded, onward
from dispatcher.sip.grammar import DEFAULT_PORT, parameter, split_address
from dispatcher.sip.layer import Layer, ServerTransaction
from dispatcher.sip.message import Request, Response
from dispatcher.sip.uri import Uri, parse_uri


@dataclass(frozen=True, slots=True)
class Hop:
    """Where a request goes next, and with which Request-URI and Routes."""

    to: Address
    target: bytes
    routes: Sequence[bytes]


class Routes:
    """Finds the next hop of requests inside dialogs."""

    def __init__(self, layer: Layer, flows: FlowTokens, admission: Admission, workers: WorkerAddresses) -> None:
        self._identity = layer.identity
        self._flows = flows
        self._admission = admission
        self._workers = workers

    def next_hop(self, request: Request, source: Address) -> Hop | None:
        """Returns where the request may go, None when that is nowhere."""
        routes, target, flow = list(request.routes), request.target, None
        if routes and request.uri.loose and self._identity.owns(request.uri):
            # A strict router put our Record-Route into the Request-URI and the target last (section 16.4).
            flow = self._flows.read(request.uri.user, request.call_id)
            target = split_address(routes.pop()[0])[0]
        while routes and self._identity.owns(routes[0][1]):
            flow = flow or self._flows.read(routes[0][1].user, request.call_id)
            del routes[0]
        following = routes[0][1] if routes else parse_uri(target)
        to = self._allowed(following, source, flow)
        if to is None:
            return None
        values = [value for value, _ in routes]
        if routes and not following.loose:
            # The next hop is a strict router: it wants to find itself in the Request-URI (section 16.6 step 6).
            return Hop(to, split_address(values[0])[0], [*values[1:], b"<%b>" % target])
        return Hop(to, target, values)

    def _allowed(self, following: Uri, source: Address, flow: Flow | None) -> Address | None:
        named = _address(following)
        if self._workers.knows(source) or (flow and source == flow.worker):
            if named and self._admission.is_peer(named.host):
                return named
            return flow.caller if flow else None
        if named and self._workers.knows(named):
            return named
        return flow.worker if flow else None


class DialogRequest:
    """One request inside a dialog, from its arrival to its final response."""

    def __init__(self, layer: Layer, server: ServerTransaction) -> None:
        self._layer = layer
        self._server = server
        self._server.user = self

    def begin(self, request: Request, hop: Hop, now: float) -> None:
        """Sends it on. Only an INVITE gets a 100: for others that does more harm than good (RFC 4320 section 4.1)."""
        self._invite = request.method == b"INVITE"
        if self._invite:
            self._server.answer(100, now)
        branch = self._layer.new_branch()
        forwarded, data = _forwarded(self._layer, request, hop, branch)
        self._branch = Branch(self._layer, self, hop.to)
        self._branch.start(forwarded, branch, data, now)

    def cancel(self, now: float) -> None:
        """Called when a re-INVITE is cancelled."""
        self._branch.cancel(now)

    def gone(self) -> None:
        """Called when the server transaction has terminated."""

    def answered(self, branch: Branch, response: Response, now: float) -> None:
        """Called with each response."""
        if response.status > 100:
            self._server.respond(response.status, response.without_top_via(), now)

    def unanswered(self, branch: Branch, failure: Failure, now: float) -> None:
        """Called when there will be no final response."""
        if failure is Failure.UNREACHABLE:
            self._server.answer(500, now)  # what a 503 is to become on its way upstream (section 16.7 step 6)
        elif self._invite:
            self._server.answer(408, now)
        else:
            self._server.terminate()  # no 408 to other requests: it would come too late anyway (RFC 4320 section 4.2)


def stateless_ack(layer: Layer, request: Request, hop: Hop) -> bytes:
    """Returns the ACK for a 2xx as it goes on; the same for each retransmission (section 16.11)."""
    text = b"\0".join((request.via.branch, request.via.sent_by, request.call_id, b"%d" % request.cseq))
    return _forwarded(layer, request, hop, MAGIC + hashlib.blake2b(text, digest_size=12).hexdigest().encode())[1]


def _forwarded(layer: Layer, request: Request, hop: Hop, branch: bytes) -> tuple[Forwarded, bytes]:
    forwarded = Forwarded(request, hop.target, layer.identity.via(branch), hop.routes)
    return forwarded, forwarded.render(onward(request), request.body)


def _address(uri: Uri) -> Address | None:
    """The address a URI names, None when it is not reached over UDP."""
    if uri.scheme != b"sip" or (parameter(uri.params, b"transport") or b"udp").lower() != b"udp":
        return None
    return Address("udp", uri.host, uri.port or DEFAULT_PORT)
