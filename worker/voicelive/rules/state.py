"""What a session knows, and the few things that all its rules do. It decides nothing about a conversation by itself.

The rules are in the modules beside it, each a class on top of this one; `worker/voicelive/session.py` joins them.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from shared.agents.model import Agent, Sound, Tool
from shared.ending import CallEnd
from worker.tools.catalogue import BadCall
from worker.voicelive import actions as do
from worker.voicelive import messages
from worker.voicelive.actions import Action
from worker.voicelive.alarms import Alarm, Alarms
from worker.voicelive.digits import Collector, Entry
from worker.voicelive.errands import Errands
from worker.voicelive.floor import ANSWER, Floor, Purpose, Request
from worker.voicelive.memory import Memory, Turn, Typed, Utterance

LEAVE_S = 30.0
"""Longest wait for a goodbye to be heard before hanging up all the same."""

SESSION_MAX_S = 3600.0
"""The service ends a session after this long, whatever its `expires_at` says."""


class Tools(Protocol):
    """What the session needs of an agent's tools (`worker/tools/catalogue.py`)."""

    def definitions(self) -> list[dict[str, Any]]: ...
    def kind(self, name: str, /) -> Tool | None: ...
    def check(self, name: str, arguments: str, digits: dict[str, str], /) -> "dict[str, Any] | BadCall": ...


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """What a session is set up with: the agent, its texts filled in for this call, and the audio format."""

    agent: Agent
    instructions: str
    greeting: str
    """Spoken word for word before the caller speaks; empty is none."""
    encoding: str
    """Both ways, in Voice Live's words: pcm16, g711_ulaw or g711_alaw."""
    rate: int
    """Samples per second."""
    tools: Tools

    @property
    def bytes_per_ms(self) -> float:
        """Bytes that one millisecond of mono audio takes."""
        return self.rate * (2 if self.encoding == "pcm16" else 1) / 1000


@dataclass(slots=True)
class Link:
    """One connection, as the session sees it."""

    number: int
    ready: bool = False
    ends_at: float = 0.0
    lifetime_s: float = SESSION_MAX_S
    silence_ms: float = 0.0
    """Silence that ends the caller's turn, as the service has it."""
    retold: dict[str, str] = field(default_factory=dict)
    """Items of an earlier connection -> what they are called on this one."""


@dataclass(slots=True)
class Leaving:
    """The call ends as soon as what was said has been heard."""

    end: CallEnd
    call_id: str = ""
    """Of the function call that asked for it."""
    revocable: bool = True
    """The caller can prevent it by speaking."""


@dataclass(slots=True)
class Moving:
    """The caller is transferred as soon as what was said has been heard."""

    target: str
    """Name of the target."""
    call_id: str = ""
    referred: bool = False
    otherwise: CallEnd | None = None
    """How the call ends when the transfer fails; None when the conversation goes on."""
    ordered_to: str = ""
    """URI that an operator has named, who waits for the outcome; empty when it is the agent's transfer."""


@dataclass(slots=True)
class Collecting:
    """The model waits for digits."""

    call_id: str
    collector: Collector
    sensitive: bool
    timeout_s: float


