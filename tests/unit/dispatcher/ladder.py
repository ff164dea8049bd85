"""A stage for SIP ladders: a proxy, the peers around it, and a clock that only the test moves.

It asserts nothing; tests read from it what each peer got, and say what each peer sends.
"""

from ipaddress import ip_network

from dispatcher.sip.actions import (
    Action,
    Address,
    Dispatched,
    Find,
    GiveUp,
    Offer,
    Orphan,
    Place,
    Release,
    Report,
    Send,
    Settled,
)
from dispatcher.sip.message import Message, Request, Response, parse
from dispatcher.sip.proxy import Proxy, ProxySettings
from shared.ids import CallId, LeaseId, WorkerId
from shared.messages import Lease

PROXY = Address("udp", "10.0.0.1", 5060)
SECOND = Address("udp", "10.0.0.2", 5060)
SHARED = Address("udp", "10.0.0.100", 5060)
CALLER = Address("udp", "192.0.2.10", 5060)
STRANGER = Address("udp", "203.0.113.66", 5060)
WORKERS = {name: Address("udp", "10.0.1.1", 5070 + index) for index, name in enumerate(("w1", "w2", "w3", "w4"))}
SDP = b"v=0\r\no=- 1 1 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0 8\r\n"
SECRET = "a secret for tests only"


def request(
    method: str,
    uri: str = "sip:100@10.0.0.1",
    *,
    branch: str = "z9hG4bKcaller1",
    source: Address = CALLER,
    call_id: str = "call-1",
    from_tag: str = "caller",
    to_tag: str = "",
    cseq: int = 1,
    headers: tuple[str, ...] = (),
    body: bytes = b"",
) -> bytes:
    """Returns a request as a peer at `source` writes it."""
    lines = [
        f"{method} {uri} SIP/2.0",
        f"Via: SIP/2.0/{source.transport.upper()} {source.host}:{source.listens or source.port};branch={branch};rport",
        f'From: "A Caller" <sip:alice@{source.host}>;tag={from_tag}',
        f"To: <sip:100@10.0.0.1>{f';tag={to_tag}' if to_tag else ''}",
        f"Call-ID: {call_id}",
        f"CSeq: {cseq} {method}",
        f"Contact: <{contact_of(source)}>",
    ]
    if not any(header.startswith("Max-Forwards") for header in headers):
        lines.append("Max-Forwards: 70")
    return "\r\n".join([*lines, *headers, f"Content-Length: {len(body)}", "", ""]).encode() + body


def contact_of(source: Address) -> str:
    """Returns the Contact of a peer at `source`."""
    transport = "" if source.transport == "udp" else f";transport={source.transport}"
    return f"sip:alice@{source.host}:{source.listens or source.port}{transport}"


def invite(**changes: object) -> bytes:
    """Returns a new call's INVITE."""
    return request("INVITE", body=SDP, **changes)  # type: ignore[arg-type]


def response(to: bytes, status: int, *, tag: str = "worker", headers: tuple[str, ...] = (), body: bytes = b"") -> bytes:
    """Returns a worker's response to a request it got."""
    message = parse(to)
    assert isinstance(message, Request)
    copied = [raw for key, _, raw in message.headers if key in (b"via", b"record-route", b"from", b"call-id", b"cseq")]
    value = message.first[b"to"]
    if status > 100 and b"tag=" not in value:
        value += b";tag=" + tag.encode()
    lines = [b"SIP/2.0 %d Whatever" % status, *copied, b"To: " + value, *(header.encode() for header in headers)]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"", b""]) + body


def header_of(data: bytes, name: str) -> str:
    """Returns the first value of a header, or empty."""
    message = parse(data)
    assert message
    return message.first.get(name.lower().encode(), b"").decode()


def offer_of(worker: str, call_id: CallId, *, provisional: bool = False, traceparent: str = "") -> Offer:
    """Returns an offer of a slot on `worker`."""
    lease = Lease(
        lease_id=LeaseId(f"lease-{worker}"),
        call_id=call_id,
        worker_id=WorkerId(worker),
        offered_at_ms=0,
        invite_at_ms=0,
        provisional=provisional,
        traceparent=traceparent,
    )
    return Offer(lease, WORKERS[worker], f"token-{worker}")


