"""The four transactions of RFC 3261 section 17, with the Accepted state of RFC 6026, as transition tables.

They do not find the transaction that a message belongs to (`layer.py`) and do not know what a proxy does with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from dispatcher.sip.alarms import Alarms


class State(StrEnum):
    """States by their names in RFC 3261 figures 5 to 8 and RFC 6026."""

    CALLING = "calling"
    TRYING = "trying"
    PROCEEDING = "proceeding"
    COMPLETED = "completed"
    ACCEPTED = "accepted"
    CONFIRMED = "confirmed"
    TERMINATED = "terminated"


class Event(StrEnum):
    """What happens to a transaction. Responses: received by a client, given by the user to a server transaction."""

    REQUEST = "request"
    ACK = "ack"
    PROVISIONAL = "1xx"
    SUCCESS = "2xx"
    FAILURE = "3xx-6xx"
    UNREACHABLE = "transport error"
    TRYING = "timer 100"
    A = "timer A"
    B = "timer B"
    D = "timer D"
    E = "timer E"
    F = "timer F"
    G = "timer G"
    H = "timer H"
    I = "timer I"  # noqa: E741 - the RFC's letter
    J = "timer J"
    K = "timer K"
    L = "timer L"
    M = "timer M"


class Do(StrEnum):
    """What a transition asks for."""

    SEND = "send the message"
    RESEND = "send the last message again"
    ACK = "send an ACK for the response"
    TELL = "hand the message to the user"
    FAIL = "tell the user that no final response will come"
    TRYING = "send a 100, unless something was sent already"


Transitions = Mapping[tuple[State, Event], tuple[State, tuple[Do, ...]]]


@dataclass(frozen=True)
class Machine:
    """A kind of transaction."""

    name: str
    first: State
    transitions: Transitions
    """Pairs that are not listed change nothing: the RFC has such messages absorbed."""
    timers: Mapping[State, tuple[Event, ...]]
    """Timers that run in a state: started on entering it unless running already, stopped on leaving it."""
    forgets: frozenset[State] = frozenset()
    """States in which nothing is sent again, so that the last message needs no memory."""


_C, _T, _P = State.CALLING, State.TRYING, State.PROCEEDING
_DONE, _OK, _CONFIRMED, _END = State.COMPLETED, State.ACCEPTED, State.CONFIRMED, State.TERMINATED

INVITE_CLIENT = Machine(
    "INVITE client",
    _C,
    {
        (_C, Event.A): (_C, (Do.RESEND,)),
        (_C, Event.B): (_END, (Do.FAIL,)),
        (_C, Event.UNREACHABLE): (_END, (Do.FAIL,)),
        (_C, Event.PROVISIONAL): (_P, (Do.TELL,)),
        (_C, Event.SUCCESS): (_OK, (Do.TELL,)),
        (_C, Event.FAILURE): (_DONE, (Do.ACK, Do.TELL)),
        (_P, Event.PROVISIONAL): (_P, (Do.TELL,)),
        (_P, Event.SUCCESS): (_OK, (Do.TELL,)),
        (_P, Event.FAILURE): (_DONE, (Do.ACK, Do.TELL)),
        # Not in figure 5: an ICMP error for what the user sent there says that the process which rang has died.
        (_P, Event.UNREACHABLE): (_END, (Do.FAIL,)),
        (_DONE, Event.FAILURE): (_DONE, (Do.ACK,)),
        (_DONE, Event.D): (_END, ()),
        (_OK, Event.SUCCESS): (_OK, (Do.TELL,)),
        (_OK, Event.M): (_END, ()),
    },
    {_C: (Event.A, Event.B), _DONE: (Event.D,), _OK: (Event.M,)},
    frozenset((_OK,)),
)
"""RFC 3261 section 17.1.1 and RFC 6026 section 7.2. Timer C is the proxy's (section 16.6 step 11)."""

