"""The caller speaks over the model."""

from typing import Any

from tests.unit.worker.voicelive.driving import NO_ALARMS, Script, asked, marks, of, sent
from worker.voicelive import actions as do

OPENAI: dict[str, Any] = {"model": "gpt-realtime", "turn_detection": {"type": "semantic_vad"}}


def test_speech_flushes_the_playout_while_the_answer_is_still_coming() -> None:
    script = Script().begun()
    script.response("r")
    script.audio("r")
    assert do.FlushPlayout() in script.speech()


def test_speech_flushes_an_answer_whose_response_is_long_over() -> None:
    script = Script().begun()
    script.answers("r")
    assert do.FlushPlayout() in script.speech()


def test_the_model_learns_how_much_of_each_answer_was_heard() -> None:
    script = Script().begun()
    script.answers("r1", ms=1000)
    script.answers("r2", ms=1000)
    script.hear(400)
    heard = {event["item_id"]: event["audio_end_ms"] for event in sent(script.speech(), "conversation.item.truncate")}
    assert heard == {"item_r1": 400, "item_r2": 0}


def test_what_was_heard_to_its_end_is_not_truncated() -> None:
    script = Script().begun()
    script.answers("r1", ms=1000)
    script.answers("r2", ms=1000)
    script.hear(1250)
    [truncation] = sent(script.speech(), "conversation.item.truncate")
    assert (truncation["item_id"], truncation["content_index"], truncation["audio_end_ms"]) == ("item_r2", 0, 250)


def test_a_service_that_truncates_by_itself_is_told_nothing() -> None:
    script = Script(turn_detection={"auto_truncate": True}).begun()
    script.answers("r", "One two three four.", ms=1000)
    script.hear(500)
    assert sent(script.speech()) == []
    [answer, _] = script.session.memory.entries
    assert answer == script.session.memory.utterance("item_r") and answer.heard_ms == 500


def test_the_service_cancels_the_response_by_itself() -> None:
    script = Script().begun()
    script.response("r")
    script.audio("r")
    assert sent(script.speech(), "response.cancel") == []


def test_what_is_still_on_its_way_of_a_cut_off_answer_is_not_played() -> None:
    script = Script().begun()
    script.response("r")
    script.audio("r")
    script.speech()
    rest = script.audio("r") + script.audio_done("r") + script.over("r", "cancelled")
    assert of(rest, do.Play) == [] and of(rest, do.FinishAnswer) == []


def test_words_that_come_after_a_cut_do_not_become_part_of_what_was_heard() -> None:
    script = Script().begun()
    script.response("r")
    script.words("r", "One two ")
    script.audio("r", 500)
    script.hear(250)
    script.speech()
    script.all_words("r", "One two three four.")
    [answer, _] = script.session.memory.entries
    assert getattr(answer, "text", "") == "One"


def test_the_answer_after_a_barge_in_is_played_and_marked() -> None:
    script = Script().begun()
    script.response("r1")
    script.audio("r1")
    script.speech()
    script.over("r1", "cancelled")
    script.silence()
    script.response("r2")
    actions = script.audio("r2")
    assert marks(actions) == ["answer_audio"]
    assert [play.item_id for play in of(actions, do.Play)] == ["item_r2"]


def test_a_barge_in_is_noted_with_the_turn_whose_answer_it_cut_off() -> None:
    script = Script().begun()
    script.says("Hello")
    script.answers("r")
    assert "barge_in" in marks(script.speech("caller_2"))
    assert script.session.memory.turns[0].barged_in


def test_speech_into_silence_is_no_barge_in() -> None:
    script = Script().begun()
    script.conversed("r")
    assert "barge_in" not in marks(script.speech())


def test_speech_over_the_filler_alone_is_no_barge_in() -> None:
    script = Script().begun()
    script.says("Hello")
    assert of(script.wait(4.0), do.PlayFiller)
    actions = script.speech("caller_2")
    assert do.FlushPlayout() in actions
    assert marks(actions) == ["speech_started"] and sent(actions) == []


def test_a_refused_truncation_is_no_error() -> None:
    script = Script().begun()
    script.answers("r")
    [truncation] = sent(script.speech(), "conversation.item.truncate")
    script.error("invalid_value", truncation["event_id"])
    assert script.session.errors == 0


def test_a_cancellation_that_came_too_late_is_no_error() -> None:
    script = Script().begun()
    script.error("response_cancel_not_active")
    assert script.session.errors == 0


def test_what_the_closing_connection_says_too_is_no_error() -> None:
    script = Script().begun()
    script.error("session_expired")
    assert script.session.errors == 0


def test_with_interruption_off_the_answer_is_played_on() -> None:
    script = Script(turn_detection={"interrupt_response": False}).begun()
    script.response("r")
    script.audio("r")
    actions = script.speech()
    assert do.FlushPlayout() not in actions and sent(actions) == []
    assert of(script.audio("r"), do.Play)


def test_during_a_greeting_that_may_not_be_interrupted_the_caller_is_not_listened_to() -> None:
    script = Script("Hello!", interruptible=False)
    script.start()
    actions = script.open()
    assert do.Deafen() in actions
    assert of(actions, do.Listen) == []


def test_the_caller_is_listened_to_once_that_greeting_has_been_heard() -> None:
    script = Script("Hello!", interruptible=False).begun()
    assert of(script.answers("r"), do.Listen) == []
    assert script.hear_all() == [do.Listen(1)]
    assert of(script.conversed("r2"), do.Listen) == []


def test_a_key_does_not_interrupt_that_greeting() -> None:
    script = Script("Hello!", interruptible=False).begun()
    script.response("r")
    script.audio("r")
    actions = script.press("5")
    assert do.FlushPlayout() not in actions and sent(actions) == []


def test_the_caller_is_listened_to_when_that_greeting_does_not_come() -> None:
    script = Script("Hello!", interruptible=False).begun()
    assert do.Listen(1) in script.wait(4.0)


def test_a_lost_connection_does_not_make_that_greeting_interruptible() -> None:
    script = Script("Hello!", interruptible=False).begun()
    script.response("r")
    script.audio("r", 500)
    assert of(script.lose(), do.Hold) == []
    assert of(script.open(2), do.Listen) == []
    script.answers("r2")
    assert script.hear_all() == [do.Listen(2)]


def test_openais_detector_is_truncated_by_us() -> None:
    script = Script(**OPENAI, **NO_ALARMS).begun()
    script.answers("r")
    assert sent(script.speech(), "conversation.item.truncate")


def test_nothing_is_asked_for_while_the_caller_speaks() -> None:
    script = Script(limits={"max_call_s": 100, "warning_s": 60}).begun()
    script.speech()
    assert asked(script.wait(50)) == []
    script.silence()
    script.transcript("")
    assert len(asked(script.done)) == 1


def test_a_response_of_ours_that_begins_after_the_caller_has_begun_to_speak_is_cancelled_unheard() -> None:
    script = Script(**NO_ALARMS | {"silence": {"after_s": 5}}).begun()
    script.wait(5)
    script.speech()
    assert [message["type"] for message in sent(script.response("r"))] == ["response.cancel"]
    assert of(script.audio("r"), do.Play) == []
