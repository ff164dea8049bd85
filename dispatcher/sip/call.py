"""A new call on its way to a worker: placed, offered, offered to the next one, answered or refused.

It does not choose workers (it asks with Place) and knows nothing of the call once the INVITE has its final response.

Another replica may have the same INVITE. Both offer it to the same worker, with the same lease and the same branch, so
that the worker sees one INVITE; once it has claimed the lease, Place is answered with `taken`.
"""

from itertools import count

from dispatcher.sip.actions import Address, Dispatched, GiveUp, Offer, Place, Release
from dispatcher.sip.branch import Branch, Failure
from dispatcher.sip.flow import Flow, FlowTokens
from dispatcher.sip.forwarding import Forwarded, lease_header, onward, traced
from dispatcher.sip.grammar import tag_of
from dispatcher.sip.layer import Layer, ServerTransaction
from dispatcher.sip.message import Request, Response, header
from dispatcher.sip.trace import Traces
from dispatcher.sip.uri import retarget
from shared import token
from shared.ids import CallId, WorkerId, call_id_for

TRIES = 3
"""Workers that one call is offered to at most."""

SILENCE_S = 2.5
"""A worker that has not said anything for this long (an INVITE and two retransmissions) is given up."""

WORKER_MAX_BYTES = 8_000
"""Longest INVITE that a worker takes (PJSIP_MAX_PKT_LEN in its config_site.h); to a longer one it says nothing."""

FORGET_S = 32.0
"""How long a call that another replica has is remembered: 64*T1, as long as its INVITE may be sent again."""

NUDGE_S = 2.0
"""How often a worker that rings gets an empty datagram: if its process has died, ICMP says so."""

_EMPTY = b"\r\n\r\n"
_SILENCE = "silence"
_NUDGE = "nudge"
_FORGET = "forget"

InviteKey = tuple[bytes, bytes, int]
"""Call-ID, From tag and CSeq: the same in every copy of an INVITE (RFC 3261 section 8.2.2.2)."""


class Calls:
    """The calls that have no final response yet, and those just answered."""

    def __init__(self, layer: Layer, flows: FlowTokens, traces: Traces, *, redirect: bool) -> None:
        """`redirect`: callers are sent to the worker with 302 instead of being forwarded."""
        self.layer = layer
        self.flows = flows
        self.traces = traces
        self.redirect = redirect
        self._questions: dict[int, Call] = {}
        self._numbers = count(1)
        self._by_invite: dict[InviteKey, Call] = {}

    def has(self, request: Request) -> bool:
        """Whether another copy of this INVITE, which came another way, is a call already."""
        return _invite_key(request) in self._by_invite

    def of(self, response: Response) -> "Call | None":
        """Returns the call whose INVITE this answers, over whatever way it went to the worker."""
        return self._by_invite.get((response.call_id, tag_of(response.first[b"from"]), response.cseq))

    def begin(self, request: Request, reply_to: Address, now: float) -> None:
        """Starts a call."""
        call = Call(self, request, self.layer.open_server(request, reply_to, now), now)
        self._by_invite[_invite_key(request)] = call
        call.begin(now)

    def ask(self, call: "Call") -> int:
        """Returns the number of a new Place, to be answered to `call`."""
        number = next(self._numbers)
        self._questions[number] = call
        return number

    def asker(self, number: int) -> "Call | None":
        """Returns whose question it is; None once it is answered, or given up."""
        return self._questions.get(number)

    def close(self, number: int) -> "Call | None":
        """Ends a question and returns whose it was, once."""
        return self._questions.pop(number, None)

    def lost(self, worker_id: WorkerId, now: float) -> None:
        """Has the calls that ring at this worker look for another one: it has died, and its address is another's."""
        for call in list(self._by_invite.values()):
            call.lost(worker_id, now)

    def forget(self, call: "Call") -> None:
        """Lets the same INVITE start a call again."""
        if self._by_invite.get(call.invite_key) is call:
            del self._by_invite[call.invite_key]