INVITE_SERVER = Machine(
    "INVITE server",
    _P,
    {
        (_P, Event.REQUEST): (_P, (Do.RESEND,)),
        (_P, Event.TRYING): (_P, (Do.TRYING,)),
        (_P, Event.PROVISIONAL): (_P, (Do.SEND,)),
        # Not in figure 7: another replica has answered, and this is the ACK for that.
        (_P, Event.ACK): (_P, (Do.TELL,)),
        (_P, Event.SUCCESS): (_OK, (Do.SEND,)),
        (_P, Event.FAILURE): (_DONE, (Do.SEND,)),
        (_DONE, Event.REQUEST): (_DONE, (Do.RESEND,)),
        (_DONE, Event.G): (_DONE, (Do.RESEND,)),
        (_DONE, Event.H): (_END, ()),
        (_DONE, Event.ACK): (_CONFIRMED, ()),
        (_CONFIRMED, Event.I): (_END, ()),
        (_OK, Event.SUCCESS): (_OK, (Do.SEND,)),
        (_OK, Event.ACK): (_OK, (Do.TELL,)),
        (_OK, Event.L): (_END, ()),
    },
    {_P: (Event.TRYING,), _DONE: (Event.G, Event.H), _CONFIRMED: (Event.I,), _OK: (Event.L,)},
    frozenset((_OK, _CONFIRMED)),
)
"""RFC 3261 section 17.2.1 and RFC 6026 section 7.1."""

CLIENT = Machine(
    "non-INVITE client",
    _T,
    {
        (_T, Event.E): (_T, (Do.RESEND,)),
        (_T, Event.F): (_END, (Do.FAIL,)),
        (_T, Event.UNREACHABLE): (_END, (Do.FAIL,)),
        (_T, Event.PROVISIONAL): (_P, (Do.TELL,)),
        (_T, Event.SUCCESS): (_DONE, (Do.TELL,)),
        (_T, Event.FAILURE): (_DONE, (Do.TELL,)),
        (_P, Event.E): (_P, (Do.RESEND,)),
        (_P, Event.F): (_END, (Do.FAIL,)),
        (_P, Event.UNREACHABLE): (_END, (Do.FAIL,)),
        (_P, Event.PROVISIONAL): (_P, (Do.TELL,)),
        (_P, Event.SUCCESS): (_DONE, (Do.TELL,)),
        (_P, Event.FAILURE): (_DONE, (Do.TELL,)),
        (_DONE, Event.K): (_END, ()),
    },
    {_T: (Event.E, Event.F), _P: (Event.E, Event.F), _DONE: (Event.K,)},
    frozenset((_DONE,)),
)
"""RFC 3261 section 17.1.2."""

SERVER = Machine(
    "non-INVITE server",
    _T,
    {
        (_T, Event.PROVISIONAL): (_P, (Do.SEND,)),
        (_T, Event.SUCCESS): (_DONE, (Do.SEND,)),
        (_T, Event.FAILURE): (_DONE, (Do.SEND,)),
        (_P, Event.REQUEST): (_P, (Do.RESEND,)),
        (_P, Event.PROVISIONAL): (_P, (Do.SEND,)),
        (_P, Event.SUCCESS): (_DONE, (Do.SEND,)),
        (_P, Event.FAILURE): (_DONE, (Do.SEND,)),
        (_DONE, Event.REQUEST): (_DONE, (Do.RESEND,)),
        (_DONE, Event.J): (_END, ()),
    },
    {_DONE: (Event.J,)},
)
"""RFC 3261 section 17.2.2."""

TRYING_S = 0.15
"""How long a 100 may wait for a better answer; RFC 3261 section 17.2.1 allows 200 ms.

A caller that got one stops sending its INVITE again, and should this replica die then, no other would hear of the call.
"""

_NOTHING: tuple[Do, ...] = ()
_RETRANSMISSIONS = frozenset((Event.A, Event.E, Event.G))
_WAITS_FOR_STRAGGLERS = (Event.D, Event.I, Event.J, Event.K)


