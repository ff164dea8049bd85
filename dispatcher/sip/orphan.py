"""The BYE on behalf of a dead worker: the caller is released, and hears no silence.

It does not find out who died, and it asks nobody twice: a caller that does not answer for 64*T1 is gone too.
"""

from dispatcher.sip.actions import Orphan, Settled
from dispatcher.sip.dialog import Routes, forward
from dispatcher.sip.grammar import Malformed
from dispatcher.sip.layer import Layer
from dispatcher.sip.message import Request, Response, parse
from shared.ids import CallId

CSEQ = 2**30
"""Far above what a worker comes to: the caller must take it for the newest of the dialog (RFC 3261 section 12.2.2)."""

_REASON = b'SIP;cause=503;text="worker lost"'
"""RFC 3326."""


class HangUp:
    """One BYE in a worker's stead, from here to its answer."""

    def __init__(self, layer: Layer, call_id: CallId) -> None:
        self._layer = layer
        self._call_id = call_id

    def begin(self, orphan: Orphan, routes: Routes, now: float) -> None:
        """Sends it where the worker's own BYE would have gone."""
        try:
            request = _as_from_worker(orphan, self._layer.identity.via(b"")[1])
        except Malformed:
            self._settle("dialog makes no BYE")
            return
        hop = routes.to_caller(request, orphan.peer)
        if hop is None:
            self._settle("caller may not be reached")
            return
        request.headers = [item for item in request.headers if item[0] != b"via"]
        branch = self._layer.seal.branch(request)
        forwarded, data = forward(self._layer, request, hop, branch)
        self._layer.open_client(forwarded, data, (branch, b"BYE"), hop.to, self, now)

    def response(self, response: Response, now: float) -> None:
        """Called by the transaction."""
        if response.status >= 200:
            self._settle(f"answered {response.status}")

    def failed(self, now: float, *, unreachable: bool) -> None:
        """Called by the transaction."""
        self._settle("unreachable" if unreachable else "timeout")

    def _settle(self, outcome: str) -> None:
        self._layer.report("call.released", call_id=self._call_id, outcome=outcome)
        self._layer.act(Settled(self._call_id))


def _as_from_worker(orphan: Orphan, via: bytes) -> Request:
    """Returns the BYE that the worker would have sent; raises Malformed."""
    dialog = orphan.dialog
    values = (dialog.target, dialog.local, dialog.remote, dialog.call_id, *dialog.routes)
    if any(b"\r" in value or b"\n" in value for value in values):
        raise Malformed("line end in a dialog")
    lines = [
        b"BYE %b SIP/2.0" % dialog.target,
        b"Via: " + via,
        *(b"Route: " + route for route in dialog.routes),
        b"From: " + dialog.local,
        b"To: " + dialog.remote,
        b"Call-ID: " + dialog.call_id,
        b"CSeq: %d BYE" % CSEQ,
        b"Reason: " + _REASON,
        b"Content-Length: 0",
    ]
    message = parse(b"\r\n".join([*lines, b"", b""]))
    if not isinstance(message, Request):
        raise Malformed("not a request")
    return message
