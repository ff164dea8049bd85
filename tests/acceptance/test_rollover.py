"""The service ends a session after its longest time: the next one has taken over before that, and nobody notices."""

from typing import Any

import pytest

from shared.ending import CallEnd
from simulator.phone.analysis import speech_segments
from tests.acceptance.agents import KEY, Seen, agent_file, by_number, resources, ring_each, voice_lives
from tests.acceptance.hearing import SAID, by_service, heard_in_order
from tests.acceptance.pool import running_pool
from tests.acceptance.voice_live import VoiceLive

MAX_SESSION_S = 8
GREETING = "Hello there."

TURNS = [
    ("what is the capital of France", "What is the capital of France?", "The capital of France is the city of Paris."),
    ("and how many people live there", "And how many people live there?", "Two million people have their homes there."),
    ("which river goes through it", "Which river goes through it?", "A river with the name of Seine does."),
    ("thank you that was all", "Thank you, that was all.", "You are welcome, and enjoy your journey."),
]
"""What the caller says, what the service makes of it, and the answer."""

LECTURE = (
    "The history of the city begins more than two thousand years ago, when fishermen came to live on an island in the "
    "river. The Romans built a town on its left bank, with baths, a theatre and a forum, of which some can be seen "
    "until today. In the middle ages it became the seat of kings, and its university was known all over Europe."
)
"""Takes longer than a session lives."""

STORY = (
    "well it is a long story and it began when my brother came home from the market last week with three baskets of "
    "apples and two small dogs that he had found in the street and nobody knew where they belonged"
)
"""Takes so long to say that a session ends meanwhile."""

MORE = "tell me more about this city"
STOP = "please stop now"
STOPPED = "All right."

HEARD_S = 4
"""How much of the lecture is heard before it is interrupted: another session is live by then."""

Sessions = list[dict[str, Any]]

SCENARIOS: dict[str, list[dict[str, Any]]] = {
    "turns": [{"say": {"text": answer, "heard": heard}} for _, heard, answer in TURNS],
    "lecture": [{"say": {"text": LECTURE, "heard": "Tell me more."}}],
    "interrupted": [{"say": {"text": LECTURE, "heard": "Tell me more."}}, {"say": {"text": STOPPED, "heard": "Stop."}}],
    "story": [],
}

CALLERS: dict[str, tuple[str, list[str]]] = {
    "turns": ("turns", [option for said, _, _ in TURNS for option in ("--say", said)]),
    "lecture": ("lecture", ["--say", MORE]),
    "interrupted": ("interrupted", ["--say", MORE, "--say", STOP, "--talk-over-after", str(HEARD_S)]),
    "story": ("story", ["--say", STORY]),
}


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Seen, Sessions]]:
    """Returns what was seen of the calls of all CALLERS, and their sessions."""
    directory = tmp_path_factory.mktemp("rollover")
    # Answers arrive at once. One that is still arriving at the end of its session is cut there, and the next session is
    # asked to go on from what was heard; a scenario cannot, and would say all of it again. Sessions as short as these
    # are left a fifth of a second before their end in any case, which is sooner than a long answer takes to arrive.
    options = ("--script-scope", "process", "--max-session", str(MAX_SESSION_S), "--pace", "instant")
    with voice_lives(directory, SCENARIOS, *options) as services:
        agents = {name: {"resource": name, "silence": {"after_s": 0}} for name in SCENARIOS}
        routes = by_number(SCENARIOS)
        path = agent_file(directory, agents, resources=resources(services), routes=routes, default="turns")
        settings = {"AGENTS_FILE": str(path), "VOICE_LIVE_PROACTIVE_GREETING": GREETING, **KEY}
        with running_pool(directory, workers=1, **settings) as pool:
            seen = ring_each(pool, CALLERS, services)
            return {name: (call, sessions_of(call, services[name])) for name, call in seen.items()}


def sessions_of(call: Seen, service: VoiceLive) -> Sessions:
    """Returns the sessions that the record names, in its order."""
    return [service.session(session_id) for session_id in call.record.sessions]


def told(session: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns what a session knows was said: who, and the words."""
    return [(item["role"], item["text"]) for item in session["items"] if item["type"] == "message"]


def test_a_call_longer_than_a_session_is_heard_without_a_break(
    calls: dict[str, tuple[Seen, Sessions]],
) -> None:
    call, sessions = calls["turns"]
    call.assert_went_well()
    assert call.record.reason == CallEnd.CALLER_HANGUP
    assert len(sessions) >= 3
    assert call.record.session_id == call.record.sessions[0]
    assert "connection_lost" not in dict(call.record.marks), "every session was left before it ended"
    heard_in_order(call.phone, *map(by_service, [GREETING, *(answer for _, _, answer in TURNS)]))
    assert len(speech_segments(call.phone.tracks()[1])) == 1 + len(TURNS), "nothing else was heard"


def test_each_session_knows_what_was_said_in_those_before(
    calls: dict[str, tuple[Seen, Sessions]],
) -> None:
    _, sessions = calls["turns"]
    conversation = [("assistant", GREETING)]
    for _, heard, answer in TURNS:
        conversation += [("user", heard), ("assistant", answer)]
    known = [told(session) for session in sessions]
    assert known[-1] == conversation
    for each in known:
        assert each == conversation[: len(each)]
    assert [len(each) for each in known] == sorted(len(each) for each in known)


def test_each_turn_is_answered_in_one_session_only(calls: dict[str, tuple[Seen, Sessions]]) -> None:
    _, sessions = calls["turns"]
    said = [text for session in sessions for text in session["said"]]
    assert said == [GREETING, *(answer for _, _, answer in TURNS)]
    assert sum(session["sent"].get("error", 0) for session in sessions) == 0


def test_an_answer_longer_than_a_session_is_heard_whole(calls: dict[str, tuple[Seen, Sessions]]) -> None:
    call, sessions = calls["lecture"]
    call.assert_went_well()
    assert len(sessions) >= 2
    assert [text for session in sessions for text in session["said"]] == [GREETING, LECTURE]
    heard_in_order(call.phone, by_service(GREETING), by_service(LECTURE))


def test_an_answer_from_an_earlier_session_is_cut_where_the_caller_interrupts_it(
    calls: dict[str, tuple[Seen, Sessions]],
) -> None:
    call, sessions = calls["interrupted"]
    call.assert_went_well()
    assert len(sessions) >= 2
    [cut] = [said for said in call.record.transcript if said.heard_ms is not None]
    assert abs((cut.heard_ms or 0) - 1000 * HEARD_S) < 1500
    assert cut.text
    assert LECTURE.startswith(cut.text)
    assert cut.text != LECTURE
    known = told(sessions[-1])
    assert known == [
        ("assistant", GREETING),
        ("user", "Tell me more."),
        ("assistant", cut.text),
        ("user", "Stop."),
        ("assistant", STOPPED),
    ]
    heard_in_order(call.phone, by_service(STOPPED))


def test_a_caller_who_speaks_for_longer_than_a_session_lives_is_heard(
    calls: dict[str, tuple[Seen, Sessions]],
) -> None:
    call, sessions = calls["story"]
    call.assert_went_well()
    assert len(sessions) >= 2
    assert call.report["correlation"] >= SAID
    assert [said.role for said in call.record.transcript] == ["agent", "caller", "agent"], "heard and answered once"
    assert len(call.record.turns) == 1
    marks = [name for name, _ in call.record.marks]
    assert "session_resumed" in marks[: marks.index("speech_stopped")], "the test itself: no session ended meanwhile"