class Timers:
    """Timer values in seconds (RFC 3261 table 4, RFC 6026 section 7)."""

    def __init__(self, t1: float = 0.5, t2: float = 4.0, t4: float = 5.0, *, reliable: bool = False) -> None:
        """T1 estimates a round trip, T2 is the longest retransmission interval, T4 how long a message may be under way.

        Over a `reliable` transport nothing is sent twice, and no straggler is waited for.
        """
        self.t2 = t2
        long = 64 * t1
        self.seconds: dict[Event, float] = {
            Event.A: t1, Event.B: long, Event.D: max(32.0, long), Event.E: t1, Event.F: long, Event.G: t1,
            Event.H: long, Event.I: t4, Event.J: long, Event.K: t4, Event.L: long, Event.M: long,
            Event.TRYING: TRYING_S,
        }  # fmt: skip
        if reliable:
            for event in _RETRANSMISSIONS:
                del self.seconds[event]
            self.seconds.update(dict.fromkeys(_WAITS_FOR_STRAGGLERS, 0.0))

    def again(self, event: Event, state: State, interval: float) -> float:
        """Returns the interval after `interval`: doubled, up to T2 for all but INVITEs."""
        if event is Event.A:
            return 2 * interval
        return self.t2 if state is State.PROCEEDING else min(2 * interval, self.t2)


class Transaction:
    """One transaction: its state, what it sent last, and its timers. A subclass says where messages go."""

    def __init__(self, machine: Machine, timers: Timers, clock: Alarms) -> None:
        self.machine = machine
        self.state = machine.first
        self.alarms: dict[str, int] = {}
        self._clock = clock
        self._timers = timers
        self._interval = 0.0
        self._last = b""

    def transmit(self, data: bytes) -> None:
        """Sends one message to the other end."""
        raise NotImplementedError

    def ended(self) -> None:
        """Called once, on entering the last state."""
        raise NotImplementedError

    def start(self, now: float, request: bytes = b"") -> None:
        """Enters the first state; a client sends its request."""
        if request:
            self._last = request
            self.transmit(request)
        self._start_timers(now)

    def fire(self, event: Event, now: float, message: bytes = b"") -> tuple[Do, ...]:
        """Goes where the table says, sends what it says; returns what is left to do: ACK, TELL, FAIL and TRYING.

        `message` is the response that the user gives, or nothing.
        """
        state, todo = self.machine.transitions.get((self.state, event), (self.state, _NOTHING))
        if Do.SEND in todo:
            self._last = message
            self.transmit(message)
        elif Do.RESEND in todo and self._last:
            self.transmit(self._last)
        if state is not self.state:
            self._enter(state, now)
        if event in _RETRANSMISSIONS:
            self._run_again(event, now)
        return todo

    def stop_retransmitting(self) -> None:
        """Sends the request no more, and goes on listening."""
        self._clock.cancel(self, Event.A.value)

    def terminate(self) -> None:
        """Ends it, whatever its state, unless it has ended already."""
        if self.state is not State.TERMINATED:
            self._enter(State.TERMINATED, 0.0)

    def alarm(self, name: str, now: float) -> None:
        """Called when a timer fires."""
        self.fire(Event(name), now)

    def _enter(self, state: State, now: float) -> None:
        self.state = state
        running = self.machine.timers.get(state, ())
        for name in list(self.alarms):
            if name not in running:
                self._clock.cancel(self, name)
        if state in self.machine.forgets:
            self._last = b""
        if state is State.TERMINATED:
            self.ended()
        self._start_timers(now)

    def _start_timers(self, now: float) -> None:
        for event in self.machine.timers.get(self.state, ()):
            seconds = self._timers.seconds.get(event)
            if seconds is not None and event not in self.alarms:
                if event in _RETRANSMISSIONS:
                    self._interval = seconds
                self._clock.set(self, event.value, now + seconds)

    def _run_again(self, event: Event, now: float) -> None:
        if event in self.machine.timers.get(self.state, ()):
            self._interval = self._timers.again(event, self.state, self._interval)
            self._clock.set(self, event.value, now + self._interval)
