"""The dispatcher's SIP side: datagrams and answers go in, actions come out (RFC 3261 section 16).

It opens no socket, asks no Redis and reads no clock. New calls go to `call.py`, requests inside dialogs to `dialog.py`;
everything else is answered here, without keeping anything.
"""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from dispatcher.admission import Admission, WorkerAddresses
from dispatcher.sip.actions import RELIABLE, Action, Address, Find, GiveUp, Offer, Orphan, Place, Release
from dispatcher.sip.call import Calls
from dispatcher.sip.copies import Copies
from dispatcher.sip.dialog import DialogRequest, Routes, stateless
from dispatcher.sip.flow import FlowTokens
from dispatcher.sip.forwarding import Identity
from dispatcher.sip.grammar import Malformed
from dispatcher.sip.layer import Layer, ServerTransaction, server_key
from dispatcher.sip.message import MAX_BYTES, BadRequest, Header, Request, Response, header, parse, too_long
from dispatcher.sip.orphan import HangUp
from dispatcher.sip.responses import ACCEPT, ALLOW
from dispatcher.sip.seal import Seal
from dispatcher.sip.search import Searches
from dispatcher.sip.trace import Traces
from dispatcher.sip.transaction import Do, Event
from shared.ids import WorkerId
from shared.messages import Lease

IN_DIALOG_HEADROOM = 1.25
"""Running calls are served until there are this many times the transactions at which new calls are refused."""

_SCHEMES = frozenset((b"sip", b"tel"))
"""Request-URIs we take. A sips URI promises TLS on every hop, which UDP cannot keep."""


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """What one proxy is told at its start."""

    address: Address
    """Where this replica is reached over UDP, and no other; stands in Via."""
    secret: str
    """The pool's secret, for flow tokens and branches."""
    peers: tuple[IPv4Network | IPv6Network, ...]
    """Networks it serves. Workers are always served."""
    invite_rate: float
    """New INVITEs per second from one source."""
    streams: tuple[Address, ...] = ()
    """Where this replica is reached over TCP and TLS."""
    shared: tuple[Address, ...] = ()
    """Where callers reach any replica, over each of the transports; stands in Record-Route. Empty is as above."""
    redirect: bool = False
    """Send callers to the worker instead of forwarding them."""
    trace_ratio: float = 0.0
    """Share of the calls that are traced, of those whose caller has not decided it."""
    max_transactions: int = 100_000
    """New calls are refused beyond this, without keeping anything: at 2 kB each, a bound on memory."""


