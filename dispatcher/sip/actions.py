"""What the proxy asks for and is told: addresses, actions and offers, all plain values.

It carries nothing out; `dispatcher/app.py` and `dispatcher/transport.py` do.
"""

from dataclasses import dataclass
from typing import NamedTuple

from shared.ids import CallId, WorkerId
from shared.messages import Lease


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
    """Find a worker for a call; to be answered with `Proxy.placed` or `Proxy.no_room`, sooner or later, once."""

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


@dataclass(frozen=True, slots=True)
class Offer:
    """The answer to Place: a lease, where its worker listens, and the token that proves the lease to it."""

    lease: Lease
    address: Address
    token: str


@dataclass(frozen=True, slots=True)
class Release:
    """Give back a lease: the call ended before its worker took it."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Report:
    """Something worth a log line: a static event name and its data, never a user part, a body or a token."""

    event: str
    fields: dict[str, str | int]


Action = Send | Place | Release | Report
