"""Requests inside a dialog: where they may go, and their way there and back.

It keeps no dialogs: Route, Request-URI and the signed flow token in our Route say it all (RFC 3261 section 16.12).

The rule that makes us no open relay. A request goes
- from anybody but a worker: only to a worker; the one that Route or Request-URI names, or that the flow token names;
- from a worker: to where Route or Request-URI says if that is the address of an allowed peer, else to where the call's
  INVITE came from, as the flow token says (a Contact may be a name, or an address behind NAT);
- else nowhere.

A caller who came over TCP or TLS gets requests over that connection, if it is still there, and else over a new one to
the port that Route or Request-URI says. What came over TLS leaves it for nothing else.

A Route is ours when it names us or has the token: any replica may serve what names another one, which may be dead.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dispatcher.admission import Admission, WorkerAddresses
from dispatcher.sip.actions import RELIABLE, Address
from dispatcher.sip.branch import Branch, Failure
from dispatcher.sip.flow import Flow, FlowTokens
from dispatcher.sip.forwarding import Forwarded, onward
from dispatcher.sip.grammar import DEFAULT_PORT, TLS_PORT, default_port, parameter, split_address
from dispatcher.sip.layer import Layer, ServerTransaction
from dispatcher.sip.message import Request, Response
from dispatcher.sip.uri import Uri, parse_uri

ANEW_S = 2.0
"""A BYE without any answer for this long (it and two copies) is sent anew, under a branch of this replica's own.

Another replica may have died with it. The other side then takes ours for a copy and answers the dead one; to a BYE that
it has not seen it answers here, if only with 481.
"""

_ANEW = "anew"


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
        if routes and request.uri.loose:
            # A strict router put our Record-Route into the Request-URI and the target last (section 16.4).
            ours, flow = self._ours(request.uri, request)
            if ours:
                target = split_address(routes.pop()[0])[0]
        flow = self._past_us(routes, request) or flow
        following = routes[0][1] if routes else parse_uri(target)
        to = self._allowed(following, source, flow)
        return _hop(to, target, routes) if to else None

    def to_caller(self, request: Request, peer: str) -> Hop | None:
        """Returns where a dead worker's own request would go; `peer` is the IP address that the INVITE came from."""
        routes = list(request.routes)
        flow = self._past_us(routes, request)
        following = routes[0][1] if routes else request.uri
        to = self._toward_caller(following, flow)
        if to is None and self._admission.is_peer(peer):
            to = Address("udp", peer, request.uri.port or DEFAULT_PORT)
        return _hop(to, request.target, routes) if to else None

    def _past_us(self, routes: list[tuple[bytes, Uri]], request: Request) -> Flow | None:
        """Takes our own Routes off the front; returns what the first token among them says."""
        flow = None
        while routes:
            ours, token = self._ours(routes[0][1], request)
            if not ours:
                break
            flow = flow or token
            del routes[0]
        return flow

    def _ours(self, uri: Uri, request: Request) -> tuple[bool, Flow | None]:
        flow = self._flows.read(uri.user, request.call_id) if uri.user else None
        return flow is not None or self._identity.owns(uri), flow

    def _allowed(self, following: Uri, source: Address, flow: Flow | None) -> Address | None:
        if self._workers.knows(source) or (flow and (source == flow.worker or _is_near_worker(source, flow))):
            return self._toward_caller(following, flow)
        named = self._address(following)
        if named and self._workers.knows(named):
            return named
        return flow.worker if flow else None

    def comes_from_worker(self, request: Request, source: Address) -> bool:
        """Whether the call's worker sent the request, as its token says, though perhaps from another port.

        On the way to a load balancer's address a machine may give it one: kube-proxy does so to pods on its network.
        """
        flow = self._past_us(list(request.routes), request)
        return flow is not None and _is_near_worker(source, flow)

    def _toward_caller(self, following: Uri, flow: Flow | None) -> Address | None:
        caller = flow.caller if flow else None
        named = self._address(following)
        if named and not self._admission.is_peer(named.host):
            named = None
        if caller is None:
            return named
        if caller.transport not in RELIABLE:
            return named if named and named.transport == caller.transport else caller
        if named and named.host != caller.host and caller.transport in ("tcp", named.transport):
            return named
        return caller._replace(listens=_listening_port(following, caller))

    def _address(self, uri: Uri) -> Address | None:
        """The address a URI names, None when it is not reached over any transport of ours."""
        transport = self._identity.transports.get(uri.transport)
        if uri.scheme != b"sip" or transport is None:
            return None
        return Address(transport, uri.host, uri.reached_at)


