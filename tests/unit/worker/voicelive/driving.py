"""Drives a session by hand: what happens goes in, what is to be done is kept, and the clock is turned by the test.

It takes the owner's place (`worker/conversation.py`) as far as a session notices: a playout in milliseconds that can be
flushed and run empty, and alarms in their time. It makes no assertions.
"""

import json
from collections.abc import Callable
from typing import Any, TypeVar

from shared.agents.model import Agent
from shared.errors import UpstreamError
from worker.tools.catalogue import Catalogue
from worker.voicelive import actions as do
from worker.voicelive import events
from worker.voicelive.actions import Action
from worker.voicelive.events import ErrorInfo, OutputItem, ResponseInfo, SessionInfo, TurnDetectionInfo, UsageInfo
from worker.voicelive.rules.state import SessionOptions
from worker.voicelive.session import Session

START = 1_000.0
FILLER_MS = 2_000.0
APOLOGY_MS = 3_000.0
BYTES_PER_MS = 8

LOST = UpstreamError("connection lost")

A = TypeVar("A")

NO_ALARMS: dict[str, Any] = {"silence": {"after_s": 0}, "dead_air": {"after_s": 0}, "limits": {"max_call_s": 0}}
"""Of an agent whose calls nothing happens in by itself."""

WEATHER: dict[str, Any] = {
    "type": "http_request",
    "name": "weather",
    "description": "Tells the weather.",
    "url": "https://weather.example/{city}",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


class Script:
    """A call without sockets. Every step returns what the session wanted done, in order."""

    def __init__(self, greeting: str = "", *, interruptible: bool = True, **agent: Any) -> None:
        if greeting:
            agent["greeting"] = {"text": greeting, "interruptible": interruptible}
        self.agent = Agent.model_validate({"name": "test", "model": "gpt-4.1-mini", **agent})
        options = SessionOptions(self.agent, "Be brief.", greeting, "g711_ulaw", 8000, Catalogue(self.agent, {}))
        self.sent_ms = 0.0
        self.session = Session(options, lambda: self.sent_ms)
        self.now = START
        self.live = 0
        """Connection that events are taken to come from."""
        self.done: list[Action] = []
        """Everything so far."""
        self.playout: list[tuple[str, float]] = []
        """Items waiting to be heard, and how long each is, in ms."""
        self.heard_ms = 0.0
        """How much of the playout was heard already."""
        self.finishing = False
        """The owner will say when the playout is over."""

    # -- the owner

    def start(self) -> list[Action]:
        return self._do(self.session.start)

    def open(self, connection: int = 1, **session: Any) -> list[Action]:
        """The connection comes up and is set up; the first one answers the call."""
        return self.created(connection) + self.updated(connection, **session)

    def begun(self, **session: Any) -> "Script":
        """The call is answered."""
        self.start()
        self.open(**session)
        return self

    def lose(self, connection: int = 0, error: UpstreamError = LOST) -> list[Action]:
        return self._do(lambda: self.session.lost(connection or self.live, error, self.now))

    def hear(self, ms: float) -> None:
        """The caller hears this much of the playout."""
        self.heard_ms += ms

    def hear_all(self) -> list[Action]:
        """The caller hears everything there is."""
        self.playout, self.heard_ms, self.finishing = [], 0.0, False
        return self._do(lambda: self.session.playout_over(self.now))

    def wait(self, seconds: float) -> list[Action]:
        """Time passes; the session is woken whenever it wants to be."""
        until, out = self.now + seconds, []
        while (at := self.session.next_wake) is not None and at <= until:
            self.now = max(self.now, at)
            out += self._do(lambda: self.session.advance(self.now))
        self.now = until
        return out

    def press(self, digits: str) -> list[Action]:
        return [action for key in digits for action in self._do(lambda key=key: self.session.digit(key, self.now))]  # type: ignore[misc]

    def tool_done(self, call_id: str, output: str = '{"ok": true}', *, failed: bool = False) -> list[Action]:
        return self._do(lambda: self.session.tool_done(call_id, output, self.now, failed=failed))

    def transferred(self, status: int) -> list[Action]:
        return self._do(lambda: self.session.transferred(status, self.now))

    def ordered_to_say(self, text: str) -> list[Action]:
        return self._do(lambda: self.session.say(text, self.now))

    def ordered_to_transfer(self, name: str, uri: str) -> list[Action]:
        return self._do(lambda: self.session.transfer(name, uri, self.now))

    # -- the service

    def receive(self, event: events.ServerEvent | events.Other, connection: int = 0) -> list[Action]:
        number = connection or self.live
        return self._do(lambda: self.session.receive(event, number, self.now), number)

    def created(self, connection: int) -> list[Action]:
        return self.receive(events.SessionCreated(SessionInfo(f"sess_{connection}")), connection)

    def updated(
        self, connection: int, *, expires_at: float | None = None, silence_ms: float | None = None
    ) -> list[Action]:
        info = SessionInfo(f"sess_{connection}", TurnDetectionInfo(silence_ms), expires_at)
        return self.receive(events.SessionUpdated(info), connection)

    def error(self, code: str, event_id: str | None = None, connection: int = 0) -> list[Action]:
        return self.receive(events.Error(ErrorInfo("invalid_request_error", code, None, event_id)), connection)

    def speech(self, item: str = "caller_1", at_ms: int = 0) -> list[Action]:
        """The caller begins to speak."""
        return self.receive(events.SpeechStarted(item, at_ms))

    def silence(self, item: str = "caller_1", at_ms: int = 0) -> list[Action]:
        """The caller stops speaking."""
        return self.receive(events.SpeechStopped(item, at_ms))

    def transcript(self, text: str, item: str = "caller_1") -> list[Action]:
        return self.receive(events.CallerTranscript(item, text))

    def says(self, text: str, item: str = "caller_1") -> list[Action]:
        """The caller says something, from beginning to end."""
        return self.speech(item) + self.silence(item) + self.transcript(text, item)

    def response(self, response: str) -> list[Action]:
        return self.receive(events.ResponseCreated(ResponseInfo(response)))

    def words(self, response: str, text: str) -> list[Action]:
        return self.receive(events.TranscriptDelta(response, f"item_{response}", text))

    def all_words(self, response: str, text: str) -> list[Action]:
        return self.receive(events.TranscriptDone(response, f"item_{response}", text))

    def audio(self, response: str, ms: int = 1000) -> list[Action]:
        return self.receive(events.AudioDelta(response, f"item_{response}", bytes(ms * BYTES_PER_MS)))

    def audio_done(self, response: str) -> list[Action]:
        return self.receive(events.AudioDone(response, f"item_{response}"))

    def over(self, response: str, status: str = "completed", usage: UsageInfo | None = None) -> list[Action]:
        return self.receive(events.ResponseDone(ResponseInfo(response, status, usage)))

    def speaks(self, response: str, text: str = "Well then.", ms: int = 1000) -> list[Action]:
        """A response says something; it goes on after that."""
        out = self.response(response) + self.words(response, text) + self.audio(response, ms)
        return out + self.audio_done(response) + self.all_words(response, text)

    def answers(self, response: str, text: str = "Well then.", ms: int = 1000) -> list[Action]:
        """A response says something and is over; the caller has yet to hear it."""
        return self.speaks(response, text, ms) + self.over(response)

    def conversed(self, response: str, text: str = "Well then.") -> list[Action]:
        """A response says something, and it is heard."""
        return self.answers(response, text) + self.hear_all()

    def calls(self, response: str, call_id: str, name: str, /, **arguments: Any) -> list[Action]:
        return self.calls_with(response, call_id, name, json.dumps(arguments))

    def calls_with(self, response: str, call_id: str, name: str, arguments: str) -> list[Action]:
        item = OutputItem(f"item_{call_id}", "function_call", name, call_id, arguments)
        return self.receive(events.OutputItemDone(response, item))

    def runs(self, response: str, call_id: str, name: str, /, **arguments: Any) -> list[Action]:
        """A response is nothing but a function call."""
        return self.response(response) + self.calls(response, call_id, name, **arguments) + self.over(response)

    def takes_in(self, actions: list[Action]) -> list[Action]:
        """The service takes in the items that it was told."""
        ids = [item["id"] for item in told(actions) if "id" in item]
        return [action for each in ids for action in self.receive(events.ItemCreated(OutputItem(each)))]

    # --

    def _do(self, decide: Callable[[], list[Action]], connection: int = 0) -> list[Action]:
        out: list[Action] = []
        for action in decide():
            out.append(action)
            self.done.append(action)
            match action:
                case do.Play():
                    self.playout.append((action.item_id, len(action.audio) / BYTES_PER_MS))
                case do.PlayFiller() | do.PlayApology():
                    self.playout.append(("", FILLER_MS if isinstance(action, do.PlayFiller) else APOLOGY_MS))
                    self.finishing = True
                case do.FinishAnswer():
                    self.finishing = True
                case do.FlushPlayout():
                    cut = self._cut()
                    out += self._do(lambda cut=cut: self.session.cut_off(cut, self.now))  # type: ignore[misc]
                case do.Listen() | do.Send():
                    self.live = action.connection
                case do.Ready():
                    self.live = connection
                    out += self._do(lambda: self.session.answered(self.now))
        return out

    def _cut(self) -> list[tuple[str, int]]:
        lengths: dict[str, float] = {}
        for item, ms in self.playout:
            lengths[item] = lengths.get(item, 0.0) + ms
        cut, left = [], self.heard_ms
        for item, ms in lengths.items():
            if left < ms:
                cut.append((item, int(left)))
            left = max(0.0, left - ms)
        self.playout, self.heard_ms, self.finishing = [], 0.0, False
        return cut


def of(actions: list[Action], kind: type[A]) -> list[A]:
    """Returns the actions of one kind."""
    return [action for action in actions if isinstance(action, kind)]


def sent(actions: list[Action], kind: str = "") -> list[dict[str, Any]]:
    """Returns the client events of a type that begins like this."""
    return [action.message for action in of(actions, do.Send) if action.message["type"].startswith(kind)]


def told(actions: list[Action]) -> list[dict[str, Any]]:
    """Returns the items that the conversation was given."""
    return [event["item"] for event in sent(actions, "conversation.item.create")]


def texts(actions: list[Action]) -> list[tuple[str, str]]:
    """Returns who is told to have said what, in the items that the conversation was given."""
    return [(item["role"], item["content"][0]["text"]) for item in told(actions) if item["type"] == "message"]


def outputs(actions: list[Action]) -> dict[str, Any]:
    """Returns the results that the model was given, by call."""
    results = [item for item in told(actions) if item["type"] == "function_call_output"]
    return {item["call_id"]: json.loads(item["output"]) for item in results}


def asked(actions: list[Action]) -> list[dict[str, Any]]:
    """Returns the parameters of the responses that were asked for."""
    return [event["response"] for event in sent(actions, "response.create")]


def spoken(actions: list[Action]) -> list[str]:
    """Returns what the service was asked to say word for word."""
    ready_made = [params["pre_generated_assistant_message"] for params in asked(actions) if params]
    return [message["content"][0]["text"] for message in ready_made]


def marks(actions: list[Action]) -> list[str]:
    """Returns what was noted."""
    return [action.name for action in of(actions, do.Mark)]
