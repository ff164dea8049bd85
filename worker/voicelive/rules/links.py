"""The session's connections: opened, set up, lost, replaced, left before the service ends them.

    start -> 1 opened -> live                                        (refused for good: there is no call)
                         near its end -> 2 opened -> takes over in a quiet moment, or at the last
                         lost -> 2 opened, at once and then with back-off -> takes over
                                 given up -> apology, then transfer or hang-up

One that takes over is told the conversation first, and then gets the caller's audio, beginning with what was kept.
"""

import json

from shared.ending import CallEnd
from shared.errors import UpstreamError
from worker.voicelive import actions as do
from worker.voicelive import events, messages, recovery
from worker.voicelive.alarms import Alarm
from worker.voicelive.configuration import session_update
from worker.voicelive.errands import Errands
from worker.voicelive.floor import ANSWER, Purpose, Request
from worker.voicelive.memory import Utterance
from worker.voicelive.rules.state import LEAVE_S, SESSION_MAX_S, Leaving, Link, Moving, State

ROLLOVER_LEAD_S = 60.0
"""How long before its end the next connection is opened; a short-lived one leaves a quarter of its life for it."""

ROLLOVER_LAST_S = 5.0
"""How long before its end a connection is left at any cost; a short-lived one leaves a tenth of its life."""

ROLLOVER_ANSWER_S = 1.0
"""How long before its end a connection is left even in the middle of an answer."""

ROLLOVER_LOOK_S = 0.1
"""How often it is looked whether that answer has arrived."""

TALKING_S = 2.0
"""How much later the filler begins when the caller was speaking at the moment the connection was lost."""

REPLAY_MAX = 200
"""Entries of the conversation that a new connection is told: the newest."""

_MET_ANOTHER = "conversation_already_has_active_response"
"""Code of the error that answers a response.create which came just after the service had begun a response itself."""


class Links(State):
    """What is decided about connections."""

    def _connect(self, after_s: float) -> Link:
        self._count += 1
        link = self._links[self._count] = Link(self._count)
        self._do(do.Connect(link.number, after_s))
        return link

    def _created(self, link: Link, session: events.SessionInfo) -> None:
        options = self.options
        if not self._begun:
            self._do(do.Mark("connected"))
        self.session_ids.append(session.id)
        tools = options.tools.definitions()
        update = session_update(self._agent, options.instructions, options.encoding, options.rate, tools)
        self._do(do.UpdateSession(link.number, update))

    def _updated(self, link: Link, session: events.SessionInfo, now: float) -> None:
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

    def _begin(self, link: Link, session_id: str) -> None:
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

    def _watch_end(self, link: Link) -> None:
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
        heard = self._answers.get(response)
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
        self._answers.clear()
        self._unacknowledged.clear()
        self._live = None
        self._alarms.clear(Alarm.ROLLOVER, Alarm.ROLLOVER_FORCE, Alarm.DEAD_AIR, Alarm.STUCK, Alarm.SILENCE)
        if self.memory.words_unknown:
            # Its audio is sent again, and so the service will answer by itself.
            self._owed, self._resume = False, ""
        self._speaking = False
        self._errands.connection_lost()

    def _take_over(self, link: Link, now: float) -> None:
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
            self._moving = Moving(fallback.transfer, otherwise=CallEnd.SESSION_LOST)
        else:
            self._leaving = Leaving(CallEnd.SESSION_LOST, revocable=False)
            self._alarms.set(Alarm.LEAVE, now + 2 * LEAVE_S)  # an apology may take a minute

    def _error(self, link: Link, error: events.ErrorInfo, now: float) -> None:
        if not link.ready:
            what = f"session refused: {error.code or error.type or 'unknown'} {error.param or ''}".rstrip()
            self._do(do.Disconnect(link.number))
            self._lost(link.number, UpstreamError(what, status=recovery.REFUSED), now)
        elif self._floor.refused(error.event_id or "", met_another=error.code == _MET_ANOTHER):
            if error.code != _MET_ANOTHER:
                self._count_error()
        elif not _harmless(error):
            self._count_error()

    def _stuck(self, now: float) -> None:
        """No answer has come for long: a new connection may do better, unless it is a tool that takes its time."""
        if self._live is None or self._errands or self._speaking:
            self._alarms.set(Alarm.STUCK, now + self._agent.dead_air.after_s)
            return
        live = self._live
        self._do(do.Mark("stuck"))
        self._do(do.Disconnect(live.number))
        self._lost(live.number, UpstreamError("no answer"), now)

    def _roll_over_soon(self, old: Link, standby: Link, now: float) -> None:
        """Has the standby take over, but lets an answer arrive whole: that takes a second, hearing it needs nobody."""
        if (self._audible or self._floor.busy) and now < old.ends_at - min(ROLLOVER_ANSWER_S, old.lifetime_s / 40):
            self._alarms.set(Alarm.ROLLOVER_FORCE, now + ROLLOVER_LOOK_S)
        else:
            self._roll_over(old, standby, now)

    def _roll_over(self, old: Link, standby: Link, now: float) -> None:
        del self._links[old.number]
        self._leave_live()
        self._take_over(standby, now)
        self._do(do.Disconnect(old.number))


def _harmless(error: events.ErrorInfo) -> bool:
    """Whether an error only says that the service was faster: the answer was over, or shorter than what was heard.

    Or that the session is over, which the closing connection says, too.
    """
    return error.code in ("response_cancel_not_active", "session_expired") or (error.event_id or "").startswith(
        messages.TRUNCATION
    )
