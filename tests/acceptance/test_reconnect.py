"""The connection to Voice Live is lost in a call: the call goes on in a new session, or is brought to a decent end.

All calls are made at once, each answered by an agent with a Voice Live of its own, whose scenario goes on in the new
session; each test looks at one.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from shared.ending import CallEnd, CallResult
from simulator.phone.analysis import RATE
from tests.acceptance.agents import KEY, Seen, agent_file, by_number, resources, seen, voice_lives
from tests.acceptance.hearing import SAID, by_service, by_worker, find, heard_in_order
from tests.acceptance.pool import Pool, running_pool, until
from tests.acceptance.telephone import finish, ringing
from tests.acceptance.voice_live import VoiceLive
from tests.acceptance.web_service import WebService, serving

UNTIRING = 1000
"""As many refusals as anybody asks for."""

GREETING = "Hi."
FILLER = "One moment, please."
APOLOGY = "I am sorry, we have a technical problem."
QUESTION = "where is my order number forty seven"
STORY = "Once upon a time there was a king who had three daughters, and each of them was more clever than the other."
END = "And they lived happily ever after."
ANSWER = "Your order will be with you tomorrow."
LAST_WORDS = "Thank you for calling. It was a pleasure to talk to you. Have a nice day, and goodbye."
ASKED = {"heard": "Where is my order?"}

LOOKUP_S = 2.5
"""How long the web service takes: the connection is lost meanwhile."""

SCENARIOS: dict[str, list[dict[str, Any]]] = {
    "listening": [
        {"fault": {"kind": "abort", "on": "response.audio.delta", "nth": 3}},
        {"say": {"text": STORY, **ASKED}},
        {"expect_request": "Go on from there"},
        {"say": END},
    ],
    "owed": [
        {"fault": {"kind": "abort", "on": "response.created"}},
        {"stall": 0.2},
        {"say": {"text": ANSWER, **ASKED}},
    ],
    "speaking": [{"fault": {"kind": "abort", "on": "input_audio_buffer.speech_started", "after_s": 1.0}}],
    "unheard": [{"fault": {"kind": "abort", "on": "input_audio_buffer.speech_stopped"}}],
    "tool": [
        {"fault": {"kind": "abort", "on": "response.done", "after_s": 0.3}},
        {"call": {"name": "order_status", "arguments": {"number": 47}, **ASKED}},
        {"expect_output": {"name": "order_status", "contains": "on its way"}},
        {"say": ANSWER},
    ],
    "twice": [{"say": {"text": ANSWER, **ASKED}}] * 3,
    "leaving": [
        {"fault": {"kind": "abort", "on": "response.done"}},
        {"answer": {"say": LAST_WORDS, "calls": [{"name": "hang_up"}], **ASKED}},
    ],
    "gap": [],
    "given_up": [],
    "passed_on": [],
    "throttled": [],
    "locked_out": [],
}

ABORT = {"kind": "abort"}
ABORT_ANSWER = {"kind": "abort", "on": "response.created"}

ORDERS: dict[str, dict[str, Any]] = {
    "owed": {"next_handshake": {"status": 503, "count": 2}},
    "twice": {"sessions": [ABORT_ANSWER, {**ABORT_ANSWER, "session": "next"}]},
    "gap": {"next_handshake": {"status": 503, "count": 4}, "sessions": [ABORT]},
    "given_up": {"next_handshake": {"status": 503, "count": UNTIRING}, "sessions": [ABORT]},
    "passed_on": {"next_handshake": {"status": 503, "count": UNTIRING}, "sessions": [ABORT]},
    "throttled": {"next_handshake": {"status": 429, "retry_after": 2}, "sessions": [ABORT]},
    "locked_out": {"next_handshake": {"status": 401}, "sessions": [ABORT]},  # asked again, it would open the door
}
"""What services are to do wrong once a call's first session is open, or once they have greeted: then with ABORT."""

SILENT = ["--turns", "0", "--hold-until-bye"]
TALKING = ["--no-greeting", "--say", QUESTION]

CALLERS: dict[str, list[str]] = {
    "listening": [*TALKING, "--hold", "4"],
    "owed": [*TALKING, "--hold", "6"],
    "speaking": TALKING,
    "unheard": TALKING,
    "tool": [*TALKING, "--hold", "4"],
    "twice": [*TALKING, "--hold", "2"],
    "leaving": [*TALKING, "--hold-until-bye"],
    "gap": ["--say", QUESTION],
    "given_up": SILENT,
    "passed_on": [*SILENT, "--refer", "accept"],
    "throttled": ["--say", QUESTION],
    "locked_out": SILENT,
}