class Call:
    """One INVITE outside a dialog, from its arrival to its final response."""

    def __init__(self, calls: Calls, request: Request, server: ServerTransaction, now: float) -> None:
        self.call_id = call_id_of(request)
        self.trace = calls.traces.of(request, self.call_id)
        self.invite_key = _invite_key(request)
        self.alarms: dict[str, int] = {}
        self.elsewhere = False
        self._calls = calls
        self._layer = calls.layer
        self._server = server
        self._server.user = self
        self._invite_at = now
        self._tried: frozenset[WorkerId] = frozenset()
        self._attempt = 0
        self._question = 0
        self._offer: Offer | None = None
        self._branch: Branch | None = None
        self._silent: Branch | None = None
        """A worker that has not said anything, while another one is looked for."""
        self._cancelled = False
        self._waited = False
        self._dispatched = False
        """Whether it was told what came of the call."""

    def begin(self, now: float) -> None:
        """Looks for a worker. The caller gets its 100 when one has the call, or from the server transaction."""
        self._report("sip.incoming_call", source=self._server.reply_to.host)
        self._place(silent=False)

    def placed(self, request: Request, offer: Offer, now: float) -> None:
        """Offers the call, which came as `request`, to the worker that was found."""
        self._give_up_silent(now)
        self._layer.alarms.cancel(self, _FORGET)
        self.elsewhere = False
        self._offer = offer
        self._tried |= {offer.lease.worker_id}
        self._report(
            "call.placed",
            worker_id=offer.lease.worker_id,
            attempt=self._attempt,
            provisional=offer.lease.provisional,
            ms=round((now - self._invite_at) * 1000),
        )
        if self._calls.redirect:
            self._redirect(request, offer, now)
        else:
            self._forward(request, offer, now)

    def taken(self, now: float) -> None:
        """Leaves the call to the replica that its worker answers. That may yet be this one: the question stays open."""
        if not self.elsewhere:
            self._report("call.taken")
            self._tell_dispatched(0, "taken")
        self._server.trying(now)
        self.elsewhere = True
        self._layer.alarms.set(self, _FORGET, now + FORGET_S)

    def answered_elsewhere(self, response: Response, now: float) -> bool:
        """Passes on what the worker answered to another copy of the INVITE; False when nobody waits for it here."""
        request = self._server.request
        if not self.elsewhere or request is None:
            return False
        self._server.respond(response.status, response.back_along(request), now)
        if response.status >= 200:
            self._stop_waiting()
        return True

    def waiting(self, now: float) -> None:
        """Lets the caller hear it ring while the call waits for its turn."""
        self._waited = True
        self._server.answer(180, now, self._layer.identity.contact(self._server.reply_to.transport))

    def no_room(self, reason: str, now: float) -> None:
        """Refuses the call."""
        self._refuse(503, reason, now)

    def cancel(self, now: float) -> None:
        """The caller gave up waiting: 487 comes from the worker, or from here when no worker has the call."""
        if self._cancelled or self._server.request is None:
            return
        self._cancelled = True
        if self._branch:
            self._branch.cancel(now)
        else:
            self._give_up_silent(now, answers_another=True)
            self._refuse(487, "caller_cancelled", now)

    def gone(self) -> None:
        """Called when the server transaction has terminated."""
        self._calls.forget(self)
        self._close_question()
        if self._silent:
            self._silent.drop()

    def answered(self, branch: Branch, response: Response, now: float) -> None:
        """Called with each response of a worker."""
        if branch is self._silent and response.status > 100:
            self._hear(branch, response.status)
        if 200 <= response.status < 300:
            self._accept(branch, response, now)
        elif branch is not self._branch:
            return  # a worker that was given up: its transaction has sent the ACK or the CANCEL
        elif response.status < 200:
            self._layer.alarms.cancel(self, _SILENCE)
            self._layer.alarms.set(self, _NUDGE, now + NUDGE_S)
            if response.status == 100:
                self._server.trying(now)
            else:
                self._server.respond(response.status, response.without_top_via(), now)
        elif response.status == 503 or (self._cancelled and response.status != 487):
            self._next(f"answered {response.status}", now, silent=False)
        elif response.status == 482:
            # The worker has got the INVITE over another replica, from a caller who then came to this one. It answers
            # there, and what nobody acknowledges comes here as a copy.
            self._stop_waiting()
            self.taken(now)
            self._place(silent=True)
        elif response.status == 403 and self._offer:
            # Of the lease, which is ours: the caller cannot help it. Either the worker that it is for has died, and its
            # replacement has its address; or the worker could not enter it, because Redis is back and has another one
            # for this call, which will be found, for this worker maybe.
            if self._offer.lease.provisional:
                self._tried -= {self._offer.lease.worker_id}
            self._next("lease refused", now, silent=False)
        else:
            self._server.respond(response.status, response.without_top_via(), now)
            cancelled = self._cancelled or response.status == 487  # another replica may have got the CANCEL
            self._end_refused(response.status, "caller_cancelled" if cancelled else "worker_refused", now)

    def unanswered(self, branch: Branch, failure: Failure, now: float) -> None:
        """Called when a worker will not answer any more."""
        if branch is self._silent:
            self._silent = None
        elif branch is not self._branch:
            return
        elif failure is Failure.CANCELLED and not self._cancelled:
            self._refuse(408, "worker_timeout", now)  # timer C; section 16.8
        else:
            self._next(failure, now, silent=True)

    def lost(self, worker_id: WorkerId, now: float) -> None:
        """Called when a worker has died whose address is another's now, so that no ICMP will say it."""
        if self._branch and self._offer and self._offer.lease.worker_id == worker_id:
            self._branch.drop()
            self._tried -= {worker_id}  # nobody else is at the address who has seen the INVITE
            self._next("replaced", now, silent=True)

    def alarm(self, name: str, now: float) -> None:
        """Called when a worker was silent for too long, or is to be nudged, or when another replica must be done."""
        if name == _FORGET:
            self._server.terminate()
        elif not self._branch:
            return
        elif name == _NUDGE:
            self._layer.send(_EMPTY, self._branch.to)
            self._layer.alarms.set(self, _NUDGE, now + NUDGE_S)
        else:
            self._silent = self._branch
            self._next("silent", now, silent=True)

    def _place(self, *, silent: bool) -> None:
        request = self._server.request
        if request is None:
            return  # it has its final response: nobody waits
        self._attempt += 1
        self._question = self._calls.ask(self)
        place = Place(
            number=self._question,
            call_id=self.call_id,
            source=self._server.reply_to.host,
            invite_at=self._invite_at,
            attempt=self._attempt,
            exclude=self._tried,
            replacing=self._offer.lease if self._offer else None,
            silent=silent,
            request=request,
            trace=self.trace,
        )
        self._layer.act(place)

    def _forward(self, request: Request, offer: Offer, now: float) -> None:
        to = offer.address
        branch = self._layer.seal.branch(request, offer.lease.lease_id.encode())
        forwarded = Forwarded(request, retarget(request.uri, to.host, to.port), self._layer.identity.via(branch), ())
        flow = self._calls.flows.make(Flow(self._server.reply_to, to), request.call_id)
        record_routes = self._layer.identity.record_route(flow, self._server.reply_to.transport)
        headers = [*traced(onward(request), offer.lease.traceparent), lease_header(offer.token)]
        data = forwarded.render([*record_routes, *headers], request.body)
        if len(data) > WORKER_MAX_BYTES:
            self._refuse(513, "too_long", now)
            return
        self._branch = Branch(self._layer, self, to)
        self._branch.start(forwarded, branch, data, now)
        self._layer.alarms.set(self, _SILENCE, now + SILENCE_S)

    def _redirect(self, request: Request, offer: Offer, now: float) -> None:
        target = retarget(request.uri, offer.address.host, offer.address.port)
        contact = header(b"Contact", b"<%b;%b=%b>" % (target, token.URI_PARAMETER.encode(), offer.token.encode()))
        self._server.answer(302, now, contact)
        self._calls.forget(self)
        self._tell_dispatched(302)

    def _next(self, reason: str, now: float, *, silent: bool) -> None:
        """Tries another worker, if the caller still waits and there is a try left."""
        self._stop_waiting()
        worker_id = self._offer.lease.worker_id if self._offer else ""
        self._report("call.worker_failed", worker_id=worker_id, reason=reason)
        if self._cancelled:
            self._refuse(487, "caller_cancelled", now)
        elif self._attempt >= TRIES:
            self._refuse(503, "no_worker_answered", now)
        else:
            self._place(silent=silent)

    def _accept(self, branch: Branch, response: Response, now: float) -> None:
        """Passes a 2xx on, each time it comes; a second worker that still rings is cancelled (16.7 step 10)."""
        if self._server.request:
            ms = round((now - self._invite_at) * 1000)
            self._report("call.answered", status=response.status, ms=ms)
            self._tell_dispatched(response.status)
        if self._branch and branch is not self._branch:
            self._branch.cancel(now)
        self._give_up_silent(now)
        self._stop_waiting()
        self._offer = None
        self._server.respond(response.status, response.without_top_via(), now)

    def _refuse(self, status: int, reason: str, now: float) -> None:
        self._server.answer(status, now)
        self._end_refused(status, reason, now)

    def _end_refused(self, status: int, reason: str, now: float) -> None:
        """Leaves nothing behind. The lease is given back always: that frees an offer, never a claimed lease."""
        self._stop_waiting()
        self._give_up_silent(now)
        if self._offer:
            self._layer.act(Release(self._offer.lease))
        self._calls.forget(self)
        self._report("call.refused", status=status, reason=reason)
        self._tell_dispatched(status, reason)

    def _hear(self, branch: Branch, status: int) -> None:
        """A worker that was thought silent says something. Only with a claimed lease it says more than 403 or 503."""
        self._silent = None
        if status not in (403, 503):
            self._stop_waiting()
            self._branch, self.elsewhere = branch, False

    def _give_up_silent(self, now: float, *, answers_another: bool = False) -> None:
        silent, self._silent = self._silent, None
        if silent:
            silent.abandon(now, answers_another=answers_another)

    def _stop_waiting(self) -> None:
        self._layer.alarms.cancel_all(self)
        self._branch = None
        self._close_question()

    def _close_question(self) -> None:
        if self._calls.close(self._question):
            self._layer.act(GiveUp(self._question))

    def _report(self, event: str, **fields: str | int) -> None:
        self._layer.report(event, call_id=self.call_id, trace_id=self.trace.context.trace_id, **fields)

    def _tell_dispatched(self, status: int, reason: str = "") -> None:
        if not self._dispatched:
            self._dispatched = True
            self._layer.act(
                Dispatched(self.call_id, self.trace, self._invite_at, status, reason, self._attempt, self._waited)
            )


def call_id_of(request: Request) -> CallId:
    """Returns the pool's id of the call that an INVITE starts, or that its CANCEL ends."""
    return call_id_for(_text(request.call_id), _text(request.from_tag))


def _invite_key(request: Request) -> InviteKey:
    return request.call_id, request.from_tag, request.cseq


def _text(value: bytes) -> str:
    """What other processes read the same bytes as."""
    return value.decode("utf-8", "surrogateescape")
