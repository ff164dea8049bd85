"""Who answers: calls are routed to agents with words, voice and manners of their own; the file may change meanwhile.

Most calls are made at once; each test looks at one of them.
"""

import wave
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.clock import now_ms
from simulator.phone.analysis import RATE
from simulator.phone.speech import say
from tests.acceptance.agents import Seen, agent_file, by_number, ring_each, seen
from tests.acceptance.pool import Pool, running_pool
from tests.acceptance.process import START_S, PoolProcess
from tests.acceptance.telephone import OWN_WORDS, finish, ringing

LONG_GREETING = (
    "Welcome to the voice pool. This call may be recorded for the training of our staff. "
    "Please have your customer number at hand, and listen to all of this before you speak."
)

LONG = "one two three four five six seven eight nine ten eleven twelve"

TALKS_AFTER_S = 2.0
"""How far into the greeting callers talk over it."""

COUGHS = {"type": "azure_semantic_vad", "speech_duration_ms": 300}

AGENTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "number": {
        "instructions": "Customer {{ headers['X-Customer'] }} at {{ caller.number }} has called {{ called.number }}.",
        "greeting": "Hello, customer {{ headers['X-Customer'] }}.",
        "model": "gpt-realtime",
        "voice": "marin",
        "turn_detection": {"type": "semantic_vad", "eagerness": "high"},
    },
    "header": {
        "greeting": "Welcome, golden customer.",
        "voice": {"type": "azure-standard", "name": "en-GB-SoniaNeural", "rate": "1.2"},
        "turn_detection": {"type": "server_vad", "threshold": 0.6, "silence_duration_ms": 400},
    },
    "elsewhere": {"greeting": "You come from elsewhere."},
    "trunk": {"greeting": "You come from here."},
    "cough": {"turn_detection": COUGHS},
    "patient": {"greeting": {"text": LONG_GREETING, "interruptible": True}},
    "stubborn": {"greeting": {"text": LONG_GREETING, "interruptible": False}},
    "changing": {"greeting": "I am the old agent.", "dtmf": {"menu": {"1": {"say": "I am still the old agent."}}}},
}

ROUTES: list[dict[str, Any]] = [
    {"called": "100", "trunk": "10.0.0.0/8", "agent": "elsewhere"},
    {"called": "100", "trunk": ["192.0.2.0/24", "127.0.0.0/8"], "agent": "trunk"},
    {"called": ["2??", "+49*"], "agent": "number"},
    {"header": {"X-Tier": "gold*"}, "agent": "header"},
    *by_number(dict.fromkeys(["cough", "patient", "stubborn", "changing"])),
]

GREETED = ["--turns", "0"]

CALLERS: dict[str, tuple[str, list[str]]] = {
    "plain": ("999", GREETED),
    "number": ("+4930100", [*GREETED, "--from-user", "+49151555", "--header", "X-Customer: 4711"]),
    "header": ("999", [*GREETED, "--header", "x-tier: golden"]),
    "trunk": ("100", [*GREETED, "--header", "X-Tier: gold"]),
    "cough": ("cough", ["--say", LONG, "--cough", "100"]),
    "clearing the throat": ("cough", ["--say", LONG, "--cough", "900"]),
}

SETTINGS = {
    "VOICE_LIVE_INSTRUCTIONS": "You are what the settings say.",
    "VOICE_LIVE_VOICE": "en-US-EmmaNeural",
    "VOICE_LIVE_PROACTIVE_GREETING": "Hello from the settings.",
    "AGENTS_RELOAD_S": "0.2",
}


@dataclass(frozen=True)
class Setup:
    """A pool with an agent file, and where that is."""

    pool: Pool
    directory: Path

    def write(self, agents: dict[str, dict[str, Any]], **top: Any) -> str:
        """Writes the agent file."""
        return str(agent_file(self.directory, agents, **{"routes": ROUTES, "default": "plain", **top}))


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setup]:
    directory = tmp_path_factory.mktemp("agents")
    path = agent_file(directory, AGENTS, routes=ROUTES, default="plain")
    with running_pool(directory, workers=1, simulator=["--reveal"], AGENTS_FILE=str(path), **SETTINGS) as pool:
        yield Setup(pool, directory)


