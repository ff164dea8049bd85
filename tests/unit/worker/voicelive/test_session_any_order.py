"""Whatever happens in whatever order, a session keeps the protocol's rules, and every call comes to an end.

The service is modelled as far as it is bound by rules of its own: one response at a time on a connection, nothing after
the connection is gone. All else it may do whenever it likes.
"""

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shared.errors import UpstreamError
from tests.unit.worker.voicelive.driving import WEATHER, Script
from worker.voicelive import actions as do
from worker.voicelive.actions import Action
from worker.voicelive.events import ItemCreated, OutputItem
from worker.voicelive.memory import Role, Utterance

TOOLS = ["hang_up", "transfer_call", "send_dtmf", "collect_digits", WEATHER]
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("weather", {"city": "Ulm"}),
    ("weather", {}),
    ("nothing", {}),
    ("hang_up", {}),
    ("hang_up", {"farewell": "Bye."}),
    ("transfer_call", {"target": "desk"}),
    ("transfer_call", {"target": "desk", "announcement": "One moment."}),
    ("send_dtmf", {"digits": "1"}),
    ("collect_digits", {"max_digits": 2, "sensitive": True}),
]
MENU = {"1": {"say": "Yes."}, "2": {"transfer": "desk"}, "3": {"hang_up": True}}
LIMITS = {"max_call_s": 200, "warning_s": 60}

agents = st.fixed_dictionaries(
    {
        "turn_detection": st.fixed_dictionaries(
            {"interrupt_response": st.booleans(), "create_response": st.booleans()}
        ),
        "dtmf": st.fixed_dictionaries({"interrupts": st.booleans(), "menu": st.sampled_from([{}, MENU])}),
        "dead_air": st.fixed_dictionaries(
            {"after_s": st.sampled_from([0, 4]), "filler": st.sampled_from(["soft", "One moment."])}
        ),
        "silence": st.fixed_dictionaries({"after_s": st.sampled_from([0, 12]), "prompts": st.integers(0, 2)}),
        "fallback": st.sampled_from(
            [{}, {"say": "Sorry."}, {"transfer": "desk"}, {"say": "Sorry.", "transfer": "desk"}]
        ),
        "reconnect": st.fixed_dictionaries({"give_up_after_s": st.sampled_from([0, 20])}),
    }
)


