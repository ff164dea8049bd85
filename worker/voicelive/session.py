"""The conversation's rules: what happens goes in, what is to be done comes out.

It does no IO and reads no clock, so that every case is a test of three lines. A session is the Voice Live side of one
call. It may span several connections, of which one is `live`; a second one is opened shortly before the service ends
the first (rollover), or after the first was lost (reconnect), and is told the conversation so far.

    connected -> session.update -> session.updated -> Ready (and the greeting is asked for)
    speech_started  -> the playout is flushed, whatever is still coming of the old answer is dropped
    playout flushed -> conversation.item.truncate: the model learns how much of each answer was heard
    function call   -> RunTool ... tool_done -> function_call_output, and response.create once nothing is under way
    nothing at all  -> silence, dead air, limits: alarms, for which the owner calls `advance` at `next_wake`

Every method that takes `now` (Unix time in seconds of a clock that only goes forward) returns actions, in order.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from shared.agents.model import Agent, CollectDigitsTool, HangUpTool, SendDtmfTool, Sound, Tool, TransferTool
from shared.ending import CallEnd
from shared.errors import UpstreamError
from worker.tools.catalogue import BadCall
from worker.voicelive import actions as do
from worker.voicelive import events, messages, recovery
from worker.voicelive.actions import Action
from worker.voicelive.alarms import Alarm, Alarms
from worker.voicelive.configuration import session_update
from worker.voicelive.digits import Collector, Entry
from worker.voicelive.errands import Errands
from worker.voicelive.floor import ANSWER, Floor, Purpose, Request
from worker.voicelive.memory import Memory, Role, ToolCall, Turn, Typed, Usage, Utterance

LEAVE_S = 30.0
"""Longest wait for a goodbye to be heard before hanging up all the same."""

ROLLOVER_LEAD_S = 60.0
"""How long before its end the next connection is opened; a short-lived one leaves a quarter of its life for it."""

ROLLOVER_LAST_S = 5.0
"""How long before its end a connection is left at any cost; a short-lived one leaves a tenth of its life."""

ROLLOVER_ANSWER_S = 1.0
"""How long before its end a connection is left even in the middle of an answer."""

ROLLOVER_LOOK_S = 0.1
"""How often it is looked whether that answer has arrived."""

SESSION_MAX_S = 3600.0
"""The service ends a session after this long, whatever its `expires_at` says."""

TALKING_S = 2.0
"""How much later the filler begins when the caller was speaking at the moment the connection was lost."""

REPLAY_MAX = 200
"""Entries of the conversation that a new connection is told: the newest."""

_MET_ANOTHER = "conversation_already_has_active_response"
"""Code of the error that answers a response.create which came just after the service had begun a response itself."""


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
class _Link:
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
class _Leaving:
    """The call ends as soon as what was said has been heard."""

    end: CallEnd
    call_id: str = ""
    """Of the function call that asked for it."""
    revocable: bool = True
    """The caller can prevent it by speaking."""
    farewell: str = ""
    """Still to be asked for."""


@dataclass(slots=True)
class _Moving:
    """The caller is transferred as soon as what was said has been heard."""

    target: str
    """Name of the target."""
    call_id: str = ""
    referred: bool = False
    otherwise: CallEnd | None = None
    """How the call ends when the transfer fails; None when the conversation goes on."""


@dataclass(slots=True)
class _Collecting:
    """The model waits for digits."""

    call_id: str
    collector: Collector
    sensitive: bool
    timeout_s: float


class Session:
    """The Voice Live side of a call, from `start` until the owner lets go of it."""

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
        self._links: dict[int, _Link] = {}
        self._count = 0
        self._live: _Link | None = None
        self._standby: _Link | None = None
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
        self._leaving: _Leaving | None = None
        self._moving: _Moving | None = None
        self._collecting: _Collecting | None = None
        self._keys = Collector(
            Entry(self._agent.dtmf.max_digits, self._agent.dtmf.terminator, self._agent.dtmf.inter_digit_s)
        )
        self._prompts_left = self._agent.silence.prompts
        self._turn: Turn | None = None
        self._awaits_audio = ""
        """Mark to set at the next first audio: `greeting_audio` or `answer_audio`."""
        self._resume = ""
        """What the caller heard of an answer that was lost with its connection."""
        self._items: dict[str, str] = {}
        """Responses under way, and the items they speak."""
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

    # ------------------------------------------------------------------------------------------------- what goes in

    def start(self) -> list[Action]:
        """The call has come in: the first connection is opened."""
        self._connect(0.0)
        return self._take()

    def answered(self, now: float) -> list[Action]:
        """The call was answered: its length counts from here."""
        limits = self._agent.limits
        if limits.max_call_s:
            self._alarms.set(Alarm.LENGTH, now + limits.max_call_s)
            if limits.warning_s:
                self._alarms.set(Alarm.WARNING, now + limits.max_call_s - limits.warning_s)
        return self._settle(now)

    def receive(self, event: events.ServerEvent | events.Other, connection: int, now: float) -> list[Action]:
        """The service said something on a connection."""
        link = self._links.get(connection)
        if link is None:
            return []
        match event:
            case events.SessionCreated():
                self._created(link, event.session)
            case events.SessionUpdated():
                self._updated(link, event.session, now)
            case events.Error():
                self._error(link, event.error, now)
            case _ if link is self._live:
                self._heard_from_service(event, now)
        return self._settle(now)

    def lost(self, connection: int, error: UpstreamError, now: float) -> list[Action]:
        """A connection is gone, or could not be opened."""
        self._lost(connection, error, now)
        return self._settle(now)

    def cut_off(self, items: Iterable[tuple[str, int]], now: float) -> list[Action]:
        """The playout was flushed: of these items (id, heard ms) something was dropped, the one being heard first."""
        items = [(item_id, heard_ms) for item_id, heard_ms in items if item_id]
        if items and self._speaking:
            self._do(do.Mark("barge_in"))
            if self.memory.turns:
                self.memory.turns[-1].barged_in = True
        for item_id, heard_ms in items:
            self._was_cut_off(item_id, heard_ms)
        return self._settle(now)

    def ended(self, items: Iterable[tuple[str, int]], now: float) -> None:
        """The call is over: what was not heard (as in `cut_off`) and what was being typed is noted, for the record."""
        self.cut_off(items, now)
        if self._collecting is not None:
            self._remember(self._collecting.collector.take(), now, sensitive=self._collecting.sensitive)
        self._remember(self._keys.take(), now)

    def _remember(self, digits: str, now: float, *, sensitive: bool = False) -> None:
        if digits:
            self.memory.entries.append(Typed(digits, now, sensitive))

    def playout_started(self, at: float) -> None:
        """The latest answer's first packet went to the caller at `at`."""
        if self._turn is not None and self._turn.first_audio is not None and self._turn.first_packet is None:
            self._turn.first_packet = at
        spoken = next((e for e in reversed(self.memory.entries) if isinstance(e, Utterance)), None)
        if spoken is not None and spoken.role is Role.AGENT:
            spoken.at = at

    def playout_over(self, now: float) -> list[Action]:
        """The caller has heard everything there was."""
        self._playing = False
        if self._filling:
            self._refill(now)
        return self._settle(now)

    def digit(self, digit: str, now: float) -> list[Action]:
        """The caller pressed a key: one of 0 to 9, *, #, A to D."""
        if not self._begun or self._gone:
            return []
        self._caller_acted(now)
        if self._agent.dtmf.interrupts and not self._deaf and (self._leaving is None or self._leaving.revocable):
            self._silence_model()
        if self._collecting is not None:
            self._collect(self._collecting, digit, now)
        elif digit in self._agent.dtmf.menu and not self._keys.begun:
            self._choose(digit, now)
        else:
            entry = self._keys.press(digit)
            if entry is None:
                self._alarms.set(Alarm.DIGITS, now + self._keys.pause_s)
            else:
                self._typed(entry, now)
        return self._settle(now)

    def tool_done(self, call_id: str, output: str, now: float, *, failed: bool = False) -> list[Action]:
        """A function call has its result: `output` is for the model."""
        self._answer_call(call_id, output, now, failed=failed)
        return self._settle(now)

    def transferred(self, status: int, now: float) -> list[Action]:
        """A transfer has its outcome: the final SIP status of the REFER."""
        moving, self._moving = self._moving, None
        if moving is None:
            return []
        if 200 <= status < 300:
            self.transferred_to = moving.target
            self._answer_call(moving.call_id, _json(result="transferred"), now, go_on=False)
            self._do(do.HangUp(CallEnd.TRANSFERRED))
        elif moving.otherwise is not None:
            self._do(do.HangUp(moving.otherwise))
        elif moving.call_id:
            self._answer_call(moving.call_id, _json(error=_why(status)), now, failed=True)
        else:
            self._tell(
                f"[The transfer to {moving.target} did not work: {_why(status)}. The caller is still here.]", now
            )
        return self._settle(now)

    def advance(self, now: float) -> list[Action]:
        """Time has passed: what is due is done."""
        while (alarm := self._alarms.due(now)) is not None:
            self._ring(alarm, now)
        return self._settle(now)

    # --------------------------------------------------------------------------------------------------- connections

    def _connect(self, after_s: float) -> _Link:
        self._count += 1
        link = self._links[self._count] = _Link(self._count)
        self._do(do.Connect(link.number, after_s))
        return link

    def _created(self, link: _Link, session: events.SessionInfo) -> None:
        options = self.options
        if not self._begun:
            self._do(do.Mark("connected"))
        self.session_ids.append(session.id)
        tools = options.tools.definitions()
        update = session_update(self._agent, options.instructions, options.encoding, options.rate, tools)
        self._do(do.UpdateSession(link.number, update))

    def _updated(self, link: _Link, session: events.SessionInfo, now: float) -> None:
        if link.ready:
            return
        link.ready = True
        link.lifetime_s = SESSION_MAX_S
        if session.expires_at is not None and session.expires_at > now + 1.0:  # one in the past is a clock's fault
            link.lifetime_s = min(session.expires_at - now, SESSION_MAX_S)
        link.ends_at = now + link.lifetime_s
        if session.turn_detection is not None:
            link.silence_ms = session.turn_detection.silence_duration_ms or 0.0
        if not self._begun:
            self._begin(link, session.id)
        elif self._live is None:
            self._take_over(link, now)
        # otherwise it is the standby, which takes over between two turns: `_settle`

    def _begin(self, link: _Link, session_id: str) -> None:
        self._begun = True
        self._live = link
        self._watch_end(link)
        self._do(do.Mark("session_ready"))
        self._do(do.Ready(session_id))
        greeting = self._agent.greeting
        if self.options.greeting and greeting is not None:
            self._awaits_audio = "greeting_audio"
            self._deaf = not greeting.interruptible
            self._floor.want(Request(Purpose.SAY, messages.spoken(self.options.greeting)))
        self._do(do.Deafen() if self._deaf else do.Listen(link.number))

    def _watch_end(self, link: _Link) -> None:
        lead, last = min(ROLLOVER_LEAD_S, link.lifetime_s / 4), min(ROLLOVER_LAST_S, link.lifetime_s / 10)
        self._alarms.set(Alarm.ROLLOVER, link.ends_at - lead)
        self._alarms.set(Alarm.ROLLOVER_FORCE, link.ends_at - last)

    def _lost(self, connection: int, error: UpstreamError, now: float) -> None:
        link = self._links.pop(connection, None)
        if link is None:
            return
        if link is self._standby:
            self._standby = None
        if not self._begun:
            self._first_failed(error)
        elif link is self._live:
            self._live_lost(error, now)
        elif self._live is None:
            self._try_again(error, now)
        else:  # it was the standby, and the live one still works
            self._alarms.set(Alarm.ROLLOVER, now + max(1.0, error.retry_after_s or 0.0))

    def _first_failed(self, error: UpstreamError) -> None:
        if not recovery.retryable(error):
            self._do(do.Fail(error))
            return
        self._connect(recovery.delay_s(self._attempts, error, self._agent.reconnect))
        self._attempts += 1

    def _live_lost(self, error: UpstreamError, now: float) -> None:
        self._do(do.Mark("connection_lost"))
        reconnect = self._agent.reconnect
        patience_s = reconnect.filler_after_s + (TALKING_S if self._speaking else 0.0)
        self._leave_live()
        if self._standby is not None and self._standby.ready:
            self._take_over(self._standby, now)
            return
        if not self._deaf:
            self._do(do.Hold())
        self._attempts = 0
        if not reconnect.give_up_after_s:
            self._give_up(now)
            return
        self._alarms.set(Alarm.GIVE_UP, now + reconnect.give_up_after_s)
        self._alarms.set(Alarm.FILLER, now + patience_s)
        if self._standby is None:  # otherwise it is on its way already
            self._try_again(error, now)

    def _try_again(self, error: UpstreamError, now: float) -> None:
        if not recovery.retryable(error):
            self._give_up(now)
            return
        self._connect(recovery.delay_s(self._attempts, error, self._agent.reconnect))
        self._attempts += 1

    def _leave_live(self) -> None:
        """Notes what is lost with the live connection, so that the next one can make up for it."""
        response = self._floor.response
        heard = self._utterance_of(response)
        if self._floor.moved():
            if response in self._audible and heard is not None:
                # What has arrived will be heard to its end; what it would have gone on with, nobody will.
                heard.cut(heard.audio_ms)
                self._resume = heard.text
                self._finish_playing()
            if response not in self._cut_off:
                self._owed = True
        self._audible.clear()
        self._cut_off.clear()
        self._items.clear()
        self._unacknowledged.clear()
        self._live = None
        self._alarms.clear(Alarm.ROLLOVER, Alarm.ROLLOVER_FORCE, Alarm.DEAD_AIR, Alarm.STUCK, Alarm.SILENCE)
        if self.memory.words_unknown:
            # Its audio is sent again, and so the service will answer by itself.
            self._owed, self._resume = False, ""
        self._speaking = False
        self._errands.connection_lost()

    def _take_over(self, link: _Link, now: float) -> None:
        """Makes a connection the live one: it is told the conversation, and gets the caller's audio."""
        self._live, self._standby = link, None
        self._alarms.clear(Alarm.GIVE_UP, Alarm.FILLER)
        self._watch_end(link)
        self._do(do.Mark("session_resumed"))
        if self.memory.words_unknown:  # their audio comes again, and is answered: what we want said waits for that
            self._floor.expect(True)
            self._owe(now)
        self.memory.forget_unheard()
        entries = self.memory.entries
        for index, entry in enumerate(entries[-REPLAY_MAX:], max(0, len(entries) - REPLAY_MAX)):
            item_id = f"retold_{index}"
            if isinstance(entry, Utterance):
                link.retold[entry.item_id] = item_id
            for event in messages.replayed(entry, item_id):
                self._send(event)
        if not self._deaf:
            self._do(do.Listen(link.number))
        if not self._owed:
            self._stop_filler()
        elif not self._errands and not self._floor.busy:  # otherwise it goes on by itself, or with their results
            self._floor.want(self._continuation())
        self._resume = ""

    def _continuation(self) -> Request:
        if not self._resume:
            return ANSWER
        heard = json.dumps(self._resume, ensure_ascii=False)
        told = f"{self.options.instructions}\n\nThe line was interrupted while you were speaking. The caller has heard "
        told += f"you say: {heard}. Go on from there without repeating it."
        return Request(Purpose.ANSWER, {"instructions": told})

    def _give_up(self, now: float) -> None:
        """There will be no session any more: the caller is told so, and let go."""
        for number in self._links:
            self._do(do.Disconnect(number))
        self._links.clear()
        self._gone, self._live, self._standby = True, None, None
        self._stop_filler()
        self._floor.clear()
        self._errands = Errands()  # nobody is left to be told of their results
        for alarm in Alarm:
            if alarm is not Alarm.LEAVE:
                self._alarms.clear(alarm)
        self._do(do.Mark("gave_up"))
        fallback = self._agent.fallback
        if self._moving is not None and self._moving.referred:
            self._moving.otherwise = CallEnd.SESSION_LOST  # somebody else may take the caller over at any moment
            return
        if fallback.say is not None or fallback.wav is not None:
            self._playing = True
            self._do(do.PlayApology())
        if fallback.transfer is not None:
            self._leaving = None
            self._moving = _Moving(fallback.transfer, otherwise=CallEnd.SESSION_LOST)
        else:
            self._leaving = _Leaving(CallEnd.SESSION_LOST, revocable=False)
            self._alarms.set(Alarm.LEAVE, now + 2 * LEAVE_S)  # an apology may take a minute

    def _error(self, link: _Link, error: events.ErrorInfo, now: float) -> None:
        if not link.ready:
            what = f"session refused: {error.code or error.type or 'unknown'} {error.param or ''}".rstrip()
            self._do(do.Disconnect(link.number))
            self._lost(link.number, UpstreamError(what, status=recovery.REFUSED), now)
        elif self._floor.refused(error.event_id or "", met_another=error.code == _MET_ANOTHER):
            if error.code != _MET_ANOTHER:
                self._count_error()
        elif not _harmless(error):
            self._count_error()

    def _count_error(self) -> None:
        self.errors += 1

    # ------------------------------------------------------------------------------------------ what the service says

    def _heard_from_service(self, event: events.ServerEvent | events.Other, now: float) -> None:
        match event:
            case events.AudioDelta():
                self._audio(event, now)
            case events.TranscriptDelta():
                self._words(event.item_id, event.response_id, now, more=event.delta)
            case events.TranscriptDone():
                self._words(event.item_id, event.response_id, now, all_of_it=event.transcript)
            case events.SpeechStarted():
                self._speech_started(event, now)
            case events.SpeechStopped():
                self._speech_stopped(event, now)
            case events.CallerTranscript():
                self._caller_said(event.item_id, event.transcript)
            case events.CallerTranscriptFailed():
                self._caller_said(event.item_id, "")
            case events.ItemCreated():
                self._unacknowledged.discard(event.item.id)
            case events.ResponseCreated():
                self._floor.began(event.response.id, knows_all=not self._unacknowledged)
                if self._speaking and self._agent.turn_detection.interrupt_response:
                    self._cancel_response()  # asked for in the moment in which the caller began to speak
            case events.AudioDone():
                self._audible.discard(event.response_id)
                if event.response_id not in self._cut_off:
                    self._finish_playing()
            case events.OutputItemDone():
                self._output_done(event, now)
            case events.ResponseDone():
                self._response_done(event.response, now)
            case _:
                pass

    def _audio(self, event: events.AudioDelta, now: float) -> None:
        if event.response_id in self._cut_off:
            return
        utterance = self._utterance(event.item_id, event.response_id, now)
        utterance.audio_ms += len(event.delta) / self.options.bytes_per_ms
        if event.response_id not in self._audible:
            self._audible.add(event.response_id)
            self._spoke = event.response_id
            self._first_audio(now)
        self._playing = True
        self._do(do.Play(event.item_id, event.delta))

    def _first_audio(self, now: float) -> None:
        self._owed = False
        self._failures = 0
        self._alarms.clear(Alarm.DEAD_AIR, Alarm.STUCK, Alarm.FILLER)
        self._stop_filler()
        if self._awaits_audio:
            self._do(do.Mark(self._awaits_audio))
            if self._awaits_audio == "answer_audio" and self._turn is not None and self._turn.first_audio is None:
                self._turn.first_audio = now
            self._awaits_audio = ""

    def _finish_playing(self) -> None:
        self._playing = True  # the owner says when it is over, also when there was next to nothing
        self._do(do.FinishAnswer())

    def _utterance(self, item_id: str, response_id: str, now: float) -> Utterance:
        utterance = self.memory.utterance(item_id)
        if utterance is None:
            utterance = Utterance(Role.AGENT, item_id, now)
            self.memory.entries.append(utterance)
            self._items[response_id] = item_id
        return utterance

    def _utterance_of(self, response_id: str) -> Utterance | None:
        item_id = self._items.get(response_id)
        return None if item_id is None else self.memory.utterance(item_id)

    def _words(
        self, item_id: str, response_id: str, now: float, *, more: str = "", all_of_it: str | None = None
    ) -> None:
        if response_id in self._cut_off:
            return
        utterance = self._utterance(item_id, response_id, now)
        if utterance.settled:
            return
        if all_of_it is None:
            utterance.text += more
        else:
            utterance.text, utterance.settled = all_of_it, True

    def _speech_started(self, event: events.SpeechStarted, now: float) -> None:
        self._speaking = True
        self._caller_acted(now)
        self.memory.entries.append(Utterance(Role.CALLER, event.item_id, self._when(event.audio_start_ms, now)))
        self._do(do.Mark("speech_started"))
        self._do(do.Retain(True))
        if self._agent.turn_detection.interrupt_response:
            # Audio arrives far faster than it is heard: the playout may hold a whole answer whose response is long
            # done, so it is flushed whether or not one is active. The service cancels an active one by itself.
            self._drop_response()
            self._disown()
            self._flush()

    def _speech_stopped(self, event: events.SpeechStopped, now: float) -> None:
        self._speaking = False
        self._turn = Turn(now)
        silence_ms = self._live.silence_ms if self._live is not None else 0.0
        self._turn.speech_end = self._when(event.audio_end_ms - silence_ms, now)
        self.memory.turns.append(self._turn)
        self._awaits_audio = "answer_audio"
        self._do(do.Mark("speech_stopped"))
        if self._agent.turn_detection.create_response:
            self._floor.expect(True)
            self._owe(now)

    def _when(self, audio_ms: float, now: float) -> float:
        """Returns when the caller's audio at `audio_ms` of this connection was heard."""
        return now - max(0.0, self._sent_ms() - audio_ms) / 1000

    def _caller_said(self, item_id: str, text: str) -> None:
        utterance = self.memory.utterance(item_id)
        if utterance is None:
            return
        utterance.settled = True
        if text:
            utterance.text = text
        elif not utterance.text and not self._floor.response:
            # Nothing was understood: a cascaded model answers nothing to that.
            self._floor.expect(False)
            if self._floor.free and not self._errands:
                self._disown()
                self._stop_filler()
        if not self._speaking:
            self._do(do.Retain(False))

    def _settle_words(self) -> None:
        """The caller has been answered: what they said need not be sent again, even if it never becomes text."""
        if self.memory.settle_words():
            self._do(do.Retain(False))

    def _response_done(self, response: events.ResponseInfo, now: float) -> None:
        self._floor.ended(response.id)
        self._cut_off.discard(response.id)
        self._items.pop(response.id, None)
        if response.id in self._audible:  # ended in the middle
            self._audible.discard(response.id)
            self._finish_playing()
        if self._spoke == response.id and not self._speaking and not self.memory.words_unknown:
            self._settle_words()
        self._note_usage(response, now)
        if self._errands.belongs(response.id):
            if self._errands.response_over(response.id):
                self._floor.want(ANSWER)
        elif response.status == "failed":
            self._failures += 1
            if self._failures == 1:  # once is worth another try; after that dead air decides
                self._floor.want(ANSWER)
        elif response.status == "cancelled" and self._floor.free:
            self._disown()

    def _note_usage(self, response: events.ResponseInfo, now: float) -> None:
        if response.usage is None:
            return
        given = response.usage.input_token_details or events.InputTokens()
        cached = given.cached_tokens_details or events.InputTokens(text_tokens=given.cached_tokens)
        made = response.usage.output_token_details or events.OutputTokens()
        agent = self._agent
        self.memory.usage.append(
            Usage(
                response_id=response.id,
                at=now,
                model=agent.foundry_agent.name if agent.foundry_agent is not None else agent.model,
                input_text=given.text_tokens,
                input_audio=given.audio_tokens,
                cached_text=cached.text_tokens,
                cached_audio=cached.audio_tokens,
                output_text=made.text_tokens,
                output_audio=made.audio_tokens,
            )
        )

    # ---------------------------------------------------------------------------------------------------------- tools

    def _output_done(self, event: events.OutputItemDone, now: float) -> None:
        item = event.item
        if item.type == "mcp_approval_request":
            self._send(messages.refused_approval(item.id))
        elif item.type == "function_call":
            self.memory.entries.append(ToolCall(item.call_id, item.name, item.arguments, now))
            self._errands.begun(event.response_id, item.call_id)
            self._call(event.response_id, item, now)

    def _call(self, response_id: str, item: events.OutputItem, now: float) -> None:
        arguments = self.options.tools.check(item.name, item.arguments, self.hidden_digits)
        if isinstance(arguments, BadCall):
            self._answer_call(item.call_id, _json(error=arguments.message), now, failed=True)
            return
        match self.options.tools.kind(item.name):
            case HangUpTool() | TransferTool() if self._leaving is not None or self._moving is not None:
                told = _json(error="the call is being ended or transferred already")
                self._answer_call(item.call_id, told, now, failed=True, go_on=False)
            case HangUpTool():
                said = self._spoke == response_id
                farewell = arguments.get("farewell") or ("" if said else self._agent.goodbye)
                self._leave(CallEnd.AGENT_HANGUP, farewell, now, call_id=item.call_id)
            case TransferTool():
                self._moving = _Moving(arguments["target"], item.call_id)
                if arguments.get("announcement"):
                    self._say(Purpose.SAY, arguments["announcement"], now)
            case SendDtmfTool():
                self._do(do.SendDigits(item.call_id, arguments["digits"]))
            case CollectDigitsTool():
                self._begin_collecting(item.call_id, arguments, now)
            case _:
                self._do(do.RunTool(item.call_id, item.name, arguments))

    def _answer_call(self, call_id: str, output: str, now: float, *, failed: bool = False, go_on: bool = True) -> None:
        """Gives the model a function call's result; with `go_on` it shall say something to it."""
        call = self.memory.tool_call(call_id)
        if call is None or call.output is not None:
            return
        call.output, call.done_at, call.failed = output, now, failed
        if self._live is not None:  # otherwise the next connection is told with everything else
            self._send(messages.function_output(call_id, output, self._new_item()))
        if self._errands.done(call_id, answer_wanted=go_on):
            self._floor.want(ANSWER)

    # ------------------------------------------------------------------------------------------------- digits, saying

    def _begin_collecting(self, call_id: str, arguments: dict[str, Any], now: float) -> None:
        if self._collecting is not None:
            self._answer_call(call_id, _json(error="digits are being collected already"), now, failed=True)
            return
        dtmf = self._agent.dtmf
        timeout_s = float(arguments.get("timeout_s", max(10.0, dtmf.inter_digit_s)))
        entry = Entry(
            max_digits=arguments["max_digits"],
            terminator=arguments.get("terminator", dtmf.terminator),
            inter_digit_s=float(arguments.get("timeout_s", dtmf.inter_digit_s)),
        )
        self._collecting = _Collecting(call_id, Collector(entry), arguments.get("sensitive", False), timeout_s)
        self._disown()  # it is the caller who is waited for now
        self._stop_filler()
        for digit in self._keys.take():  # typed ahead
            if self._collecting is not None:
                self._collect(self._collecting, digit, now)

    def _collect(self, collecting: _Collecting, digit: str, now: float) -> None:
        entry = collecting.collector.press(digit)
        if entry is not None:
            self._collected(collecting, entry, now)
        else:
            self._alarms.set(Alarm.DIGITS, now + collecting.collector.pause_s)

    def _collected(self, collecting: _Collecting, digits: str, now: float) -> None:
        self._collecting = None
        self._alarms.clear(Alarm.DIGITS)
        if not digits:
            self._answer_call(collecting.call_id, _json(error="the caller typed nothing"), now, failed=True)
            return
        self.memory.entries.append(Typed(digits, now, collecting.sensitive))
        self._do(do.Mark("digits"))
        shown = digits
        if collecting.sensitive:
            shown = f"<digits-{len(self.hidden_digits) + 1}>"
            self.hidden_digits[shown] = digits
        self._answer_call(collecting.call_id, _json(digits=shown, count=len(digits)), now)

    def _typed(self, digits: str, now: float) -> None:
        self._alarms.clear(Alarm.DIGITS)
        if digits:
            entry = Typed(digits, now)
            self._do(do.Mark("digits"))
            self._tell(messages.typed(digits), now, entry)

    def _choose(self, digit: str, now: float) -> None:
        entry = self._agent.dtmf.menu[digit]
        self.memory.entries.append(Typed(digit, now))
        self._do(do.Mark("digits"))
        if entry.transfer is not None:
            self._moving = self._moving or _Moving(entry.transfer)
        elif entry.hang_up:
            self._leave(CallEnd.AGENT_HANGUP, self._agent.goodbye, now)
        else:
            self._say(Purpose.SAY, entry.say or "", now)

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

    def _say(self, purpose: Purpose, text: str, now: float) -> None:
        self._floor.want(Request(purpose, messages.spoken(text)))
        self._owe(now)

    def _leave(self, end: CallEnd, farewell: str, now: float, *, call_id: str = "", revocable: bool = True) -> None:
        """Ends the call once the farewell, and what is being said now, has been heard."""
        if self._leaving is not None and not self._leaving.revocable:
            return
        if self._moving is not None and self._moving.referred:
            self._moving.otherwise = end  # somebody else may take the caller over at any moment
            return
        dropped = [each.call_id for each in (self._moving, self._leaving) if each is not None]
        self._moving = None
        self._leaving = _Leaving(end, call_id, revocable)
        for each in dropped:
            self._answer_call(each, _json(error="the call is being ended"), now, failed=True, go_on=False)
        self._alarms.set(Alarm.LEAVE, now + LEAVE_S)
        if farewell:
            self._say(Purpose.ASK if revocable else Purpose.SAY, farewell, now)

    def _stay(self, now: float) -> None:
        """The caller went on talking: the call is not ended."""
        leaving, self._leaving = self._leaving, None
        self._alarms.clear(Alarm.LEAVE)
        if leaving is not None and leaving.call_id:
            told = _json(error="not hung up: the caller went on talking")
            self._answer_call(leaving.call_id, told, now, failed=True, go_on=False)

    # ---------------------------------------------------------------------------------------------------------- time

    def _ring(self, alarm: Alarm, now: float) -> None:
        match alarm:
            case Alarm.SILENCE:
                self._caller_silent(now)
            case Alarm.WARNING:
                self._say(Purpose.SAY, self._agent.limits.warning, now)
            case Alarm.LENGTH:
                self._leave(CallEnd.LENGTH_LIMIT, self._agent.limits.goodbye, now, revocable=False)
            case Alarm.LEAVE:
                if self._leaving is not None:
                    self._do(do.HangUp(self._leaving.end))
            case Alarm.DEAD_AIR:
                self._alarms.set(Alarm.STUCK, now + 2 * self._agent.dead_air.after_s)
                self._floor.expect(False)
                self._undeafen()
                self._fill()
            case Alarm.STUCK:
                self._stuck(now)
            case Alarm.FILLER:
                self._fill()
            case Alarm.GIVE_UP:
                self._give_up(now)
            case Alarm.DIGITS:
                if self._collecting is not None:
                    self._collected(self._collecting, self._collecting.collector.take(), now)
                else:
                    self._typed(self._keys.take(), now)
            case Alarm.ROLLOVER:
                if self._standby is None and self._live is not None:
                    self._standby = self._connect(0.0)
            case Alarm.ROLLOVER_FORCE:
                if self._standby is not None and self._standby.ready and self._live is not None:
                    self._roll_over_soon(self._live, self._standby, now)

    def _caller_silent(self, now: float) -> None:
        silence = self._agent.silence
        if self._prompts_left > 0:
            self._prompts_left -= 1
            self._say(Purpose.ASK, silence.prompt, now)
        else:
            self._leave(CallEnd.CALLER_SILENT, silence.goodbye, now)

    def _caller_acted(self, now: float) -> None:
        """The caller spoke or pressed a key."""
        self._prompts_left = self._agent.silence.prompts
        self._alarms.clear(Alarm.SILENCE)
        self._floor.caller_spoke()
        if self._leaving is not None and self._leaving.revocable:
            self._stay(now)

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

    def _stuck(self, now: float) -> None:
        """No answer has come for long: a new connection may do better, unless it is a tool that takes its time."""
        if self._live is None or self._errands or self._speaking:
            self._alarms.set(Alarm.STUCK, now + self._agent.dead_air.after_s)
            return
        live = self._live
        self._do(do.Mark("stuck"))
        self._do(do.Disconnect(live.number))
        self._lost(live.number, UpstreamError("no answer"), now)

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

    # ------------------------------------------------------------------------------------------------------- together

    def _settle(self, now: float) -> list[Action]:
        """Does what can be done only once nothing else is going on, and returns everything that is to be done."""
        if self._filler_wanted and not self._playing:
            self._fill()
        if self._deaf and not self._playing and self._floor.free and not self._owed:
            self._undeafen()
        if self._live is not None and not self._speaking and (request := self._floor.next()) is not None:
            self._send(request)
            self._owe(now)
        if self._collecting is not None and not self._playing and not self._floor.busy:
            if not self._collecting.collector.begun and not self._alarms.is_set(Alarm.DIGITS):
                self._alarms.set(Alarm.DIGITS, now + self._collecting.timeout_s)
        if self._all_heard:
            self._go(now)
        if self._quiet:
            if self._live is not None and self._standby is not None and self._standby.ready:
                self._settle_words()
                self._roll_over(self._live, self._standby, now)
            if self._agent.silence.after_s and not self._alarms.is_set(Alarm.SILENCE):
                self._alarms.set(Alarm.SILENCE, now + self._agent.silence.after_s)
        else:
            self._alarms.clear(Alarm.SILENCE)
        return self._take()

    @property
    def _all_heard(self) -> bool:
        """Whether everything that was to be said has been."""
        return not self._playing and (
            self._gone or (self._live is not None and self._floor.free and not self._speaking)
        )

    @property
    def _quiet(self) -> bool:
        """Whether it is the caller's turn to speak, and nothing is going on at all."""
        idle = self._live is not None and self._all_heard and not self._owed and not self._errands
        return idle and self._leaving is None and self._moving is None and self._collecting is None

    def _go(self, now: float) -> None:
        """Leaves or transfers, if that is what was waited for."""
        if self._leaving is not None and not self._errands.others_run(self._leaving.call_id):
            if self._leaving.call_id:
                self._answer_call(self._leaving.call_id, _json(result="hung up"), now, go_on=False)
            self._do(do.HangUp(self._leaving.end))
            self._leaving = None
            self._alarms.clear(Alarm.LEAVE)
        elif self._moving is not None and not self._moving.referred:
            self._moving.referred = True
            self._do(do.Transfer(self._agent.transfers[self._moving.target].uri))

    def _undeafen(self) -> None:
        """The greeting is over: the caller is listened to."""
        if self._deaf and self._live is not None:
            self._deaf = False
            self._do(do.Listen(self._live.number))

    def _roll_over_soon(self, old: _Link, standby: _Link, now: float) -> None:
        """Has the standby take over, but lets an answer arrive whole: that takes a second, hearing it needs nobody."""
        if self._audible and now < old.ends_at - min(ROLLOVER_ANSWER_S, old.lifetime_s / 40):
            self._alarms.set(Alarm.ROLLOVER_FORCE, now + ROLLOVER_LOOK_S)
        else:
            self._roll_over(old, standby, now)

    def _roll_over(self, old: _Link, standby: _Link, now: float) -> None:
        del self._links[old.number]
        self._leave_live()
        self._take_over(standby, now)
        self._do(do.Disconnect(old.number))

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

    def _was_cut_off(self, item_id: str, heard_ms: int) -> None:
        utterance = self.memory.utterance(item_id)
        if utterance is not None:
            utterance.cut(heard_ms)
        if self._live is None:
            return
        retold = self._live.retold.get(item_id)
        if retold is not None:  # it has no audio there that could be cut
            if utterance is not None:
                self._send(messages.deletion(retold))
                self._live.retold[item_id] = f"{retold}_cut"
                for event in messages.replayed(utterance, f"{retold}_cut"):
                    self._send(event)
        elif not self._agent.turn_detection.auto_truncate:
            self._send(messages.truncation(item_id, heard_ms))

    def _send(self, message: messages.Event) -> None:
        assert self._live is not None, "nothing is said to a connection that is not there"
        self._do(do.Send(self._live.number, message))

    def _do(self, action: Action) -> None:
        self._out.append(action)

    def _take(self) -> list[Action]:
        out, self._out = self._out, []
        return out


def _harmless(error: events.ErrorInfo) -> bool:
    """Whether an error only says that the service was faster: the answer was over, or shorter than what was heard.

    Or that the session is over, which the closing connection says, too.
    """
    return error.code in ("response_cancel_not_active", "session_expired") or (error.event_id or "").startswith(
        messages.TRUNCATION
    )


def _why(status: int) -> str:
    """Returns what the model is told of a transfer's SIP status (RFC 3261 section 21)."""
    reasons = {408: "nobody answered", 480: "not available", 486: "busy", 600: "busy", 603: "declined"}
    return reasons.get(status, f"it failed with SIP status {status}")


def _json(**fields: Any) -> str:
    return json.dumps(fields, ensure_ascii=False)
