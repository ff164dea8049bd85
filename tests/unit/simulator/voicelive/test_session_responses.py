"""What the client asks for itself: greetings, responses, function calls, items, and asking for the impossible."""

import pytest

from simulator.voicelive.behaviour import Behaviour
from simulator.voicelive.scenario import parse, saying
from tests.unit.simulator.voicelive.driving import G711, Drive, audio_of, spoken, types, voice


def greeting(text: str) -> dict[str, object]:
    content = [{"type": "text", "text": text}]
    return {"pre_generated_assistant_message": {"type": "message", "role": "assistant", "content": content}}


def scripted(steps: str, model: str = "gpt-4.1-mini", pace: str = "auto") -> Drive:
    behaviour = Behaviour(scenario=parse(steps), pace=pace)  # type: ignore[arg-type]
    return Drive(model, behaviour=behaviour).start(**G711)


def test_a_pre_generated_greeting_is_spoken_word_for_word() -> None:
    drive = Drive().start(**G711)
    events = drive.send("response.create", response=greeting("Welcome to the zoo.")) + drive.settle()
    assert audio_of(events) == spoken("Welcome to the zoo.")
    assert drive.last("response.audio_transcript.done")["transcript"] == "Welcome to the zoo."
    assert types(events) == [
        "response.created",
        "response.output_item.added",
        "conversation.item.created",
        "response.content_part.added",
        "response.audio_transcript.delta",
        "response.audio.delta",
        "response.audio.done",
        "response.audio_transcript.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.done",
    ]


def test_a_greeting_takes_no_step_of_the_scenario() -> None:
    drive = Drive(behaviour=Behaviour(scenario=saying(("First.",)), pace="instant")).start(**G711)
    drive.send("response.create", response=greeting("Hello."))
    drive.send("response.create")
    assert drive.last("response.audio_transcript.done")["transcript"] == "First."


def test_texts_are_said_in_turn_and_over_again() -> None:
    drive = Drive(behaviour=Behaviour(scenario=saying(("One.", "Two.")), pace="instant")).start(**G711)
    said = []
    for _ in range(3):
        drive.say()
        said.append(drive.last("response.audio_transcript.done")["transcript"])
    assert said == ["One.", "Two.", "One."]


def test_a_parrot_that_heard_nothing_says_something() -> None:
    drive = Drive().start(**G711)
    drive.send("response.create")
    assert audio_of(drive.settle())


def test_a_response_may_have_its_own_output_format() -> None:
    drive = Drive().start(**G711)
    drive.send("response.create", response={**greeting("Hello."), "output_audio_format": "pcm16"})
    assert len(audio_of(drive.settle())) == 6 * len(spoken("Hello."))


def test_a_written_response_has_text_and_the_recorded_empty_part() -> None:
    drive = Drive().start(**G711)
    drive.send("response.create", response={**greeting("Hello there."), "modalities": ["text"]})
    events = drive.settle()
    assert types(events) == [
        "response.output_item.added",
        "conversation.item.created",
        "response.content_part.added",
        "response.text.delta",
        "response.text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.done",
    ]
    assert drive.last("response.text.done")["text"] == "Hello there."
    assert drive.last("response.content_part.done")["part"] == {"type": "text", "text": ""}


def test_only_one_response_runs_at_a_time() -> None:
    drive = Drive().start(**G711)
    drive.send("response.create", response=greeting("Hello."))
    (error,) = drive.send("response.create", event_id="second")
    assert error["error"]["code"] == "conversation_already_has_active_response"
    assert error["error"]["event_id"] == "second"
    drive.settle()
    assert drive.last("response.done")["response"]["status"] == "completed"


def test_a_new_response_may_cancel_the_one_before() -> None:
    drive = Drive().start(**G711)
    drive.send("response.create", response=greeting("Hello."))
    events = drive.send("response.create", response={**greeting("Goodbye."), "cancel_previous": True})
    assert types(events) == ["response.done", "response.created"]
    assert audio_of(drive.settle()) == spoken("Goodbye.")


