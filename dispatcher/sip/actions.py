"""What the proxy asks for and is told: addresses, actions and offers, all plain values.

It carries nothing out; `dispatcher/app.py` and `dispatcher/transport/` do.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from shared.ids import CallId, WorkerId
from shared.messages import Dialog, Lease

if TYPE_CHECKING:  # a message says where it came from, with an Address
    from dispatcher.sip.message import Request
    from dispatcher.sip.trace import CallTrace


RELIABLE = frozenset(("tcp", "tls"))
"""Transports with connections, which lose nothing and repeat nothing by themselves."""


class Address(NamedTuple):
    """Where a message comes from or goes to. Over TCP and TLS that is a connection, named by its other end."""

    transport: str
    """`udp`, `tcp` or `tls`; in lower case, as it stands in a URI."""
    host: str
    """An IP address, never a name."""
    port: int
    listens: int = 0
    """Port of that host to connect to when the connection is there no more; 0 is `port`."""

    @property
    def connection(self) -> "Address":
        """The connection meant, whatever is to be done without it."""
        return self._replace(listens=0) if self.listens else self

    @property
    def listener(self) -> "Address":
        """Where a new connection is opened to."""
        return self._replace(port=self.listens, listens=0) if self.listens else self


@dataclass(frozen=True, slots=True)
class Send:
    """Send one message."""

    data: bytes
    to: Address


@dataclass(frozen=True, slots=True)
class Place:
    """Find a worker for a call.

    To be answered with `Proxy.placed` or `Proxy.no_room`, sooner or later, once, unless `GiveUp` comes first; before
    that perhaps with `Proxy.waiting`, or with `Proxy.taken`, after which no other answer has to follow.
    """

    number: int
    """Names this question."""
    call_id: CallId
    source: str
    """IP address that the INVITE came from."""
    invite_at: float
    """When the INVITE came, on the clock that `now` is taken from, in seconds."""
    attempt: int
    """1 for the first worker that the call is offered to."""
    exclude: frozenset[WorkerId]
    """Workers that had their chance."""
    replacing: Lease | None
    """The offer that came to nothing."""
    silent: bool
    """The worker of `replacing` has not refused the call but says nothing.

    It may be dead, and hold a claimed lease until that is known, or it answers another replica.
    """
    request: "Request"
    """The INVITE."""
    trace: "CallTrace"


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Nobody waits for the answer to a Place any more. An offer that is made all the same is given back."""

    number: int
    """That of the Place."""


@dataclass(frozen=True, slots=True)
class Offer:
    """The answer to Place: a lease, where its worker listens, and the token that proves the lease to it."""

    lease: Lease
    address: Address
    token: str


@dataclass(frozen=True, slots=True)
class Find:
    """Find the worker that a call is at, for its CANCEL.

    To be answered with `Proxy.found` or `Proxy.not_found`, sooner or later, once.
    """

    number: int
    """Names this question."""
    call_id: CallId


@dataclass(frozen=True, slots=True)
class Orphan:
    """An answered call whose worker is dead."""

    call_id: CallId
    dialog: Dialog
    peer: str
    """IP address that its INVITE came from."""


@dataclass(frozen=True, slots=True)
class Settled:
    """`Proxy.hang_up` is done with an orphan: its caller has answered, or will not."""

    call_id: CallId


@dataclass(frozen=True, slots=True)
class Release:
    """Give back a lease: the call ended before its worker took it."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Report:
    """Something worth a log line: a static event name and its data, never a user part, a body or a token."""

    event: str
    fields: dict[str, str | int]


@dataclass(frozen=True, slots=True)
class Dispatched:
    """What came of a call, as far as this replica is concerned; once for each."""

    call_id: CallId
    trace: "CallTrace"
    invite_at: float
    """When the INVITE came, as in Place."""
    status: int
    """The final response; 0 when another replica is left to send it."""
    reason: str
    """Why it has no worker; empty when it has."""
    attempts: int
    """Workers it was offered to, or was to be."""
    waited: bool
    """Whether it had to wait for its turn."""


Order = Place | GiveUp | Find | Release | Settled | Report | Dispatched
"""What is carried out by others than the driver."""

Action = Send | Order