class Stage:
    """A proxy and everybody it talks to."""

    def __init__(
        self,
        *,
        address: Address = PROXY,
        streams: tuple[Address, ...] = (),
        shared: Address | None = None,
        redirect: bool = False,
        invite_rate: float = 100.0,
        max_transactions: int = 1000,
        trace_ratio: float = 0.0,
    ) -> None:
        self.now = 1000.0
        self.proxy = Proxy(
            ProxySettings(
                address=address,
                streams=streams,
                shared=(shared, *(each._replace(host=shared.host) for each in streams)) if shared else (),
                secret=SECRET,
                peers=(ip_network("192.0.2.0/24"),),
                invite_rate=invite_rate,
                redirect=redirect,
                max_transactions=max_transactions,
                trace_ratio=trace_ratio,
            )
        )
        self.proxy.open = True
        self.proxy.workers.update(WORKERS.values(), self.now)
        self.sent: list[Send] = []
        self.places: list[Place] = []
        self.released: list[str] = []
        self.given_up: list[int] = []
        self.finds: list[Find] = []
        self.settled: list[CallId] = []
        self.reports: list[Report] = []
        self.dispatched: list[Dispatched] = []

    def send(self, data: bytes, source: Address = CALLER) -> None:
        """A peer sends something."""
        self._carry_out(self.proxy.receive(data, source, self.now))

    def worker_sends(self, worker: str, data: bytes) -> None:
        """A worker sends something."""
        self.send(data, WORKERS[worker])

    def place(self, worker: str, *, provisional: bool = False, traceparent: str = "") -> None:
        """The oldest open question is answered with `worker`: with a lease of its own trace unless another is given."""
        place = self.places.pop(0)
        offer = offer_of(
            worker, place.call_id, provisional=provisional, traceparent=traceparent or str(place.trace.context)
        )
        self._carry_out(self.proxy.placed(place, offer, self.now))

    def taken(self) -> None:
        """The oldest open question is answered with: another replica has the call."""
        self._carry_out(self.proxy.taken(self.places.pop(0), self.now))

    def waiting(self) -> None:
        """The oldest open question is answered with: the call has to wait. It stays open."""
        self._carry_out(self.proxy.waiting(self.places[0], self.now))

    def found(self, worker: str) -> None:
        """The oldest search is answered with the lease that `place(worker)` gives."""
        find = self.finds.pop(0)
        self._carry_out(self.proxy.found(find, offer_of(worker, find.call_id).lease, WORKERS[worker], self.now))

    def not_found(self) -> None:
        """The oldest search comes to nothing."""
        self._carry_out(self.proxy.not_found(self.finds.pop(0), self.now))

    def hang_up(self, orphan: Orphan) -> None:
        """The worker of a call is dead."""
        self._carry_out(self.proxy.hang_up(orphan, self.now))

    def no_room(self) -> None:
        """The oldest open question is answered with a refusal."""
        self._carry_out(self.proxy.no_room(self.places.pop(0), self.now))

    def disconnected(self, connection: Address) -> None:
        """A connection is closed."""
        self._carry_out(self.proxy.disconnected(connection, self.now))

    def lost(self, worker: str) -> None:
        """Tells that a worker is dead whose address is another's."""
        self._carry_out(self.proxy.lost(WorkerId(worker), self.now))

    def unreachable(self, address: Address) -> None:
        """The network says that nobody listens at `address`."""
        self._carry_out(self.proxy.unreachable(address, self.now))

    def wait(self, seconds: float) -> None:
        """Time passes; timers fire when they are due."""
        end = self.now + seconds
        while (at := self.proxy.wakes_at()) is not None and at <= end:
            self.now = max(self.now, at)
            self._carry_out(self.proxy.wake(self.now))
        self.now = end

    def take(self, address: Address | str) -> list[bytes]:
        """Returns what was sent to a peer or worker since the last time, over a connection if it has one."""
        to = WORKERS[address] if isinstance(address, str) else address.connection
        taken = [send.data for send in self.sent if send.to.connection == to]
        self.sent = [send for send in self.sent if send.to.connection != to]
        return taken

    def got(self, address: Address | str) -> list[str]:
        """Returns the same as `INVITE` or `180 INVITE`, an empty datagram as an empty string."""
        return [summary(data) for data in self.take(address)]

    def one(self, address: Address | str) -> bytes:
        """Returns the only thing that was sent to a peer since the last time."""
        (data,) = self.take(address)
        return data

    def events(self) -> list[str]:
        """Returns the names of what was reported since the last time."""
        names = [report.event for report in self.reports]
        self.reports.clear()
        return names

    def _carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Send():
                    self.sent.append(action)
                case Place():
                    self.places.append(action)
                case Release(lease):
                    self.released.append(lease.lease_id)
                case GiveUp(number):
                    self.given_up.append(number)
                case Find():
                    self.finds.append(action)
                case Settled(call_id):
                    self.settled.append(call_id)
                case Report():
                    self.reports.append(action)
                case Dispatched():
                    self.dispatched.append(action)


def summary(data: bytes) -> str:
    """Returns `INVITE` for a request, `180 INVITE` for a response to it."""
    message: Message | None = parse(data)
    if isinstance(message, Response):
        return f"{message.status} {message.cseq_method.decode()}"
    return message.method.decode() if isinstance(message, Request) else ""