def agents(service_url: str) -> dict[str, dict[str, Any]]:
    """Returns the agents, each with the resource that bears its name."""
    status = {
        "type": "http_request",
        "name": "order_status",
        "description": "Looks up an order.",
        "url": f"{service_url}/orders",
        "parameters": {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]},
    }
    no_greeting: dict[str, Any] = {"greeting": None}
    no_filler = {"filler_after_s": 30}
    own: dict[str, dict[str, Any]] = {
        "listening": no_greeting,
        "owed": {**no_greeting, "reconnect": {"first_delay_s": 1.0}},
        "speaking": no_greeting,
        "unheard": no_greeting,
        "tool": {**no_greeting, "tools": [status]},
        "twice": no_greeting,
        "leaving": {**no_greeting, "tools": ["hang_up"]},
        "gap": {"reconnect": {**no_filler, "first_delay_s": 1.0, "max_delay_s": 1.0}},
        "given_up": {"reconnect": {"give_up_after_s": 1.5}, "fallback": {"say": APOLOGY}},
        "passed_on": {"reconnect": {"give_up_after_s": 1.5}, "fallback": {"say": APOLOGY, "transfer": "desk"}},
        "throttled": {"reconnect": no_filler},
        "locked_out": {"fallback": {"say": APOLOGY}},
    }
    common = {"silence": {"after_s": 0}, "dead_air": {"filler": FILLER}}
    return {name: {**common, **agent, "resource": name} for name, agent in own.items()}


@dataclass(frozen=True)
class Outcome:
    """What was seen of a call, and all its sessions."""

    seen: Seen
    sessions: list[dict[str, Any]]
    handshakes_failed: int

    @property
    def told(self) -> list[tuple[str, str]]:
        """What the last session knows was said: who, and the words."""
        return [(item["role"], item["text"]) for item in self.seen.items if item["type"] == "message"]

    @property
    def marks(self) -> dict[str, int]:
        """The record's marks, the last of each name."""
        return dict(self.seen.record.marks)

    def assert_went_on(self, sessions: int = 2) -> None:
        """Fails unless the call outlived its first session and ended when the caller wanted it to."""
        self.seen.assert_went_well()
        assert len(self.sessions) == sessions, self.seen.record.sessions
        assert self.seen.record.reason == CallEnd.CALLER_HANGUP

    def assert_heard_back(self) -> None:
        """Fails unless all of the caller's words came back."""
        report = {name: value for name, value in self.seen.report.items() if name != "heard"}
        assert report["correlation"] >= SAID, report


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """Returns what came of the calls of all CALLERS."""
    directory = tmp_path_factory.mktemp("reconnect")
    service = WebService({"/orders?number=47": {"status": "on its way"}}, slow={"/orders?number=47": LOOKUP_S})
    with serving(service) as url, voice_lives(directory, SCENARIOS, "--script-scope", "process") as services:
        top = {"resources": resources(services), "transfers": {"desk": "sip:desk@pbx.example"}}
        path = agent_file(directory, agents(url), **top, routes=by_number(SCENARIOS), default="gap")
        settings = {"AGENTS_FILE": str(path), "VOICE_LIVE_PROACTIVE_GREETING": GREETING, **KEY}
        with running_pool(directory, workers=1, **settings) as pool:
            return ring_all(pool, services)


def ring_all(pool: Pool, services: dict[str, VoiceLive]) -> dict[str, Outcome]:
    """Has all CALLERS call at once, and their services fail as ordered."""
    waiting = dict(ORDERS)

    def all_ordered() -> bool:
        for name, order in list(waiting.items()):
            if under_way(services[name], greeted=ABORT in order.get("sessions", ())):
                services[name].order_faults(**waiting.pop(name))
        return not waiting

    def has_session(name: str) -> bool:
        all_ordered()  # for those that have begun
        return bool(services[name].sessions())

    with ExitStack() as stack:
        phones = {}
        for name, options in CALLERS.items():
            phones[name] = stack.enter_context(ringing(pool, *options, called=name))
            # One after the other: a dozen telephones that start in the same moment leave the pool no processor.
            until(partial(has_session, name), 30.0, pool.tails)
        until(all_ordered, 30.0, lambda: f"no session: {sorted(waiting)}\n{pool.tails()}")
        calls = {name: finish(phone, pool)[0] for name, phone in phones.items()}
    found = {}
    for name, call in calls.items():
        side = seen(pool, call, services)
        sessions = [services[name].session(session_id) for session_id in side.record.sessions]
        found[name] = Outcome(side, sessions, len(services[name].process.events("handshake fault")))
    return found


def under_way(service: VoiceLive, *, greeted: bool) -> bool:
    """Returns whether a session is open and, if that is asked for, its greeting is on its way to the caller."""
    return any(
        not greeted or "response_done" in [mark["kind"] for mark in session["marks"]]
        for session in service.sessions(running=True)
    )


