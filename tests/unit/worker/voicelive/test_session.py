"""The conversation's rules, one script of events and actions per case."""

from dataclasses import replace

from worker.voicelive import events
from worker.voicelive.session import (
    FinishAnswer,
    FlushPlayout,
    Mark,
    Play,
    Ready,
    Refused,
    Send,
    Session,
    SessionOptions,
    UpdateSession,
    greeting_request,
    session_update,
)

OPTIONS = SessionOptions(
    voice="en-US-AvaNeural", instructions="Be brief.", audio_format="g711_ulaw", audio_rate=8000, greeting="Hello!"
)
SILENT = SessionOptions(voice="alloy", instructions="", audio_format="pcm16", audio_rate=24000)

CREATED = events.SessionCreated(events.SessionInfo("sess_1"))
UPDATED = events.SessionUpdated(events.SessionInfo("sess_1"))
SPEECH = events.SpeechStarted(item_id="item_1", audio_start_ms=100)
SILENCE = events.SpeechStopped(item_id="item_1", audio_end_ms=900)


def response(name: str) -> events.ResponseCreated:
    return events.ResponseCreated(events.ResponseInfo(name))


def audio(name: str, data: bytes = b"\x01\x02") -> events.AudioDelta:
    return events.AudioDelta(response_id=name, item_id="item_2", delta=data)


def audio_done(name: str) -> events.AudioDone:
    return events.AudioDone(response_id=name, item_id="item_2")


def done(name: str, status: str = "completed") -> events.ResponseDone:
    return events.ResponseDone(events.ResponseInfo(name, status))


def error(code: str) -> events.Error:
    return events.Error(events.ErrorInfo("invalid_request_error", code, "session.voice"))


def ready_session(options: SessionOptions = SILENT) -> Session:
    session = Session(options)
    session.receive(CREATED)
    session.receive(UPDATED)
    return session


def test_a_new_session_is_updated_with_everything_at_once() -> None:
    assert Session(OPTIONS).receive(CREATED) == [Mark("connected"), UpdateSession(session_update(OPTIONS))]


def test_the_update_names_format_voice_and_turn_detection() -> None:
    update = session_update(OPTIONS)
    assert update["input_audio_format"] == update["output_audio_format"] == "g711_ulaw"
    assert update["input_audio_sampling_rate"] == 8000
    assert update["voice"] == {"type": "azure-standard", "name": "en-US-AvaNeural"}
    assert update["turn_detection"]["interrupt_response"] is True
    assert "max_response_output_tokens" not in update


def test_an_openai_voice_is_recognised_by_its_one_word_name() -> None:
    assert session_update(SILENT)["voice"] == {"type": "openai", "name": "alloy"}


def test_a_token_limit_is_sent_when_there_is_one() -> None:
    options = SessionOptions(
        voice="alloy", instructions="", audio_format="pcm16", audio_rate=24000, max_output_tokens=9
    )
    assert session_update(options)["max_response_output_tokens"] == 9


def test_an_accepted_update_makes_the_session_ready_and_asks_for_the_greeting() -> None:
    session = Session(OPTIONS)
    session.receive(CREATED)
    assert session.receive(UPDATED) == [Mark("session_ready"), Ready("sess_1"), Send(greeting_request("Hello!"))]


def test_without_a_greeting_the_session_is_just_ready() -> None:
    session = Session(SILENT)
    session.receive(CREATED)
    assert session.receive(UPDATED) == [Mark("session_ready"), Ready("sess_1")]


def test_a_second_session_updated_changes_nothing() -> None:
    assert ready_session(OPTIONS).receive(UPDATED) == []


def test_a_refused_update_ends_the_session_with_what_was_wrong() -> None:
    session = Session(OPTIONS)
    session.receive(CREATED)
    assert session.receive(error("invalid_voice")) == [Refused("invalid_voice", "session.voice")]


def test_an_error_in_conversation_is_counted() -> None:
    session = ready_session()
    assert session.receive(error("server_error")) == []
    assert session.errors == 1


def test_a_cancellation_that_came_too_late_is_no_error() -> None:
    session = ready_session()
    assert session.receive(error("response_cancel_not_active")) == []
    assert session.errors == 0


def test_the_model_is_told_how_much_of_an_answer_was_heard() -> None:
    [sent] = ready_session().cut_off("item_2", 1234)
    assert isinstance(sent, Send)
    assert {
        "type": "conversation.item.truncate",
        "item_id": "item_2",
        "content_index": 0,
        "audio_end_ms": 1234,
    }.items() <= (sent.message.items())


def test_a_truncation_that_was_refused_is_no_error() -> None:
    session = ready_session()
    [sent] = session.cut_off("item_2", 1234)
    assert isinstance(sent, Send)
    refusal = events.ErrorInfo("invalid_request_error", "invalid_value", None, sent.message["event_id"])
    assert session.receive(events.Error(refusal)) == []
    assert session.errors == 0


def test_a_service_that_truncates_by_itself_is_told_nothing() -> None:
    session = Session(replace(OPTIONS, auto_truncate=True))
    [_, update] = session.receive(CREATED)
    assert isinstance(update, UpdateSession)
    assert update.session["turn_detection"]["auto_truncate"] is True
    assert session.cut_off("item_2", 1234) == []


def test_the_greetings_first_audio_is_marked_once() -> None:
    session = ready_session(OPTIONS)
    session.receive(response("resp_1"))
    assert session.receive(audio("resp_1")) == [Mark("greeting_audio"), Play("item_2", b"\x01\x02")]
    assert session.receive(audio("resp_1", b"\x03")) == [Play("item_2", b"\x03")]
    assert session.receive(audio_done("resp_1")) == [FinishAnswer()]


def test_an_answers_first_audio_is_marked_after_the_caller_has_spoken() -> None:
    session = ready_session()
    assert session.receive(SPEECH) == [Mark("speech_started"), FlushPlayout()]
    assert session.receive(SILENCE) == [Mark("speech_stopped")]
    session.receive(response("resp_1"))
    assert session.receive(audio("resp_1")) == [Mark("answer_audio"), Play("item_2", b"\x01\x02")]


def test_barge_in_flushes_and_drops_what_is_still_coming_of_the_answer() -> None:
    session = ready_session()
    session.receive(response("resp_1"))
    session.receive(audio("resp_1"))
    assert FlushPlayout() in session.receive(SPEECH)
    assert session.receive(audio("resp_1")) == []
    assert session.receive(audio_done("resp_1")) == []
    assert session.receive(done("resp_1", "cancelled")) == []


def test_the_answer_after_a_barge_in_is_played() -> None:
    session = ready_session()
    session.receive(response("resp_1"))
    session.receive(SPEECH)
    session.receive(done("resp_1", "cancelled"))
    session.receive(SILENCE)
    session.receive(response("resp_2"))
    assert session.receive(audio("resp_2")) == [Mark("answer_audio"), Play("item_2", b"\x01\x02")]


def test_barge_in_flushes_an_answer_whose_response_is_long_done() -> None:
    session = ready_session()
    session.receive(response("resp_1"))
    session.receive(audio("resp_1"))
    session.receive(done("resp_1"))
    assert session.receive(SPEECH) == [Mark("speech_started"), FlushPlayout()]


def test_events_that_no_call_acts_on_do_nothing() -> None:
    assert ready_session().receive(events.Other("rate_limits.updated")) == []
