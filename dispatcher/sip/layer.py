"""The transaction layer: all transactions, found by what a message carries, and what they want to send.

It does not know what a proxy is; whoever opens a transaction is told what comes back (RFC 3261 section 17).
"""

from typing import Protocol

from dispatcher.sip.actions import RELIABLE, Action, Address, Report, Send
from dispatcher.sip.alarms import Alarms
from dispatcher.sip.forwarding import Forwarded, Identity
from dispatcher.sip.message import Header, Request, Response
from dispatcher.sip.responses import response_to
from dispatcher.sip.seal import MAGIC, Seal
from dispatcher.sip.transaction import (
    CLIENT,
    INVITE_CLIENT,
    INVITE_SERVER,
    SERVER,
    Do,
    Event,
    Machine,
    State,
    Timers,
    Transaction,
)

Key = tuple[bytes, ...]

_UNANSWERED = frozenset((State.CALLING, State.TRYING, State.PROCEEDING))


class ServerUser(Protocol):
    """Whoever answers a request."""

    elsewhere: bool
    """Whether another replica answers it: this one only absorbs it."""

    def cancel(self, now: float) -> None:
        """Called when the caller gives up waiting (RFC 3261 section 9.2)."""

    def gone(self) -> None:
        """Called when the transaction has terminated."""


class ClientUser(Protocol):
    """Whoever sent a request on."""

    def response(self, response: Response, now: float) -> None:
        """Called with every response but retransmissions; 2xx to INVITE come as often as they are received."""

    def failed(self, now: float, *, unreachable: bool) -> None:
        """Called when no final response will come: after a timeout, or because nobody listens there."""


class Layer:
    """All transactions of a dispatcher, and the actions they ask for."""

    def __init__(self, identity: Identity, seal: Seal, timers: Timers | None = None) -> None:
        self.identity = identity
        self.seal = seal
        self.alarms = Alarms()
        self.timers = {"udp": timers or Timers(), **dict.fromkeys(RELIABLE, Timers(reliable=True))}
        self.servers: dict[Key, ServerTransaction] = {}
        self.clients: dict[Key, ClientTransaction] = {}
        self.sent = 0
        """Messages sent since the start."""
        self._waiting: dict[Address, dict[ClientTransaction, None]] = {}
        self._actions: list[Action] = []

    def __len__(self) -> int:
        return len(self.servers) + len(self.clients)

    def act(self, action: Action) -> None:
        """Asks for an action."""
        self._actions.append(action)

    def send(self, data: bytes, to: Address) -> None:
        """Asks for a message to be sent."""
        self.sent += 1
        self._actions.append(Send(data, to))

    def report(self, event: str, **fields: str | int) -> None:
        """Asks for a log line."""
        self._actions.append(Report(event, fields))

    def take_actions(self) -> list[Action]:
        """Returns what was asked for since the last time."""
        actions, self._actions = self._actions, []
        return actions

    def reply(self, request: Request, reply_to: Address, status: int, *extra: Header) -> None:
        """Answers without keeping anything; a retransmission of the request is answered again (section 8.2.7)."""
        self.send(response_to(request, status, self.seal.tag(request), extra), reply_to)

    def open_server(self, request: Request, reply_to: Address, now: float) -> "ServerTransaction":
        """Returns the transaction of a request that has none yet."""
        machine = INVITE_SERVER if request.method == b"INVITE" else SERVER
        transaction = ServerTransaction(self, machine, request, reply_to)
        self.servers[transaction.key] = transaction
        transaction.start(now)
        return transaction

    def open_client(
        self, forwarded: Forwarded, data: bytes, key: Key, to: Address, user: ClientUser, now: float
    ) -> "ClientTransaction":
        """Sends `data` and returns its transaction; `user` is told what comes of it.

        An older one of that branch and method ends without a word.
        """
        machine = INVITE_CLIENT if key[1] == b"INVITE" else CLIENT
        if key in self.clients:
            self.clients[key].terminate()
        transaction = ClientTransaction(self, machine, key, to, forwarded, user)
        self.clients[key] = transaction
        self._waiting.setdefault(to, {})[transaction] = None
        transaction.start(now, data)
        return transaction

    def receive_response(self, response: Response, now: float) -> bool:
        """Gives a response to its transaction; False for a stray one (RFC 6026 section 8.9).

        The branch alone says whose it is: one that names another replica answers a request that both have forwarded.
        """
        transaction = self.clients.get((response.via.branch, response.cseq_method))
        if transaction is None:
            return False
        transaction.receive(response, now)
        return True

    def unreachable(self, address: Address, now: float) -> None:
        """Fails everything that waits for an answer from `address`."""
        for transaction in list(self._waiting.get(address, ())):
            transaction.step(Event.UNREACHABLE, now)

    def disconnected(self, connection: Address, now: float) -> None:
        """Sends again what went over a connection and was not answered."""
        lost = [to for to in self._waiting if connection in (to.connection, to.listener)]
        for transaction in [each for to in lost for each in self._waiting[to]]:
            transaction.disconnected(now)

    def unanswered(self) -> int:
        """Returns how many requests still wait for our final response."""
        waiting = (server for server in self.servers.values() if server.state in _UNANSWERED)
        return sum(not (server.user and server.user.elsewhere) for server in waiting)

    def stop_waiting(self, transaction: "ClientTransaction") -> None:
        """Called when a final response has come, or none will."""
        waiting = self._waiting.get(transaction.to)
        if waiting is not None:
            waiting.pop(transaction, None)
            if not waiting:
                del self._waiting[transaction.to]