class AnyOrder(RuleBasedStateMachine):
    """A call in which anything may happen at any time."""

    @initialize(
        agent=agents,
        greeting=st.sampled_from(["", "Hello!"]),
        interruptible=st.booleans(),
        lasts_s=st.integers(30, 900),
    )
    def begin(self, agent: dict[str, Any], greeting: str, interruptible: bool, lasts_s: int) -> None:
        transfers = {"desk": "sip:desk@pbx.example"}
        self.script = Script(
            greeting, interruptible=interruptible, tools=TOOLS, transfers=transfers, limits=LIMITS, **agent
        )
        self.lasts_s = lasts_s
        self.opening: set[int] = set()
        self.ready: set[int] = set()
        self.active: dict[int, str] = {}
        """Connection -> the response under way on it."""
        self.wanted: dict[int, list[str]] = {}
        """Connection -> event ids of what was asked for and has not been looked at by the service yet."""
        self.asking: set[int] = set()
        """Connections on which nothing has been seen to follow from the latest request."""
        self.items: dict[int, set[str]] = {}
        self.answered: dict[int, set[str]] = {}
        self.running: list[str] = []
        self.cut: set[str] = set()
        self.transferring = self.speaking = self.ended = False
        self.count = self.connects = 0
        self.see(self.script.start())
        self.open_next()

    # -- what the session wants done is looked at, in order

    def see(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case do.Connect(number):
                    self.connects += 1
                    assert number == self.connects, "connections are numbered in order"
                    self.opening.add(number)
                    assert len(self.opening | self.ready) <= 2, "the live one, and the next"
                case do.Disconnect(number):
                    assert number in self.opening | self.ready, "what is closed was open"
                    self.forget(number)
                case do.UpdateSession(number):
                    assert number in self.opening, "a connection is configured once, at its beginning"
                case do.Listen(number):
                    assert number in self.ready, "audio goes to a connection that is ready"
                case do.Send(number, message):
                    assert number in self.ready, "events go to a connection that is ready"
                    self.see_sent(number, message)
                case do.Play(item):
                    assert item.removeprefix("item_") not in self.cut, "what was cut off is not played on"
                case do.RunTool(call) | do.SendDigits(call):
                    self.running.append(call)
                case do.Transfer():
                    assert not self.transferring, "one transfer at a time"
                    self.transferring = True
                case do.HangUp():
                    assert not self.ended, "a call ends once"
                    self.ended = True
                case do.Ready():
                    assert self.ready == {1}, "a call is answered once"
                case do.Fail():
                    raise AssertionError("a call that was answered does not fail")

    def see_sent(self, number: int, message: dict[str, Any]) -> None:
        match message["type"]:
            case "response.create":
                assert number not in self.active and number not in self.asking, "one response at a time"
                self.wanted.setdefault(number, []).append(message["event_id"])
                self.asking.add(number)
            case "conversation.item.create":
                item = message["item"]
                ids = self.items.setdefault(number, set())
                assert item["id"] not in ids, "every item has an id of its own"
                ids.add(item["id"])
                if item["type"] == "function_call_output":
                    answered = self.answered.setdefault(number, set())
                    assert item["call_id"] not in answered, "a call has one result"
                    answered.add(item["call_id"])

    def forget(self, number: int) -> None:
        self.opening.discard(number)
        self.ready.discard(number)
        self.active.pop(number, None)
        self.wanted.pop(number, None)
        self.asking.discard(number)
        if number == self.script.live:
            self.speaking = False

    @property
    def live(self) -> int:
        return self.script.live if self.script.live in self.ready else 0

    @property
    def response(self) -> str:
        return self.active.get(self.live, "")

    # -- connections

    @precondition(lambda self: not self.ended and self.opening)
    @rule()
    def open_next(self) -> None:
        number = min(self.opening)
        self.see(self.script.created(number))
        self.opening.discard(number)
        self.ready.add(number)
        self.see(self.script.updated(number, expires_at=self.script.now + self.lasts_s))

    @precondition(lambda self: not self.ended and self.opening)
    @rule(status=st.sampled_from([None, 401, 429, 503]))
    def fail_to_open(self, status: int | None) -> None:
        number = min(self.opening)
        self.forget(number)
        self.see(self.script.lose(number, UpstreamError("refused", status=status)))

    @precondition(lambda self: not self.ended and self.ready)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.ready)))
        self.forget(number)
        self.see(self.script.lose(number))

    # -- the caller

    @precondition(lambda self: not self.ended and self.live and not self.speaking)
    @rule()
    def speak(self) -> None:
        self.speaking = True
        self.count += 1
        before = self.response
        actions = self.script.speech(f"caller_{self.count}")
        if do.FlushPlayout() in actions:
            self.cut.add(before)
        self.see(actions)

    @precondition(lambda self: not self.ended and self.live and self.speaking)
    @rule(text=st.sampled_from(["Hello.", "", None]))
    def fall_silent(self, text: str | None) -> None:
        self.speaking = False
        self.see(self.script.silence(f"caller_{self.count}"))
        if text is not None and self.live:
            self.see(self.script.transcript(text, f"caller_{self.count}"))

    @precondition(lambda self: not self.ended)
    @rule(key=st.sampled_from("123#"))
    def press(self, key: str) -> None:
        before = self.response
        actions = self.script.press(key)
        if do.FlushPlayout() in actions:
            self.cut.add(before)
        self.see(actions)

    @precondition(lambda self: not self.ended and self.script.finishing)
    @rule()
    def hear_all(self) -> None:
        self.see(self.script.hear_all())

    @rule(ms=st.integers(1, 2_000))
    def hear(self, ms: int) -> None:
        self.script.hear(ms)

    @precondition(lambda self: not self.ended)
    @rule(seconds=st.sampled_from([0.2, 3.0, 5.0, 13.0, 40.0]))
    def wait(self, seconds: float) -> None:
        until = self.script.now + seconds
        while not self.ended and (at := self.script.session.next_wake) is not None and at <= until:
            self.see(self.script.wait(max(0.0, at - self.script.now)))
        self.script.now = until

    # -- the service

    @precondition(lambda self: not self.ended and self.live and not self.response)
    @rule()
    def begin_own_response(self) -> None:
        self.begin_response()

    @precondition(lambda self: not self.ended and self.wanted.get(self.live))
    @rule()
    def take_request(self) -> None:
        if self.response:
            self.refuse("conversation_already_has_active_response")
        else:
            self.wanted[self.live].pop(0)
            self.begin_response()

    @precondition(lambda self: not self.ended and self.wanted.get(self.live))
    @rule()
    def refuse_request(self) -> None:
        self.refuse("invalid_value")

    def refuse(self, code: str) -> None:
        event_id = self.wanted[self.live].pop(0)
        if not self.wanted[self.live]:
            self.asking.discard(self.live)
        self.see(self.script.error(code, event_id))

    def begin_response(self) -> None:
        self.asking.discard(self.live)
        self.count += 1
        self.active[self.live] = f"r{self.count}"
        self.see(self.script.response(self.response))

    @precondition(lambda self: not self.ended and self.response)
    @rule(audio=st.booleans())
    def speak_back(self, audio: bool) -> None:
        self.see(self.script.words(self.response, "One two three "))
        if audio and self.response and not self.ended:
            self.see(self.script.audio(self.response, 500))

    @precondition(lambda self: not self.ended and self.response)
    @rule()
    def finish_speaking(self) -> None:
        self.see(self.script.audio_done(self.response))

    @precondition(lambda self: not self.ended and self.response)
    @rule(status=st.sampled_from(["completed", "cancelled", "failed", "incomplete"]))
    def finish_response(self, status: str) -> None:
        response = self.active.pop(self.live)
        self.see(self.script.over(response, status))

    @precondition(lambda self: not self.ended and self.response)
    @rule(call=st.sampled_from(CALLS))
    def call_tool(self, call: tuple[str, dict[str, Any]]) -> None:
        self.count += 1
        self.see(self.script.calls(self.response, f"call_{self.count}", call[0], **call[1]))

    @precondition(lambda self: not self.ended and self.live and self.items.get(self.live))
    @rule()
    def take_in_everything(self) -> None:
        for item in sorted(self.items[self.live]):
            self.see(self.script.receive(ItemCreated(OutputItem(item))))

    # -- what takes its time

    @precondition(lambda self: not self.ended and self.running)
    @rule(data=st.data(), failed=st.booleans())
    def finish_tool(self, data: st.DataObject, failed: bool) -> None:
        call = data.draw(st.sampled_from(self.running))
        self.running.remove(call)
        self.see(self.script.tool_done(call, failed=failed))

    @precondition(lambda self: not self.ended and self.transferring)
    @rule(status=st.sampled_from([200, 486]))
    def finish_transfer(self, status: int) -> None:
        self.transferring = False
        self.see(self.script.transferred(status))

    # --

    @invariant()
    def every_call_waits_for_something(self) -> None:
        assert self.ended or self.transferring or self.script.finishing or self.script.session.next_wake is not None

    @invariant()
    def what_the_agent_has_said_was_audio(self) -> None:
        entries = self.script.session.memory.entries
        said = [entry for entry in entries if isinstance(entry, Utterance) and entry.role is Role.AGENT]
        assert all(entry.audio_ms for entry in said)
        assert len({entry.item_id for entry in said}) == len(said), "each once"

    def teardown(self) -> None:
        """Left alone by everybody, the call ends at its longest."""
        for _ in range(80):
            if self.ended:
                return
            if self.transferring:
                self.finish_transfer(408)
            elif self.script.finishing:
                self.hear_all()
            if not self.ended:
                self.wait(5.0)
        assert self.ended


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(
    max_examples=120, stateful_step_count=60, deadline=None, suppress_health_check=list(HealthCheck)
)
