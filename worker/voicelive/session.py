"""The conversation's rules: what happens goes in, what is to be done comes out.

It does no IO and reads no clock, so that every case is a test of three lines. A session is the Voice Live side of one
call. It may span several connections, of which one is `live`; a second one is opened shortly before the service ends
the first (rollover), or after the first was lost (reconnect), and is told the conversation so far.

    connected -> session.update -> session.updated -> Ready (and the greeting is asked for)
    speech_started  -> the playout is flushed, whatever is still coming of the old answer is dropped
    playout flushed -> conversation.item.truncate: the model learns how much of each answer was heard
    function call   -> RunTool ... tool_done -> function_call_output, and response.create once nothing is under way
    nothing at all  -> silence, dead air, limits: alarms, for which the owner calls `advance` at `next_wake`

The rules are in `rules/`, by what they are about: connections (links), speech and answers (talk), acting on the call
(acts). Here is what goes in, what time brings, and what can be done only once nothing else is going on.

Every method that takes `now` (Unix time in seconds of a clock that only goes forward) returns actions, in order.
"""

from collections.abc import Iterable

from shared.ending import CallEnd
from shared.errors import UpstreamError
from worker.voicelive import actions as do
from worker.voicelive import events
from worker.voicelive.actions import Action
from worker.voicelive.alarms import Alarm
from worker.voicelive.floor import Purpose
from worker.voicelive.memory import Role, Utterance
from worker.voicelive.rules.links import Links
from worker.voicelive.rules.state import Moving
from worker.voicelive.rules.talk import Talk


class Session(Links, Talk):
    """The Voice Live side of a call, from `start` until the owner lets go of it."""

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
            case events.AudioDelta() if link is self._live and self._plays(event.response_id):
                # More of the same, as most of what comes: it changes nothing that `_settle` looks at.
                self._audio(event, now)
                return self._take()
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
        if self._ends_entry(digit, now):
            return self._settle(now)
        revocable = self._leaving is None or self._leaving.revocable
        if self._agent.dtmf.interrupts and not self._deaf and not self._filling and revocable:
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

    @property
    def refusal(self) -> str:
        """Why an operator cannot have anything said or the caller transferred now; empty when they can."""
        if self._moving is not None:
            return "the caller is being transferred already"
        if self._leaving is not None:
            return "the call is being ended"
        return "the call has no session any more" if self._gone else ""

    def say(self, text: str, now: float) -> list[Action]:
        """An operator has the agent say a text word for word; not while there is a `refusal`."""
        self._say(Purpose.SAY, text, now)
        return self._settle(now)

    def transfer(self, name: str, uri: str, now: float) -> list[Action]:
        """An operator has the caller transferred, what is being said now having been heard; likewise.

        `name` is what the model and the call record are told. `OrderOver` follows, unless the call ends before.
        """
        self._moving = Moving(name, ordered_to=uri)
        return self._settle(now)

    def tool_done(self, call_id: str, output: str, now: float, *, failed: bool = False) -> list[Action]:
        """A function call has its result: `output` is for the model."""
        self._answer_call(call_id, output, now, failed=failed)
        return self._settle(now)

    def transferred(self, status: int, now: float) -> list[Action]:
        """A transfer has its outcome: the final SIP status of the REFER."""
        self._referred(status, now)
        return self._settle(now)

    def advance(self, now: float) -> list[Action]:
        """Time has passed: what is due is done."""
        while (alarm := self._alarms.due(now)) is not None:
            self._ring(alarm, now)
        return self._settle(now)

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
        if self._all_heard or self._stranded:
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
    def _stranded(self) -> bool:
        """Whether the caller is to be transferred while there is no connection: that needs none."""
        waits = self._live is None and self._begun and self._moving is not None and not self._gone
        return waits and (self._filling or not self._playing)

    @property
    def _quiet(self) -> bool:
        """Whether it is the caller's turn to speak, and nothing is going on at all."""
        idle = self._live is not None and self._all_heard and not self._owed and not self._errands
        return idle and self._leaving is None and self._moving is None and self._collecting is None