def test_a_client_can_cancel_a_response() -> None:
    drive = Drive().start(**G711)
    drive.send("response.create", response=greeting("Hello."))
    (done,) = drive.send("response.cancel")
    assert done["response"]["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
    assert drive.settle() == []


@pytest.mark.parametrize("fields", [{}, {"response_id": "resp_other"}])
def test_what_does_not_run_cannot_be_cancelled(fields: dict[str, object]) -> None:
    drive = Drive().start(**G711)
    if fields:
        drive.send("response.create", response=greeting("Hello."))
    (error,) = drive.send("response.cancel", **fields)
    assert error["error"]["code"] == "response_cancel_not_active"
    assert error["error"]["message"] == "Cancellation failed: no active response found"


def test_speech_that_cannot_be_made_fails_the_response() -> None:
    drive = Drive(renders=False).start(**G711)
    (created,) = drive.send("response.create", response=greeting("Hello."))
    ref = created["response"]["id"]
    drive._take(drive.session.render_failed(ref, "espeak-ng is not installed", drive.now))
    assert drive.last("error")["error"]["type"] == "server_error"
    response = drive.last("response.done")["response"]
    assert response["status"] == "failed"
    assert response["status_details"]["error"]["message"] == "espeak-ng is not installed"


def test_speech_made_for_a_cancelled_response_is_thrown_away() -> None:
    drive = Drive(renders=False).start(**G711)
    (created,) = drive.send("response.create", response=greeting("Hello."))
    drive.send("response.cancel")
    drive._take(drive.session.rendered(created["response"]["id"], spoken("Hello."), drive.now))
    assert types(drive.events)[-1] == "response.done"


def test_speech_made_late_starts_late_and_keeps_its_pace() -> None:
    drive = Drive(renders=False).start(**G711)
    (created,) = drive.send("response.create", response=greeting("Hello, you."))
    drive.wait(5)
    drive._take(drive.session.rendered(created["response"]["id"], spoken("Hello, you."), drive.now))
    drive.settle()
    first_audio = next(when for when, event in drive.sent if event["type"] == "response.audio.delta")
    assert first_audio - drive.at("response.output_item.added") == pytest.approx(0.78 * (1 - 0.585))


WEATHER = """
steps:
  - call: {name: get_weather, arguments: '{  "city": "London" }', heard: London}
  - expect_output: rain
  - say: It rains.
"""


class TestFunctionCall:
    """The model calls a function, the client answers it."""

    @pytest.mark.parametrize("model", ["gpt-4.1-mini", "gpt-realtime"])
    def test_the_call_has_the_recorded_order(self, model: str) -> None:
        drive = scripted(WEATHER, model)
        events = drive.say() + drive.settle()
        assert types(events)[types(events).index("response.created") :] == [
            "response.created",
            "response.output_item.added",
            "conversation.item.created",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.done",
            "response.output_item.done",
            "response.done",
        ]
        done = drive.last("response.function_call_arguments.done")
        assert (done["name"], done["arguments"]) == ("get_weather", '{  "city": "London" }')
        added = drive.last("response.output_item.added")["item"]
        assert (added["type"], added["status"], added["arguments"]) == ("function_call", "in_progress", "")
        assert added["call_id"] == done["call_id"] and done["call_id"].startswith("call_")

    def test_the_output_and_a_response_continue_the_scenario(self) -> None:
        drive = scripted(WEATHER, pace="instant")
        drive.say()
        call_id = drive.last("response.function_call_arguments.done")["call_id"]
        item = {"type": "function_call_output", "call_id": call_id, "output": "light rain"}
        (acknowledged,) = drive.send("conversation.item.create", item=item)
        assert acknowledged["type"] == "conversation.item.created"
        assert "status" not in acknowledged["item"]
        drive.send("response.create")
        assert drive.last("response.audio_transcript.done")["transcript"] == "It rains."
        assert drive.session.shown()["script"]["failures"] == []

    def test_a_wrong_output_is_noted_and_the_scenario_goes_on(self) -> None:
        drive = scripted(WEATHER, pace="instant")
        drive.say()
        item = {"type": "function_call_output", "call_id": "call_other", "output": "light rain"}
        drive.send("conversation.item.create", item=item)
        drive.send("response.create")
        assert drive.last("response.audio_transcript.done")["transcript"] == "It rains."
        assert drive.session.shown()["script"]["failures"] == ["step 2: the output is for another call"]

    def test_a_missing_output_is_noted_and_the_scenario_goes_on(self) -> None:
        drive = scripted(WEATHER, pace="instant")
        drive.say()
        drive.send("response.create")
        assert drive.last("response.audio_transcript.done")["transcript"] == "It rains."
        assert drive.session.shown()["script"]["failures"] == ["step 2: a response was asked for before the output"]

    def test_a_call_says_what_the_caller_was_heard_to_say(self) -> None:
        drive = scripted(WEATHER, pace="instant")
        drive.say()
        kind = "conversation.item.input_audio_transcription.completed"
        assert drive.last(kind)["transcript"] == "London"


class TestSteps:
    """Steps of a scenario that are no answers."""

    def test_a_wait_postpones_the_next_answer(self) -> None:
        drive = scripted("steps: [{say: One.}, {wait: 9}, {say: Two.}]", pace="instant")
        drive.say()
        ended = drive.at("response.done")
        drive.say()
        assert drive.last("response.audio_transcript.done")["transcript"] == "One."
        drive.wait(10)
        assert drive.last("response.audio_transcript.done")["transcript"] == "Two."
        assert drive.at("response.done") - ended == pytest.approx(9)

    def test_a_hung_session_sends_nothing_more(self) -> None:
        drive = scripted("steps: [{say: One.}, {hang: }]", pace="instant")
        drive.say()
        assert drive.say() == []
        assert drive.send("response.create") == []
        assert drive.session.shown()["state"] == "silent"
        assert drive.session.shown()["received"]["input_audio_buffer.append"] == 170

    def test_a_close_follows_the_answer_before_it(self) -> None:
        drive = scripted("steps: [{say: One.}, {close: {code: 4000, reason: bye}}]", pace="instant")
        drive.say()
        assert types(drive.events)[-1] == "response.done"
        assert [str(action) for action in drive.other] == ["Close(code=4000, reason='bye')"]

    def test_a_fault_step_strikes_in_the_answer_after_it(self) -> None:
        steps = "steps: [{fault: {kind: abort, on: response.audio.delta, nth: 2}}, {say: A long answer.}]"
        drive = scripted(steps, pace="instant")
        events = drive.say()
        assert [event["type"] for event in events].count("response.audio.delta") == 2
        assert [str(action) for action in drive.other] == ["Abort()"]


class TestItems:
    """The conversation as the client edits it."""

    def test_a_message_is_acknowledged_as_the_service_keeps_it(self) -> None:
        drive = Drive().start()
        content = [{"type": "input_text", "text": "The caller is a member."}]
        (created,) = drive.send(
            "conversation.item.create", item={"type": "message", "role": "user", "content": content}
        )
        assert created["previous_item_id"] is None
        item_id = created["item"]["id"]
        assert created["item"] == {
            "id": item_id,
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": content,
        }
        (retrieved,) = drive.send("conversation.item.retrieve", item_id=item_id)
        assert retrieved["item"] == created["item"]
        (deleted,) = drive.send("conversation.item.delete", item_id=item_id)
        assert (deleted["type"], deleted["item_id"]) == ("conversation.item.deleted", item_id)
        (error,) = drive.send("conversation.item.retrieve", item_id=item_id)
        assert error["error"]["param"] == "item_id"


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"type": "session.upgrade"}, "invalid_value", "type"),
        ({"type": "session.update"}, "missing_required_parameter", "session"),
        ({"type": "session.update", "session": {"voice": "hal"}}, "invalid_value", "session.voice"),
        ({"type": "input_audio_buffer.append"}, "missing_required_parameter", "audio"),
        ({"type": "input_audio_buffer.append", "audio": "???"}, "invalid_value", "audio"),
        ({"type": "conversation.item.create"}, "missing_required_parameter", "item"),
        ({"type": "conversation.item.delete", "item_id": "x"}, "item_not_found", "item_id"),
        ({"type": "response.create", "response": 5}, "invalid_type", "response"),
        (
            {"type": "response.create", "response": {"output_audio_format": "mp3"}},
            "invalid_value",
            "response.output_audio_format",
        ),
    ],
)
def test_a_bad_event_gets_an_error_that_names_it_and_the_session_goes_on(
    fields: dict[str, object], code: str, param: str
) -> None:
    drive = Drive().start(**G711)
    kind = str(fields.pop("type"))
    (event,) = drive.send(kind, **fields, event_id="mine")
    assert event["type"] == "error"
    error = event["error"]
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", code, param)
    assert error["event_id"] == "mine"
    drive.say()
    drive.settle()
    assert drive.last("response.done")["response"]["status"] == "completed"