class ServerTransaction(Transaction):
    """A request that was received."""

    def __init__(self, layer: Layer, machine: Machine, request: Request, reply_to: Address) -> None:
        super().__init__(machine, layer.timers[reply_to.transport], layer.alarms)
        self.key = server_key(request)
        self.reply_to = reply_to
        self.request: Request | None = request
        """What is to be answered; None once it has its final response."""
        self.user: ServerUser | None = None
        self._layer = layer

    def answer(self, status: int, now: float, *extra: Header) -> None:
        """Sends a response of our own, unless a final one was sent."""
        if self.request:
            tag = self._layer.seal.tag(self.request)
            self.respond(status, response_to(self.request, status, tag, extra), now)

    def trying(self, now: float) -> None:
        """Sends a 100, unless something was sent already."""
        if not self._last:
            self.answer(100, now)

    def respond(self, status: int, data: bytes, now: float) -> None:
        """Sends a response; after a final one only further 2xx to an INVITE pass."""
        self.fire(_kind(status), now, data)
        if status >= 200:
            self.request = None
            if self.machine is SERVER:
                self.user = None

    def alarm(self, name: str, now: float) -> None:
        if Do.TRYING in self.fire(Event(name), now):
            self.trying(now)

    def transmit(self, data: bytes) -> None:
        self._layer.send(data, self.reply_to)

    def ended(self) -> None:
        user, self.user = self.user, None
        self._layer.servers.pop(self.key, None)
        if user:
            user.gone()


class ClientTransaction(Transaction):
    """A request that was sent."""

    def __init__(
        self, layer: Layer, machine: Machine, key: Key, to: Address, forwarded: Forwarded, user: ClientUser
    ) -> None:
        super().__init__(machine, layer.timers[to.transport], layer.alarms)
        self.key = key
        self.to = to
        self._forwarded: Forwarded | None = forwarded
        self._sent_again = False
        self._user: ClientUser | None = user
        self._layer = layer

    def receive(self, response: Response, now: float) -> None:
        """Handles one response."""
        user = self._user
        todo = self.fire(_kind(response.status), now)
        if self.state not in _UNANSWERED:
            self._layer.stop_waiting(self)
        if Do.ACK in todo and self._forwarded:
            self.transmit(self._forwarded.ack(response))
        if self.state in self.machine.forgets:
            self._forwarded = None
            if self.machine is CLIENT:
                self._user = None
        if Do.TELL in todo and user:
            user.response(response, now)

    def step(self, event: Event, now: float) -> None:
        """Handles a timer or a transport error."""
        user = self._user
        if Do.FAIL in self.fire(event, now) and user:
            user.failed(now, unreachable=event is Event.UNREACHABLE)

    def disconnected(self, now: float) -> None:
        """Sends the request again, over a new connection, unless something came; the second loss is the end of it."""
        if self._sent_again:
            self.step(Event.UNREACHABLE, now)
        elif self.state is self.machine.first:
            self._sent_again = True
            self.transmit(self._last)

    def alarm(self, name: str, now: float) -> None:
        self.step(Event(name), now)

    def transmit(self, data: bytes) -> None:
        self._layer.send(data, self.to)

    def ended(self) -> None:
        self._user = None
        self._layer.stop_waiting(self)
        self._layer.clients.pop(self.key, None)


def server_key(request: Request, method: bytes = b"") -> Key:
    """Returns what retransmissions, ACK and CANCEL have in common with their request (RFC 3261 section 17.2.3).

    `method` is that of the request looked for, when it is not the request's own.
    """
    method = method or (b"INVITE" if request.method == b"ACK" else request.method)
    via = request.via
    branch = via.branch
    if branch.startswith(MAGIC):
        return branch, via.sent_by.lower(), method
    return branch, via.sent_by, method, request.target, request.call_id, request.from_tag, b"%d" % request.cseq


def _kind(status: int) -> Event:
    if status < 200:
        return Event.PROVISIONAL
    return Event.SUCCESS if status < 300 else Event.FAILURE