class Proxy:
    """The whole SIP side of one dispatcher.

    Every method that takes `now` (seconds on any steady clock) returns the actions to be carried out, in order.
    """

    def __init__(self, settings: ProxySettings) -> None:
        self.open = False
        """Whether a call would find room now: what OPTIONS is told."""
        self.draining = False
        """Whether new calls are refused."""
        self.leaving = False
        """Whether OPTIONS is answered as if they were, while calls that come all the same are taken."""
        self.workers = WorkerAddresses()
        self._settings = settings
        self._received = 0
        self._admission = Admission(settings.peers, settings.invite_rate)
        identity = Identity((settings.address, *settings.streams), settings.shared)
        self._layer = Layer(identity, Seal(settings.secret))
        flows = FlowTokens(settings.secret)
        self._calls = Calls(self._layer, flows, Traces(settings.trace_ratio), redirect=settings.redirect)
        self._routes = Routes(self._layer, flows, self._admission, self.workers)
        self._searches = Searches(self._layer)
        self._copies = Copies(self._layer, flows, self._admission, self.workers)

    @property
    def transactions(self) -> int:
        """How many transactions there are, finished ones that wait for stragglers included."""
        return len(self._layer)

    @property
    def messages(self) -> tuple[int, int]:
        """How many messages were received and sent since the start; not what is no message."""
        return self._received, self._layer.sent

    def unanswered(self) -> int:
        """Returns how many requests still wait for a final response."""
        return self._layer.unanswered()

    def wakes_at(self) -> float | None:
        """Returns when `wake` wants to be called; None for never."""
        return self._layer.alarms.next_at()

    def receive(self, data: bytes, source: Address, now: float) -> list[Action]:
        """Handles one datagram, or one message from a connection."""
        served = self._admission.is_peer(source.host) or self.workers.knows(source)
        if not served and not self.workers.has_host(source.host):
            self._layer.report("sip.source_refused", source=source.host)
        else:
            try:
                message = parse(data)
            except Malformed as error:
                cut = source.transport in RELIABLE and len(data) > MAX_BYTES
                self._malformed(too_long(data) if cut else error, source, served)
            else:
                self._dispatch(message, source, served, now)
        return self._layer.take_actions()

    def placed(self, place: Place, offer: Offer, now: float) -> list[Action]:
        """Tells which worker a call gets."""
        call = self._calls.close(place.number)
        if call:
            call.placed(place.request, offer, now)
        else:
            self._layer.act(Release(offer.lease))
        return self._layer.take_actions()

    def taken(self, place: Place, now: float) -> list[Action]:
        """Tells that a worker has claimed the call's lease, as another replica offered it.

        The question stays open: the worker may die, and the call be placed after all.
        """
        call = self._calls.asker(place.number)
        if call:
            call.taken(now)
        else:
            self._layer.act(GiveUp(place.number))
        return self._layer.take_actions()

    def waiting(self, place: Place, now: float) -> list[Action]:
        """Tells that the call has to wait for its turn; the question stays open."""
        call = self._calls.asker(place.number)
        if call:
            call.waiting(now)
        else:
            self._layer.act(GiveUp(place.number))
        return self._layer.take_actions()

    def no_room(self, place: Place, now: float, *, reason: str = "no_capacity") -> list[Action]:
        """Tells that there is no offer for a call, and why, for the log."""
        call = self._calls.close(place.number)
        if call:
            call.no_room(reason, now)
        return self._layer.take_actions()

    def found(self, find: Find, lease: Lease, address: Address, now: float) -> list[Action]:
        """Tells which lease a call has, and where its worker listens."""
        search = self._searches.close(find)
        if search:
            search.found(lease, address, now)
        return self._layer.take_actions()

    def not_found(self, find: Find, now: float) -> list[Action]:
        """Tells that no worker has the call."""
        search = self._searches.close(find)
        if search:
            search.not_found(now)
        return self._layer.take_actions()

    def hang_up(self, orphan: Orphan, now: float) -> list[Action]:
        """Ends a call whose worker is dead, as the worker would have; `Settled` says when that is done."""
        HangUp(self._layer, orphan.call_id).begin(orphan, self._routes, now)
        return self._layer.take_actions()

    def unreachable(self, address: Address, now: float) -> list[Action]:
        """Tells that nobody listens at `address`: an ICMP error, or a worker whose heartbeat stopped."""
        self._layer.unreachable(address, now)
        return self._layer.take_actions()

    def lost(self, worker_id: WorkerId, now: float) -> list[Action]:
        """Tells that a worker is dead at whose address another one listens."""
        self._calls.lost(worker_id, now)
        return self._layer.take_actions()

    def disconnected(self, connection: Address, now: float) -> list[Action]:
        """Tells that a connection is there no more."""
        self._layer.disconnected(connection, now)
        return self._layer.take_actions()

    def wake(self, now: float) -> list[Action]:
        """Runs the timers that are due."""
        self._layer.alarms.run(now)
        return self._layer.take_actions()

    def is_peer(self, host: str) -> bool:
        """Whether connections from a host are taken."""
        return self._admission.is_peer(host)

    def is_worker(self, address: Address) -> bool:
        """Whether a worker listens at `address`, or did."""
        return self.workers.knows(address)

    def _dispatch(self, message: Request | Response | None, source: Address, served: bool, now: float) -> None:
        self._received += message is not None
        if isinstance(message, Response):
            self._response(message, source, now)
        elif not served and not (message and self._routes.comes_from_worker(message, source)):
            self._layer.report("sip.source_refused", source=source.host)
        elif message:
            self._request(message, source, now)

    def _response(self, response: Response, source: Address, now: float) -> None:
        """Gives a response to its transaction, or sends it on without one, if it is the pool's."""
        if self._layer.identity.sent(response) and self._layer.receive_response(response, now):
            return
        if self._copies.is_ours(response):
            self._copies.rename(response)
            if self._layer.receive_response(response, now) or self._pass_on(response, source, now):
                return
        self._layer.report("sip.stray_response", source=source.host, status=response.status)

    def _pass_on(self, response: Response, source: Address, now: float) -> bool:
        """Sends the answer to another replica's copy of a request on its way; False when it has none."""
        call = self._calls.of(response) if response.cseq_method == b"INVITE" else None
        if call and self.workers.has_host(source.host) and call.answered_elsewhere(response, now):
            return True
        return self._copies.pass_on(response, source, ended_here=call is not None)

    def _malformed(self, error: Malformed, source: Address, served: bool) -> None:
        self._layer.report("sip.malformed", source=source.host, reason=str(error))
        if served and isinstance(error, BadRequest) and error.request.method != b"ACK":
            reply_to = error.request.arrived_from(source)
            self._layer.reply(error.request, reply_to, error.sip_status)

    def _request(self, request: Request, source: Address, now: float) -> None:
        reply_to = request.arrived_from(source)
        transaction = self._layer.servers.get(server_key(request))
        if transaction:
            self._again(transaction, request, source, now)
        elif request.method == b"ACK":
            self._ack(request, source)
        elif request.method == b"CANCEL":
            self._cancel(request, source, reply_to, now)
        elif refusal := self._refusal(request):
            self._layer.reply(request, reply_to, *refusal)
            self._layer.report("sip.request_refused", source=source.host, status=refusal[0])
        elif request.to_tag:
            self._in_dialog(request, source, reply_to, now)
        elif request.method == b"INVITE":
            self._new_call(request, source, reply_to, now)
        else:
            self._out_of_dialog(request, reply_to)

    def _again(self, transaction: ServerTransaction, request: Request, source: Address, now: float) -> None:
        """A retransmission, or an ACK with its INVITE's branch."""
        event = Event.ACK if request.method == b"ACK" else Event.REQUEST
        if Do.TELL in transaction.fire(event, now):
            self._ack(request, source)

    def _ack(self, request: Request, source: Address) -> None:
        """Passes the ACK for a 2xx on; one that belongs nowhere is dropped, since nothing may answer it."""
        if not request.to_tag or request.max_forwards == 0 or self._layer.identity.has_seen(request):
            return
        hop = self._routes.next_hop(request, source)
        if hop:
            self._layer.send(stateless(self._layer, request, hop), hop.to)

    def _cancel(self, request: Request, source: Address, reply_to: Address, now: float) -> None:
        """Answers at once (section 16.10), each time: what it asks for happens only once.

        One for an INVITE of another replica goes on without state in a dialog, and has its call looked for outside.
        """
        invite = self._layer.servers.get(server_key(request, b"INVITE"))
        if invite and not (invite.user and invite.user.elsewhere):
            self._layer.reply(request, reply_to, 200)
            if invite.user:
                invite.user.cancel(now)
        elif refusal := self._refusal(request):
            self._layer.reply(request, reply_to, *refusal)
        elif request.to_tag:
            self._pass_cancel(request, source, reply_to)
        elif self._settings.redirect:
            self._layer.reply(request, reply_to, 481)
        elif not self._full():
            self._searches.begin(request, reply_to, now)

    def _pass_cancel(self, request: Request, source: Address, reply_to: Address) -> None:
        hop = self._routes.next_hop(request, source)
        if hop:
            self._layer.send(stateless(self._layer, request, hop), hop.to)
        else:
            self._layer.reply(request, reply_to, 481)

    def _refusal(self, request: Request) -> tuple[int, *tuple[Header, ...]] | None:
        """Why the request cannot be served by any proxy (section 16.3), with the headers that say so."""
        if request.uri.scheme not in _SCHEMES:
            return (416,)
        if request.max_forwards == 0 and request.method != b"OPTIONS":
            return (483,)
        if self._layer.identity.has_seen(request):
            return (482,)
        extensions = request.first.get(b"proxy-require")
        return (420, header(b"Unsupported", extensions)) if extensions else None

    def _in_dialog(self, request: Request, source: Address, reply_to: Address, now: float) -> None:
        if self._full():
            self._layer.reply(request, reply_to, 503)
            return
        hop = self._routes.next_hop(request, source)
        if hop is None:
            self._layer.reply(request, reply_to, 481)
            self._layer.report("sip.request_refused", source=source.host, status=481)
            return
        transaction = self._layer.open_server(request, reply_to, now)
        DialogRequest(self._layer, transaction).begin(request, hop, now)

    def _new_call(self, request: Request, source: Address, reply_to: Address, now: float) -> None:
        reason = self._unwanted(request, source, now)
        if reason:
            status = 482 if reason == "merged" else 503
            self._layer.reply(request, reply_to, status)
            self._layer.report("sip.call_refused", source=source.host, status=status, reason=reason)
        else:
            self._calls.begin(request, reply_to, now)

    def _unwanted(self, request: Request, source: Address, now: float) -> str:
        """Why a call is refused without looking for a worker, or empty."""
        if self.draining:
            return "draining"
        if self._calls.has(request):
            return "merged"  # the same INVITE over another way (section 8.2.2.2)
        if len(self._layer) >= self._settings.max_transactions:
            return "overload"
        return "" if self._admission.admits(source.host, now) else "rate"

    def _full(self) -> bool:
        """Whether there is no room even for what running calls need."""
        return len(self._layer) >= self._settings.max_transactions * IN_DIALOG_HEADROOM

    def _out_of_dialog(self, request: Request, reply_to: Address) -> None:
        if request.method == b"OPTIONS":
            able = self.open and not self.draining and not self.leaving
            self._layer.reply(request, reply_to, 200 if able else 503, ALLOW, ACCEPT)
        elif request.method == b"BYE":
            self._layer.reply(request, reply_to, 481)
        else:
            self._layer.reply(request, reply_to, 405, ALLOW)
