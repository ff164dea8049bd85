"""What the proxy asks for and is told: addresses, actions and offers, all plain values.

It carries nothing out; `dispatcher/app.py` and `dispatcher/transport.py` do.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from shared.ids import CallId, WorkerId
from shared.messages import Dialog, Lease

if TYPE_CHECKING:  # a message says where it came from, with an Address
    from dispatcher.sip.message import Request


class Address(NamedTuple):
    """Where a message comes from or goes to."""

    transport: str
    """`udp`; in lower case, as it stands in a URI."""
    host: str
    """An IP address, never a name."""
    port: int


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


Order = Place | GiveUp | Find | Release | Settled | Report
"""What is carried out by others than the driver."""

Action = Send | Order
