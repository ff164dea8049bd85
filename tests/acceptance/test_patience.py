"""Silence, the longest call, and answers that do not come: what the caller hears, and how the call ends.

All calls are made at once, each answered by an agent with a Voice Live of its own; each test looks at one.
"""

from typing import Any

import pytest

from shared.ending import CallEnd, CallResult
from simulator.phone.analysis import RATE, frame_rms
from tests.acceptance.agents import KEY, Seen, agent_file, by_number, resources, ring_each, voice_lives
from tests.acceptance.hearing import by_service, by_worker, heard_in_order
from tests.acceptance.pool import running_pool

GREETING = "Hello there."
PROMPT = "Are you still with me?"
SILENT_GOODBYE = "I cannot hear anything, so I will hang up. Goodbye."
WARNING = "There is little time left."
LATE_GOODBYE = "Our time is over now, so I have to hang up. Goodbye."
FILLER = "One moment, please."
ANSWER = "I have found what you were looking for."

SILENCE_S = 1.5
SILENCE = {"after_s": SILENCE_S, "prompt": PROMPT, "prompts": 1, "goodbye": SILENT_GOODBYE}
NEVER_SILENT = {"after_s": 0}

FILLER_AFTER_S = 1.0

AUDIBLE_RMS = 50.0
"""Far above the idle noise of G.711, and below the softest filler (int16 units)."""

ASKED = ["--say", "can you find something for me", "--hold", "4"]

AGENTS: dict[str, dict[str, Any]] = {
    "silent": {"silence": SILENCE},
    "returning": {"greeting": None, "silence": SILENCE},
    "long": {
        "silence": NEVER_SILENT,
        "limits": {"max_call_s": 8, "warning_s": 4, "warning": WARNING, "goodbye": LATE_GOODBYE},
    },
    "slow": {"silence": NEVER_SILENT, "dead_air": {"after_s": FILLER_AFTER_S, "filler": FILLER}},
    "stuck": {"silence": NEVER_SILENT, "dead_air": {"after_s": FILLER_AFTER_S, "filler": "soft"}},
}

SCENARIOS: dict[str, list[dict[str, Any]]] = {
    "silent": [],
    "returning": [],
    "long": [],
    "slow": [{"stall": 2.6}, {"say": ANSWER}],
    "stuck": [{"stall": None}, {"say": ANSWER}],
}

CALLERS: dict[str, tuple[str, list[str]]] = {
    "silent": ("silent", ["--turns", "0", "--hold-until-bye"]),
    # Waits for a greeting, and what it hears instead is being asked whether it is still there.
    "returning": ("returning", ["--say", "yes I am still here", "--hold-until-bye"]),
    "long": ("long", ["--turns", "0", "--hold-until-bye"]),
    "slow": ("slow", ASKED),
    "stuck": ("stuck", ASKED),
}


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Seen]:
    """Returns what was seen of the calls of all CALLERS."""
    directory = tmp_path_factory.mktemp("patience")
    with voice_lives(directory, SCENARIOS, "--script-scope", "process") as services:
        agents = {name: {**agent, "resource": name} for name, agent in AGENTS.items()}
        top = {"resources": resources(services), "routes": by_number(AGENTS), "default": "silent"}
        path = agent_file(directory, agents, **top)
        settings = {"AGENTS_FILE": str(path), "VOICE_LIVE_PROACTIVE_GREETING": GREETING, **KEY}
        with running_pool(directory, workers=1, **settings) as pool:
            return ring_each(pool, CALLERS, services)


def test_a_silent_caller_is_asked_and_then_let_go(calls: dict[str, Seen]) -> None:
    call = calls["silent"]
    call.assert_went_well(ended_by="pool")
    assert (call.record.result, call.record.reason) == (CallResult.COMPLETED, CallEnd.CALLER_SILENT)
    greeting, prompt, goodbye = heard_in_order(call.phone, *map(by_service, (GREETING, PROMPT, SILENT_GOODBYE)))
    silence = int(SILENCE_S * RATE)
    assert prompt.start - greeting.end >= silence - RATE // 2, "the silence around a text belongs to its audio"
    assert goodbye.start - prompt.end >= silence - RATE // 2


def test_a_caller_who_speaks_again_is_asked_again(calls: dict[str, Seen]) -> None:
    call = calls["returning"]
    call.assert_went_well(ended_by="pool")
    assert call.record.reason == CallEnd.CALLER_SILENT
    agent = [said.text for said in call.record.transcript if said.role == "agent"]
    assert [text for text in agent if text in (PROMPT, SILENT_GOODBYE)] == [PROMPT, PROMPT, SILENT_GOODBYE]
    assert call.report["correlation"] >= 0.9, "the caller's own words come back between the two"
    heard_in_order(call.phone, by_service(SILENT_GOODBYE))


def test_a_call_at_its_longest_is_warned_of_and_ended(calls: dict[str, Seen]) -> None:
    call = calls["long"]
    call.assert_went_well(ended_by="pool")
    assert (call.record.result, call.record.reason) == (CallResult.COMPLETED, CallEnd.LENGTH_LIMIT)
    heard_in_order(call.phone, *map(by_service, (GREETING, WARNING, LATE_GOODBYE)))
    assert call.record.ended_at_ms - (call.record.answered_at_ms or 0) >= 8000


def test_a_caller_who_waits_hears_a_filler_and_then_the_answer(calls: dict[str, Seen]) -> None:
    call = calls["slow"]
    call.assert_went_well()
    filler, answer = heard_in_order(call.phone, by_worker(FILLER), by_service(ANSWER))
    asked = call.phone.sample(call.report["turns"][0]["speech_end"])
    assert filler.start >= asked + FILLER_AFTER_S * RATE - RATE // 10
    assert answer.start >= filler.start
    assert len(call.record.sessions) == 1


def test_an_answer_that_never_comes_is_asked_for_on_another_connection(calls: dict[str, Seen]) -> None:
    call = calls["stuck"]
    call.assert_went_well()
    marks = [name for name, _ in call.record.marks]
    assert marks.index("stuck") < marks.index("connection_lost") < marks.index("session_resumed")
    assert len(call.record.sessions) == 2
    [answer] = heard_in_order(call.phone, by_service(ANSWER))
    asked = call.phone.sample(call.report["turns"][0]["speech_end"])
    waited = frame_rms(call.phone.tracks()[1][asked + int(FILLER_AFTER_S * RATE) : answer.start])
    assert waited.max() >= AUDIBLE_RMS, "no filler was heard"