def test_an_answer_that_breaks_off_is_gone_on_with(outcomes: dict[str, Outcome]) -> None:
    call = outcomes["listening"]
    call.assert_went_on()
    (_, asked), (_, begun), (_, ended) = call.told
    assert [role for role, _ in call.told] == ["user", "assistant", "assistant"]
    assert (asked, ended) == ("Where is my order?", END)
    assert begun
    assert STORY.startswith(begun)
    assert begun != STORY, "the model is told what was heard, not what would have been"
    heard = call.seen.phone.tracks()[1]
    end = find(by_service(END), heard)
    assert end.resemblance >= SAID
    first_words = find(by_service(STORY)[: 2 * RATE * 4 // 5], heard[: end.start])
    assert first_words.resemblance >= SAID


def test_an_answer_that_is_owed_is_asked_for_again_and_a_filler_bridges_the_wait(outcomes: dict[str, Outcome]) -> None:
    call = outcomes["owed"]
    call.assert_went_on()
    assert call.told == [("user", "Where is my order?"), ("assistant", ANSWER)]
    assert call.handshakes_failed == 2
    heard_in_order(call.seen.phone, by_worker(FILLER), by_service(ANSWER))


def test_a_caller_who_is_speaking_is_heard_from_the_first_word(outcomes: dict[str, Outcome]) -> None:
    call = outcomes["speaking"]
    call.assert_went_on()
    call.assert_heard_back()


def test_what_the_model_had_not_taken_in_is_said_to_it_again(outcomes: dict[str, Outcome]) -> None:
    call = outcomes["unheard"]
    call.assert_went_on()
    call.assert_heard_back()
    record = call.seen.record
    assert [said.role for said in record.transcript] == ["caller", "agent"], "heard once, and answered once"
    assert len(record.turns) == 1
    assert record.turns[0].latency_ms is not None


def test_the_result_of_a_running_tool_reaches_the_new_session(outcomes: dict[str, Outcome]) -> None:
    call = outcomes["tool"]
    call.assert_went_on()
    assert [item["type"] for item in call.seen.items] == ["message", "function_call", "function_call_output", "message"]
    [output] = call.seen.outputs["order_status"]
    assert "on its way" in output
    [tool] = call.seen.record.tools
    assert (tool.name, tool.failed) == ("order_status", False)
    assert call.marks["connection_lost"] < call.marks["session_resumed"]
    heard_in_order(call.seen.phone, by_service(ANSWER))


def test_a_new_session_that_is_lost_as_well_is_replaced(outcomes: dict[str, Outcome]) -> None:
    call = outcomes["twice"]
    call.assert_went_on(sessions=3)
    assert call.told == [("user", "Where is my order?"), ("assistant", ANSWER)]
    heard_in_order(call.seen.phone, by_service(ANSWER))


def test_a_goodbye_is_heard_to_its_end_and_the_call_ended(outcomes: dict[str, Outcome]) -> None:
    call = outcomes["leaving"]
    call.seen.assert_went_well(ended_by="pool")
    assert (call.seen.record.result, call.seen.record.reason) == (CallResult.COMPLETED, CallEnd.AGENT_HANGUP)
    assert "connection_lost" in call.marks
    heard_in_order(call.seen.phone, by_service(LAST_WORDS))


@pytest.mark.parametrize("name", ["gap", "throttled"])
def test_what_is_said_while_there_is_no_session_is_answered(outcomes: dict[str, Outcome], name: str) -> None:
    call = outcomes[name]
    call.assert_went_on()
    assert call.marks["session_resumed"] > call.seen.phone.marks["speech_start"], "the test itself: there was no gap"
    call.assert_heard_back()
    assert call.told[0] == ("assistant", GREETING)
    assert call.handshakes_failed == ORDERS[name]["next_handshake"].get("count", 1)


def test_a_new_session_is_not_asked_for_before_the_service_wants_it(outcomes: dict[str, Outcome]) -> None:
    marks = outcomes["throttled"].marks
    assert (
        marks["session_resumed"] - marks["connection_lost"]
        >= 1000 * ORDERS["throttled"]["next_handshake"]["retry_after"]
    )


def test_a_caller_whose_session_does_not_come_back_hears_an_apology(outcomes: dict[str, Outcome]) -> None:
    call = outcomes["given_up"]
    assert call.seen.report["ended_by"] == "pool"
    assert (call.seen.record.result, call.seen.record.reason) == (CallResult.FAILED, CallEnd.SESSION_LOST)
    assert call.handshakes_failed > 1
    assert call.marks["gave_up"] - call.marks["connection_lost"] >= 1500
    heard_in_order(call.seen.phone, by_service(GREETING), by_worker(APOLOGY))


def test_a_caller_whose_session_does_not_come_back_is_passed_on(outcomes: dict[str, Outcome]) -> None:
    call = outcomes["passed_on"]
    assert call.seen.report["refer_target"] == "sip:desk@pbx.example"
    assert (call.seen.record.reason, call.seen.record.transfer) == (CallEnd.TRANSFERRED, "desk")
    heard_in_order(call.seen.phone, by_worker(APOLOGY))


def test_a_refusal_that_stays_the_same_ends_the_call_at_once(outcomes: dict[str, Outcome]) -> None:
    call = outcomes["locked_out"]
    assert call.handshakes_failed == 1
    assert call.seen.record.reason == CallEnd.SESSION_LOST
    heard_in_order(call.seen.phone, by_service(GREETING), by_worker(APOLOGY))
