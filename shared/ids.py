"""The pool's identifiers: what a worker, a call and a lease are called everywhere.

It does not hold addresses or SIP headers; an identifier never reveals a telephone number.
"""

import hashlib
import secrets
from typing import NewType

WorkerId = NewType("WorkerId", str)
"""One registered worker process, new at every start: a restarted worker never inherits its predecessor's leases."""

DispatcherId = NewType("DispatcherId", str)
"""One running dispatcher, new at every start."""

CallId = NewType("CallId", str)
"""One call in the pool, the same on every dispatcher replica that sees the same INVITE."""

LeaseId = NewType("LeaseId", str)
"""One attempt to give a call a slot; a call that is offered to a second worker gets a second lease."""


def new_worker_id(pod: str, index: int) -> WorkerId:
    """Returns an id that names the pod and the child's index and is unique per start."""
    return WorkerId(f"{pod}-{index}-{secrets.token_hex(4)}")


def new_dispatcher_id(host: str) -> DispatcherId:
    """Returns an id that names the host or pod and is unique per start."""
    return DispatcherId(f"{host}-d-{secrets.token_hex(4)}")


def new_command_id() -> str:
    """Returns a random id."""
    return secrets.token_hex(8)


def new_lease_id() -> LeaseId:
    """Returns a random lease id."""
    return LeaseId(secrets.token_hex(8))


def call_id_for(sip_call_id: str, from_tag: str) -> CallId:
    """Returns the pool's id of the call that an INVITE starts.

    Call-ID and From tag identify the caller's half of the dialog (RFC 3261 section 12), so a retransmission that
    lands on another replica maps to the same call. Hashed, because Call-IDs often contain addresses or numbers.
    """
    digest = hashlib.sha256(f"{sip_call_id}\0{from_tag}".encode("utf-8", "surrogateescape")).hexdigest()
    return CallId(digest[:20])