class State:
    """One session's, from its first event to its last. Actions are collected in order, and taken by `Session`."""

    def __init__(self, options: SessionOptions, sent_ms: Callable[[], float] = lambda: 0.0) -> None:
        """`sent_ms` says how much caller audio the live connection has been sent: by it speech is placed in time."""
        self.options = options
        self.memory = Memory()
        self.session_ids: list[str] = []
        self.errors = 0
        """Error events received after set-up, other than those that only tell who was faster."""
        self.hidden_digits: dict[str, str] = {}
        """Sensitive digits the caller typed, by the placeholder that the model was given."""
        self.transferred_to = ""
        """Name of the target that took the caller over."""
        self._agent = options.agent
        self._sent_ms = sent_ms
        self._out: list[Action] = []
        self._alarms = Alarms()
        self._floor = Floor()
        self._links: dict[int, Link] = {}
        self._count = 0
        self._live: Link | None = None
        self._standby: Link | None = None
        self._begun = False
        """The first connection was set up: the call is or will be answered."""
        self._attempts = 0
        self._gone = False
        """There is no session and will be none."""
        self._speaking = False
        """The caller is."""
        self._owed = False
        """The caller, or we, have asked for an answer that has not begun to come."""
        self._playing = False
        """The playout is not empty, or an answer's audio is not complete."""
        self._filling = False
        self._deaf = False
        """The greeting is not to be interrupted, and has not been heard yet."""
        self._cut_off: set[str] = set()
        """Responses the caller spoke over; what is still on its way of them is not played."""
        self._audible: set[str] = set()
        """Responses whose audio has begun to come and is not complete."""
        self._spoke = ""
        """The latest response that had audio."""
        self._failures = 0
        """Responses that failed, one after the other."""
        self._errands = Errands()
        self._leaving: Leaving | None = None
        self._moving: Moving | None = None
        self._collecting: Collecting | None = None
        self._keys = Collector(
            Entry(self._agent.dtmf.max_digits, self._agent.dtmf.terminator, self._agent.dtmf.inter_digit_s)
        )
        self._needless_terminator = ("", 0.0)
        """A key that means nothing until that moment: the entry it would end is complete already."""
        self._prompts_left = self._agent.silence.prompts
        self._turn: Turn | None = None
        self._awaits_audio = ""
        """Mark to set at the next first audio: `greeting_audio` or `answer_audio`."""
        self._resume = ""
        """What the caller heard of an answer that was lost with its connection."""
        self._answers: dict[str, Utterance] = {}
        """Responses under way, and what each says; it is part of the conversation from its first audio on."""
        self._filler_wanted = False
        """As soon as the playout is empty."""
        self._told = 0
        """Items that we have made."""
        self._unacknowledged: set[str] = set()
        """Those that the service has not taken in yet."""

    @property
    def next_wake(self) -> float | None:
        """When to call `advance`; None while nothing is planned."""
        return self._alarms.next

    def _say(self, purpose: Purpose, text: str, now: float) -> None:
        self._floor.want(Request(purpose, messages.spoken(text)))
        self._owe(now)

    def _tell(self, text: str, now: float, entry: Typed | None = None) -> None:
        """Tells the model something in the caller's place, and has it answer."""
        if entry is not None:
            self.memory.entries.append(entry)
        if self._live is not None:
            self._send(messages.user_message(text, self._new_item()))
        self._awaits_audio = "answer_audio"
        self._floor.want(ANSWER)
        self._owe(now)

    def _new_item(self) -> str:
        self._told += 1
        item_id = f"told_{self._told}"
        self._unacknowledged.add(item_id)
        return item_id

    def _owe(self, now: float) -> None:
        """Somebody waits for an answer from now on."""
        self._owed = True
        if self._agent.dead_air.after_s:
            self._alarms.set(Alarm.DEAD_AIR, now + self._agent.dead_air.after_s)
            self._alarms.clear(Alarm.STUCK)

    def _disown(self) -> None:
        """Nobody waits for an answer any more."""
        self._owed = False
        self._alarms.clear(Alarm.DEAD_AIR, Alarm.STUCK)

    def _fill(self) -> None:
        """Plays the filler as soon as the playout is empty, if the caller waits for something."""
        waits = self._owed or self._live is None
        if self._filling or self._speaking or self._gone or not waits:
            return
        self._filler_wanted = self._playing
        if not self._playing:
            self._filling = self._playing = True
            self._do(do.PlayFiller())

    def _refill(self, now: float) -> None:
        """The filler has been heard: a sound goes on at once, a sentence after a while."""
        if isinstance(self._agent.dead_air.filler, Sound):
            self._playing = True
            self._do(do.PlayFiller())
        else:
            self._filling = False
            self._alarms.set(Alarm.FILLER, now + self._agent.dead_air.after_s)

    def _stop_filler(self) -> None:
        self._filler_wanted = False
        if self._filling:
            self._filling = False
            self._flush()

    def _finish_playing(self) -> None:
        self._playing = True  # the owner says when it is over, also when there was next to nothing
        self._do(do.FinishAnswer())

    def _undeafen(self) -> None:
        """The greeting is over: the caller is listened to."""
        if self._deaf and self._live is not None:
            self._deaf = False
            self._do(do.Listen(self._live.number))

    def _silence_model(self) -> None:
        """Ends what the model is saying, as speech would; the service does not do it by itself for a key."""
        self._cancel_response()
        self._flush()

    def _cancel_response(self) -> None:
        if self._live is not None and self._floor.response and self._floor.response not in self._cut_off:
            self._send(messages.cancellation(self._floor.response))
        self._drop_response()

    def _drop_response(self) -> None:
        """What is still on its way of the response is not played."""
        if self._floor.response:
            self._cut_off.add(self._floor.response)
            self._audible.discard(self._floor.response)

    def _flush(self) -> None:
        self._playing = self._filling = False
        self._do(do.FlushPlayout())

    def _settle_words(self) -> None:
        """The caller has been answered: what they said need not be sent again, even if it never becomes text."""
        if self.memory.settle_words():
            self._do(do.Retain(False))

    def _count_error(self) -> None:
        self.errors += 1

    def _send(self, message: messages.Event) -> None:
        assert self._live is not None, "nothing is said to a connection that is not there"
        self._do(do.Send(self._live.number, message))

    def _do(self, action: Action) -> None:
        self._out.append(action)

    def _take(self) -> list[Action]:
        out, self._out = self._out, []
        return out


def as_json(**fields: Any) -> str:
    """Returns what a function call is answered with."""
    return json.dumps(fields, ensure_ascii=False)