class DialogRequest:
    """One request inside a dialog, from its arrival to its final response."""

    elsewhere = False

    def __init__(self, layer: Layer, server: ServerTransaction) -> None:
        self.alarms: dict[str, int] = {}
        self._layer = layer
        self._server = server
        self._server.user = self

    def begin(self, request: Request, hop: Hop, now: float) -> None:
        """Sends it on. Only an INVITE gets a 100: for others that does more harm than good (RFC 4320 section 4.1)."""
        self._method = request.method
        self._hop = hop
        self._send(request, self._layer.seal.branch(request), now)
        if self._method == b"BYE":
            self._layer.alarms.set(self, _ANEW, now + ANEW_S)

    def cancel(self, now: float) -> None:
        """Called when a re-INVITE is cancelled."""
        self._branch.cancel(now)

    def gone(self) -> None:
        """Called when the server transaction has terminated."""

    def answered(self, branch: Branch, response: Response, now: float) -> None:
        """Called with each response."""
        self._layer.alarms.cancel(self, _ANEW)
        if response.status > 100:
            self._server.respond(response.status, response.without_top_via(), now)
        elif self._method == b"INVITE":
            self._server.trying(now)

    def unanswered(self, branch: Branch, failure: Failure, now: float) -> None:
        """Called when there will be no final response."""
        self._layer.alarms.cancel(self, _ANEW)
        if failure is Failure.UNREACHABLE:
            # A dead process has no dialogs. Other requests get what a 503 is to become upstream (section 16.7 step 6).
            self._server.answer(481 if self._method == b"BYE" else 500, now)
        elif self._method == b"INVITE":
            self._server.answer(408, now)
        else:
            self._server.terminate()  # no 408 to other requests: it would come too late anyway (RFC 4320 section 4.2)

    def alarm(self, name: str, now: float) -> None:
        """Called when a BYE is to be sent anew."""
        if request := self._server.request:
            self._branch.drop()
            self._send(request, self._layer.seal.branch(request, self._layer.identity.sent_by), now)

    def _send(self, request: Request, branch: bytes, now: float) -> None:
        forwarded, data = forward(self._layer, request, self._hop, branch)
        self._branch = Branch(self._layer, self, self._hop.to)
        self._branch.start(forwarded, branch, data, now)


def stateless(layer: Layer, request: Request, hop: Hop) -> bytes:
    """Returns an ACK or CANCEL as it goes on; the same for each retransmission (section 16.11)."""
    return forward(layer, request, hop, layer.seal.branch(request))[1]


def forward(layer: Layer, request: Request, hop: Hop, branch: bytes) -> tuple[Forwarded, bytes]:
    """Returns a request as it goes on, with what follows from it."""
    forwarded = Forwarded(request, hop.target, layer.identity.via(branch, hop.to.transport), hop.routes)
    return forwarded, forwarded.render(onward(request), request.body)


def _hop(to: Address, target: bytes, routes: Sequence[tuple[bytes, Uri]]) -> Hop:
    values = [value for value, _ in routes]
    if routes and not routes[0][1].loose:
        # The next hop is a strict router: it wants to find itself in the Request-URI (section 16.6 step 6).
        return Hop(to, split_address(values[0])[0], [*values[1:], b"<%b>" % target])
    return Hop(to, target, values)


def _listening_port(uri: Uri, caller: Address) -> int:
    """The port where a caller takes connections, as far as the URI that stands for it says; at 5060 nobody has TLS."""
    named = parameter(uri.params, b"transport")
    transport = caller.transport.encode()
    if uri.port is None or (named and named.lower() != transport):
        return default_port(transport)
    return TLS_PORT if caller.transport == "tls" and uri.port == DEFAULT_PORT else uri.port


def _is_near_worker(source: Address, flow: Flow) -> bool:
    """Whether something is from the worker's host, which is not the caller's too."""
    return flow.worker.host == source.host != flow.caller.host
