"""Responses without a transaction here that are the pool's all the same: passed on as a stateless proxy does.

A worker whose final response nobody acknowledges sends copies of it to other replicas, because the one that forwarded
the request may be dead. This keeps nothing and repeats nothing: who sent the response goes on sending it (RFC 3261
section 16.11).
"""

from collections.abc import Mapping
from ipaddress import ip_address

from dispatcher.admission import Admission, WorkerAddresses
from dispatcher.sip.actions import RELIABLE, Address
from dispatcher.sip.flow import FlowTokens
from dispatcher.sip.grammar import Malformed, number, parameter, parse_via, split, split_address
from dispatcher.sip.layer import Layer
from dispatcher.sip.message import Response, header
from dispatcher.sip.uri import parse_uri


class Copies:
    """Finds out which stray responses may go on, and where."""

    def __init__(self, layer: Layer, flows: FlowTokens, admission: Admission, workers: WorkerAddresses) -> None:
        self._layer = layer
        self._flows = flows
        self._admission = admission
        self._workers = workers

    def is_ours(self, response: Response) -> bool:
        """Whether a response is to a request that a replica of this pool forwarded."""
        return self._layer.seal.holds(response.via.branch, response.call_id)

    def pass_on(self, response: Response, source: Address, *, ended_here: bool) -> bool:
        """Sends a response of ours back along its Vias; False when it may not go there.

        Late ones to requests of a call that is known here (`ended_here`) go no further, but for 2xx: to those each side
        holds on. What this address asked for before it was restarted is not late.
        """
        late = self._layer.identity.sent(response) and ended_here
        if response.status == 100 or (late and not 200 <= response.status < 300):
            return False
        to = _previous_hop(response, self._layer.identity.transports)
        if to is None or not self._may_go(source, to):
            return False
        self._layer.send(response.without_top_via(), to)
        return True

    def rename(self, response: Response) -> None:
        """Puts this replica in the place of the one that a Record-Route of ours names (RFC 3261 section 16.7 step 8).

        So that the dialog's requests come to the living. An address that all replicas share stays.
        """
        for index, (key, text, _) in enumerate(response.headers):
            if key == b"record-route":
                values = split(text, b",")
                renamed = [self._renamed(value, response.call_id) for value in values]
                if renamed != values:
                    response.headers[index] = header(b"Record-Route", b", ".join(renamed))

    def _renamed(self, value: bytes, call_id: bytes) -> bytes:
        try:
            uri = parse_uri(split_address(value)[0])
        except Malformed:
            return value  # somebody else's: it stays as it came
        identity = self._layer.identity
        transport = identity.transports.get(uri.transport)
        if transport is None or identity.owns(uri) or not self._flows.read(uri.user, call_id):
            return value
        return identity.route(uri.user, transport)

    def _may_go(self, source: Address, to: Address) -> bool:
        if self._workers.has_host(source.host) and self._admission.is_peer(to.host):
            return True
        return self._admission.is_peer(source.host) and self._workers.knows(to)


def _previous_hop(response: Response, transports: Mapping[bytes, str]) -> Address | None:
    """Where the request came from, as the replica that forwarded it wrote into the Via below ours."""
    try:
        via = parse_via(response.values(b"via")[1])
        host = (parameter(via.params, b"received") or via.host.encode()).decode("ascii", "replace")
        rport = parameter(via.params, b"rport")
        port = number(rport, 65536, "rport") if rport else via.port
        if not port:
            return None
        transport = transports[via.transport.lower()]
        return Address(transport, str(ip_address(host)), port, via.port if transport in RELIABLE else 0)
    except (LookupError, ValueError, Malformed):
        return None