@pytest.mark.parametrize("event", [None, [], "x", 5, {}, {"type": 5}])
def test_what_is_no_event_gets_an_error(event: object) -> None:
    drive = Drive().start()
    drive._take(drive.session.receive(event, drive.now))
    assert drive.last("error")["error"]["event_id"] is None


def test_an_append_over_the_limit_is_refused() -> None:
    drive = Drive().start(**G711)
    (error,) = drive.append(bytes(15 * 1024 * 1024 + 1))
    assert error["error"]["param"] == "audio"
    assert drive.session.shown()["appended_audio_ms"] == 0


def test_a_session_ends_at_its_time_limit() -> None:
    drive = Drive(behaviour=Behaviour(max_session_s=3600)).start(**G711)
    assert drive.events[0]["session"]["expires_at"] == 1_700_003_600
    drive.wait(3599)
    assert drive.other == []
    drive.wait(1)
    assert drive.last("error")["error"]["message"] == "Your session hit the maximum duration of 60 minutes."
    assert [str(action)[:15] for action in drive.other] == ["Close(code=1001"]


def test_an_agents_session_names_the_agent() -> None:
    drive = Drive(None, agent="reception").start(**G711)
    session = drive.events[0]["session"]
    assert session["agent"]["name"] == "reception"
    assert drive.session.shown()["profile"] == "cascaded"
    drive.hear(voice(100))
    assert drive.session.shown()["appended_audio_ms"] == 100


def test_the_output_buffer_can_be_cleared() -> None:
    drive = Drive().start()
    assert types(drive.send("output_audio_buffer.clear")) == ["output_audio_buffer.cleared"]
