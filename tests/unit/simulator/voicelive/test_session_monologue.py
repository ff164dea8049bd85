"""A model that speaks all the time and does not listen."""

import pytest

from simulator.voicelive.behaviour import Behaviour
from simulator.voicelive.scenario import Call, Scenario, saying
from tests.unit.simulator.voicelive.driving import G711, Drive, spoken, types, voice

# 2.9 and 3.1 seconds of the fake voice.
TEXTS = ("This takes about three seconds", "And this takes a little longer.")


def monologue(pace: str = "auto", scenario: Scenario | None = None) -> Drive:
    behaviour = Behaviour(scenario=scenario or saying(TEXTS), monologue=True, pace=pace)  # type: ignore[arg-type]
    return Drive(behaviour=behaviour)


def answers(drive: Drive) -> list[str]:
    return [e["transcript"] for e in drive.events if e["type"] == "response.audio_transcript.done"]


def test_it_begins_when_the_session_has_been_set_up() -> None:
    drive = monologue().start()
    assert types(drive.wait(1)) == []
    assert types(drive.send("session.update", session=G711)) == ["session.updated", "response.created"]


def test_a_refused_setup_does_not_begin_it() -> None:
    assert types(monologue().start().send("session.update", session={"voice": "nobody"})) == ["error"]


def test_a_second_setup_does_not_begin_another_answer() -> None:
    drive = monologue().start(**G711)
    assert types(drive.send("session.update", session={})) == ["session.updated"]
    drive.wait(1.5)  # the answer has been sent, but not heard yet
    assert drive.events[-1]["type"] == "response.done"
    assert types(drive.send("session.update", session={})) == ["session.updated"]


def test_answers_follow_each_other_as_the_scenario_repeats() -> None:
    drive = monologue().start(**G711)
    drive.wait(12)
    assert answers(drive)[:4] == [*TEXTS, *TEXTS]


@pytest.mark.parametrize("pace", ["azure", "openai", "instant"])
def test_a_client_that_plays_in_real_time_never_runs_empty_and_never_gets_far_ahead(pace: str) -> None:
    drive = monologue(pace).start(**G711)
    drive.wait(60)
    longest_s = max(len(spoken(text)) for text in TEXTS) / 8000
    end = 0.0
    for when, event in drive.sent:
        if event["type"] == "response.audio.delta":
            ahead_s = end - when if end else 0.0
            assert 0 <= ahead_s <= longest_s + 0.5
            end = max(end, when) + len(event["delta"]) * 3 / 4 / 8000
    assert end >= drive.now


def test_a_caller_is_counted_and_not_heard() -> None:
    drive = monologue().start(**G711)
    heard = drive.hear(voice(2000))
    assert not [event for event in heard if event["type"].startswith(("input_audio_buffer", "conversation.item.input"))]
    shown = drive.session.shown()
    assert shown["appended_audio_ms"] == 2000
    assert shown["received"]["input_audio_buffer.append"] == 100


def test_a_request_meanwhile_is_refused_as_ever() -> None:
    drive = monologue().start(**G711)
    (error,) = drive.send("response.create")
    assert error["error"]["code"] == "conversation_already_has_active_response"


def test_a_cancelled_answer_is_followed_by_the_next() -> None:
    drive = monologue().start(**G711)
    drive.wait(0.9)
    drive.send("response.cancel")
    drive.wait(3)
    assert answers(drive)[-1] == TEXTS[1]


def test_answers_without_audio_take_their_time() -> None:
    drive = monologue("instant", Scenario((Call("f"),), at_end="repeat")).start(**G711)
    drive.wait(1)
    done = [event for event in drive.events if event["type"] == "response.done"]
    assert 2 <= len(done) <= 11


def test_a_client_of_openais_kind_is_served() -> None:
    drive = monologue().start(
        modalities=["text", "audio"],
        voice="alloy",
        instructions="You are a helpful assistant.",
        input_audio_format="pcm16",
        output_audio_format="pcm16",
        turn_detection={"type": "server_vad"},
    )
    drive.wait(2)
    assert types(drive.events)[:3] == ["session.created", "session.updated", "response.created"]
    assert answers(drive) == [TEXTS[0]]
