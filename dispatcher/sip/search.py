"""A CANCEL whose INVITE another replica has: the worker is looked for, and told by this one.

It does not answer the INVITE: that comes from the worker, through the other replica or as a copy (`copies.py`).
"""

from itertools import count

from dispatcher.sip.actions import Address, Find
from dispatcher.sip.branch import Unheard
from dispatcher.sip.call import call_id_of
from dispatcher.sip.forwarding import Forwarded
from dispatcher.sip.layer import Layer, ServerTransaction
from dispatcher.sip.message import Request
from dispatcher.sip.uri import retarget
from shared.messages import Lease

MAX_SEARCHES = 1_000
"""CANCELs that wait for an answer at once. One too many is dropped: it will be sent again."""


class Searches:
    """The CANCELs whose workers are looked for."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self._open: dict[int, Search] = {}
        self._numbers = count(1)

    def begin(self, request: Request, reply_to: Address, now: float) -> None:
        """Asks where the call of a CANCEL is."""
        if len(self._open) >= MAX_SEARCHES:
            return
        number = next(self._numbers)
        self._open[number] = Search(self._layer, request, self._layer.open_server(request, reply_to, now))
        self._layer.act(Find(number, call_id_of(request)))

    def close(self, find: Find) -> "Search | None":
        """Ends a question and returns whose it was, once."""
        return self._open.pop(find.number, None)


class Search:
    """One CANCEL, from its arrival to its answer. Its transaction absorbs further copies of it."""

    elsewhere = False

    def __init__(self, layer: Layer, request: Request, server: ServerTransaction) -> None:
        self._layer = layer
        self._request = request
        self._server = server

    def found(self, lease: Lease, address: Address, now: float) -> None:
        """Answers the CANCEL, and sends the worker one with the branch that its INVITE had (RFC 3261 section 9.1)."""
        self._server.answer(200, now)
        branch = self._layer.seal.branch(self._request, lease.lease_id.encode())
        target = retarget(self._request.uri, address.host, address.port)
        cancel = Forwarded(self._request, target, self._layer.identity.via(branch), ())
        self._layer.open_client(cancel, cancel.cancel(), (branch, b"CANCEL"), address, Unheard(), now)

    def not_found(self, now: float) -> None:
        """Answers that there is no such call."""
        self._server.answer(481, now)