@pytest.fixture(scope="module")
def calls(setup: Setup) -> dict[str, Seen]:
    """Returns what was seen of the calls of all CALLERS, and of two that talk over the greeting."""
    late = late_words(setup.directory / "late.wav")
    talk_over = ["--no-greeting", "--wav", str(late)]
    return ring_each(setup.pool, {**CALLERS, "patient": ("patient", talk_over), "stubborn": ("stubborn", talk_over)})


def late_words(path: Path) -> Path:
    """Writes a recording of a click, as no detector minds, a pause of TALKS_AFTER_S, and words."""
    click = np.full(RATE // 100, 8000, dtype=np.int16)
    pause = np.zeros(int(TALKS_AFTER_S * RATE), dtype=np.int16)
    with wave.open(str(path), "wb") as wav:
        wav.setparams((1, 2, RATE, 0, "NONE", ""))
        wav.writeframes(np.concatenate([click, pause, say("excuse me but I know all of that already")]).tobytes())
    return path


def assert_has(shown: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Fails unless all of `wanted` is in what the service shows, which names every field there is."""
    assert {name: shown[name] for name in wanted} == wanted


def test_the_settings_hold_for_what_an_agent_does_not_say(calls: dict[str, Seen]) -> None:
    call = calls["plain"]
    call.assert_went_well()
    assert call.record.agent == "plain"
    assert call.record.model == "gpt-4.1-mini"
    assert call.session["model"].startswith("gpt-4.1-mini")
    assert call.session["instructions"] == "You are what the settings say."
    assert call.session["said"] == ["Hello from the settings."]
    assert_has(call.session["session"]["voice"], {"type": "azure-standard", "name": "en-US-EmmaNeural"})
    assert call.session["session"]["turn_detection"]["type"] == "azure_semantic_vad"


def test_the_called_number_chooses_the_agent_and_its_words_know_the_call(calls: dict[str, Seen]) -> None:
    call = calls["number"]
    call.assert_went_well()
    assert call.record.agent == "number"
    assert (call.record.caller, call.record.called) == ("+49151555", "+4930100")
    assert call.session["instructions"] == "Customer 4711 at +49151555 has called +4930100."
    assert call.session["said"] == ["Hello, customer 4711."]
    assert call.session["model"].startswith("gpt-realtime")
    assert_has(call.session["session"]["voice"], {"type": "openai", "name": "marin"})
    assert_has(call.session["session"]["turn_detection"], AGENTS["number"]["turn_detection"])


def test_a_header_chooses_the_agent(calls: dict[str, Seen]) -> None:
    call = calls["header"]
    call.assert_went_well()
    assert call.record.agent == "header"
    assert call.session["said"] == ["Welcome, golden customer."]
    assert_has(call.session["session"]["voice"], AGENTS["header"]["voice"])
    assert_has(call.session["session"]["turn_detection"], AGENTS["header"]["turn_detection"])


def test_the_trunk_chooses_the_agent_and_the_first_route_that_fits_counts(calls: dict[str, Seen]) -> None:
    call = calls["trunk"]
    call.assert_went_well()
    assert call.record.agent == "trunk"
    assert call.session["said"] == ["You come from here."]


def test_a_cough_does_not_cut_an_answer_off(calls: dict[str, Seen]) -> None:
    call = calls["cough"]
    call.assert_went_well()
    (turn,) = call.report["turns"]
    assert turn["answer_first_packet"] < call.phone.marks["cough"] < turn["answer_end"]
    assert turn["correlation"] >= OWN_WORDS
    assert turn["answer_end"] - turn["answer_first_packet"] > turn["speech_end"] - turn["speech_start"] - 400
    assert "barge_in" not in dict(call.record.marks)
    assert [said.heard_ms for said in call.record.transcript if said.role == "agent"] == [None, None]


def test_a_longer_noise_does(calls: dict[str, Seen]) -> None:
    call = calls["clearing the throat"]
    assert "barge_in" in dict(call.record.marks)
    answer = [said for said in call.record.transcript if said.role == "agent"][1]
    assert answer.heard_ms is not None
    assert answer.heard_ms < answer.audio_ms - 1000


def test_a_greeting_that_is_not_interruptible_is_heard_to_its_end(calls: dict[str, Seen]) -> None:
    call = calls["stubborn"]
    call.assert_went_well()
    greeting = call.record.transcript[0]
    assert greeting.audio_ms > 1000 * TALKS_AFTER_S + 3000, "the test itself: it has to be longer than the caller talks"
    assert (greeting.text, greeting.heard_ms) == (LONG_GREETING, None)
    assert call.heard_ms[0] > greeting.audio_ms - 400
    assert "speech_started" not in dict(call.record.marks), "nobody listens until it is over"


def test_a_greeting_can_be_talked_over(calls: dict[str, Seen]) -> None:
    call = calls["patient"]
    call.assert_went_well()
    greeting = call.record.transcript[0]
    assert greeting.heard_ms is not None
    assert 1000 * TALKS_AFTER_S - 1000 < greeting.heard_ms < 1000 * TALKS_AFTER_S + 1500
    assert abs(call.heard_ms[0] - greeting.heard_ms) < 300
    assert LONG_GREETING.startswith(greeting.text)
    [truncated] = [mark["audio_ms"] for mark in call.session["marks"] if mark["kind"] == "truncated"]
    assert truncated == greeting.heard_ms
    assert call.record.transcript[-1].role == "agent", "and the caller is answered"


def test_a_changed_file_is_for_the_next_call_and_a_bad_one_for_none(setup: Setup) -> None:
    pool, log = setup.pool, setup.pool.supervisor
    new = {"greeting": "I am the new agent.", "dtmf": {"menu": {"1": {"say": "And I stay the new agent."}}}}
    with ringing(pool, "--turns", "0", "--dtmf", "1", "--dtmf-after", "5", "--hold", "7", called="changing") as phone:
        log.wait_for("call.agent", where=lambda event: event["agent"] == "changing", timeout_s=START_S)
        setup.write({**AGENTS, "changing": new})
        log.wait_for("agents.reloaded")
        changed_at = now_ms()
        during = seen(pool, finish(phone, pool)[0], {})
    during.assert_went_well()
    assert changed_at < during.phone.marks["keys"], "the test itself: the file has to change before the key is pressed"
    assert during.session["said"] == ["I am the old agent.", "I am still the old agent."]

    next_call = ring_each(pool, {"next": ("changing", ["--dtmf", "1"])})["next"]
    assert next_call.session["said"] == ["I am the new agent.", "And I stay the new agent."]

    good = {**AGENTS, "changing": {"greeting": "This is never heard."}}
    setup.write({**good, "plain": {"voice": {"rate": "9"}}}, default="nobody")
    (refused,) = log.wait_for("agents.refused")
    assert refused["level"] == "error"
    problems = "\n".join(refused["problems"])
    assert "agents.yaml: agents.plain.voice.rate: " in problems
    assert "agents.yaml: agents.plain.voice.name: " in problems
    assert "agents.yaml: default: nobody is not one of agents" in problems
    last = ring_each(pool, {"last": ("changing", ["--dtmf", "1"])})["last"]
    assert last.session["said"] == ["I am the new agent.", "And I stay the new agent."]


def test_a_worker_with_agents_that_cannot_be_does_not_start_and_says_why(setup: Setup, tmp_path: Path) -> None:
    foundry = {"foundry_agent": {"name": "helper", "project": "ours"}}
    bad: dict[str, tuple[dict[str, dict[str, Any]], list[str]]] = {
        "bad": (
            {"one": {"temperature": 9, "dtmf": {"menu": {"1": {"transfer": "desk"}}}}},
            ["agents.one.temperature: ", "agents.one.dtmf.menu.1.transfer: desk is not one of transfers"],
        ),
        "foundry": ({"two": foundry}, ["agents.two.foundry_agent: needs Microsoft Entra"]),
        "python": ({"three": {"tools": [{"type": "python", "name": "nothing"}]}}, ["agents.three.tools.nothing."]),
    }
    started = {}
    for name, (agents, _) in bad.items():
        (tmp_path / name).mkdir()
        path = agent_file(tmp_path / name, agents)
        settings = setup.pool.worker_settings() | {"AGENTS_FILE": str(path), "WORKER_PROCESSES": "1", "POD_NAME": name}
        started[name] = PoolProcess(name, ["worker"], settings, tmp_path)
    for name, process in started.items():
        with closing(process):
            assert process.wait(START_S) != 0
            (said,) = process.events("worker.cannot_start")
            for problem in bad[name][1]:
                assert any(problem in line for line in said["problems"]), said
