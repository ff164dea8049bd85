"""Responses of several outputs, slow ones, and calls the service makes itself."""

import pytest

from simulator.voicelive.behaviour import Behaviour
from simulator.voicelive.scenario import parse
from tests.unit.simulator.voicelive.driving import G711, Drive, Event, audio_of, spoken, types, voice

MODELS = ["gpt-4.1-mini", "gpt-realtime"]

BOTH = """
steps:
  - answer: {say: One moment., calls: [{name: weather, arguments: {city: Rome}}, {name: clock}]}
  - expect_output: {name: clock, contains: nine}
  - expect_output: rain
  - say: It rains.
"""


def scripted(steps: str, model: str = "gpt-4.1-mini", **behaviour: object) -> Drive:
    settings = Behaviour(scenario=parse(steps), **behaviour)  # type: ignore[arg-type]
    return Drive(model, behaviour=settings).start(**G711)


def asked(drive: Drive) -> list[Event]:
    """Everything that follows a `response.create`."""
    return drive.send("response.create") + drive.settle()


def answer_call(drive: Drive, name: str, output: str) -> None:
    done = (e for e in drive.events if e["type"] == "response.function_call_arguments.done" and e["name"] == name)
    item = {"type": "function_call_output", "call_id": next(done)["call_id"], "output": output}
    drive.send("conversation.item.create", item=item)


def said(drive: Drive) -> str:
    return str(drive.last("response.audio_transcript.done")["transcript"])


class TestSeveralOutputs:
    """`answer`: a message and parallel function calls in one response."""

    @pytest.mark.parametrize("model", MODELS)
    def test_they_follow_each_other_in_one_response(self, model: str) -> None:
        events = asked(scripted(BOTH, model))
        call = [
            "response.output_item.added",
            "conversation.item.created",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.done",
            "response.output_item.done",
        ]
        kinds = types(events)
        assert kinds[kinds.index("response.content_part.done") :] == [
            "response.content_part.done",
            "response.output_item.done",
            *call,
            *call,
            "response.done",
        ]
        assert kinds.count("response.created") == 1
        assert audio_of(events) == spoken("One moment.")
        response = events[-1]["response"]
        assert [item["type"] for item in response["output"]] == ["message", "function_call", "function_call"]
        assert [item.get("name") for item in response["output"]] == [None, "weather", "clock"]

    def test_each_has_its_own_item_and_index(self) -> None:
        events = asked(scripted(BOTH))
        items = [item["id"] for item in events[-1]["response"]["output"]]
        assert len(set(items)) == 3
        for event in events:
            if "output_index" in event and "item_id" in event:
                assert event["item_id"] == items[event["output_index"]]

    def test_the_outputs_may_come_in_any_order(self) -> None:
        drive = scripted(BOTH, pace="instant")
        asked(drive)
        answer_call(drive, "weather", "rain")
        answer_call(drive, "clock", "half past nine")
        asked(drive)
        assert said(drive) == "It rains."
        assert drive.session.shown()["script"] == {"position": 4, "failures": []}

    def test_a_missing_output_is_noted(self) -> None:
        drive = scripted(BOTH, pace="instant")
        asked(drive)
        answer_call(drive, "clock", "nine")
        asked(drive)
        failures = drive.session.shown()["script"]["failures"]
        assert failures == ["step 3: a response was asked for before the output"]
        assert said(drive) == "It rains."

    def test_usage_is_that_of_all_outputs(self) -> None:
        drive = scripted("steps: [{answer: {say: Two words., calls: [{name: f, arguments: one}]}}]", pace="instant")
        assert asked(drive)[-1]["response"]["usage"]["output_token_details"]["text_tokens"] == 3

    def test_speech_interrupts_between_two_outputs(self) -> None:
        drive = scripted(BOTH, cancel_reason="turn_detected")
        drive.send("response.create")
        while drive.session.shown()["sent"].get("response.output_item.added", 0) < 2:
            drive.wait(0.01)
        drive._take(drive.session.append(voice(400), drive.now))
        drive.wait(0.02)
        response = drive.last("response.done")["response"]
        assert [(item["type"], item["status"]) for item in response["output"]] == [
            ("message", "completed"),
            ("function_call", "incomplete"),
        ]
        assert drive.settle() == []


class TestStall:
    """`stall`: the response has begun, and nothing comes."""

    def test_the_answer_comes_later_in_the_same_response(self) -> None:
        drive = scripted("steps: [{stall: 6}, {say: At last.}]")
        (created,) = drive.send("response.create")
        assert drive.wait(5.9) == []
        asked_at = drive.at("response.created")
        drive.settle()
        assert drive.at("response.output_item.added") == pytest.approx(asked_at + 6)
        assert drive.last("response.done")["response"]["id"] == created["response"]["id"]
        assert said(drive) == "At last."

    def test_without_a_number_only_the_client_ends_it(self) -> None:
        drive = scripted("steps: [{stall: }, {say: Never mind.}]", pace="instant")
        assert types(asked(drive)) == ["response.created"]
        assert types(drive.send("response.cancel")) == ["response.done"]
        asked(drive)
        assert said(drive) == "Never mind."

    def test_one_that_was_interrupted_does_not_go_on(self) -> None:
        drive = scripted("steps: [{stall: 6}, {say: First.}, {say: Second.}]", pace="instant")
        drive.send("response.create")
        drive.send("response.cancel")
        assert drive.wait(10) == []
        asked(drive)
        assert said(drive) == "First."


MCP = "steps: [{mcp: {server: crm, name: find, arguments: {who: me}, output: found, seconds: 3}}, {say: There.}]"


class TestMcp:
    """Calls the service makes itself, and the tools it finds."""

    @pytest.mark.parametrize("model", MODELS)
    @pytest.mark.parametrize(
        "steps", [MCP, MCP.replace("{mcp", "{answer: {mcp").replace("}}, {say: There.}", "}, say: There.}}")]
    )
    def test_the_call_comes_first_and_the_response_goes_on(self, model: str, steps: str) -> None:
        drive = scripted(steps, model)
        events = asked(drive)
        kinds = types(events)
        assert kinds[: kinds.index("response.content_part.added") + 1] == [
            "response.created",
            "response.output_item.added",
            "conversation.item.created",
            "response.mcp_call_arguments.delta",
            "response.mcp_call_arguments.done",
            "response.mcp_call.in_progress",
            "response.mcp_call.completed",
            "response.output_item.done",
            "response.output_item.added",
            "conversation.item.created",
            "response.content_part.added",
        ]
        running = drive.at("response.mcp_call.completed") - drive.at("response.mcp_call.in_progress")
        assert running == pytest.approx(3)
        call, message = events[-1]["response"]["output"]
        assert (call["type"], call["server_label"], call["name"]) == ("mcp_call", "crm", "find")
        assert (call["arguments"], call["output"]) == ('{"who": "me"}', "found")
        assert message["content"] == [{"type": "audio", "transcript": "There."}]

    def test_a_call_that_is_interrupted_has_no_output(self) -> None:
        drive = scripted(MCP, cancel_reason="turn_detected")
        drive.send("response.create")
        drive.wait(2)
        assert types(drive.send("response.cancel")) == ["response.output_item.done", "response.done"]
        assert drive.last("response.output_item.done")["item"]["output"] is None
        assert drive.settle() == []

    def test_an_answer_may_be_an_mcp_call_only(self) -> None:
        drive = scripted("steps: [{answer: {mcp: {server: crm, name: find}}}]", pace="instant")
        assert [item["type"] for item in asked(drive)[-1]["response"]["output"]] == ["mcp_call"]

    def test_the_tools_of_a_server_are_listed_once(self) -> None:
        tool = {"type": "mcp", "server_label": "crm", "server_url": "http://x/", "allowed_tools": ["find"]}
        drive = Drive().start()
        events = drive.send("session.update", session={"tools": [tool]})
        assert types(events) == [
            "session.updated",
            "conversation.item.created",
            "mcp_list_tools.in_progress",
            "mcp_list_tools.completed",
        ]
        item = events[1]["item"]
        assert (item["type"], item["server_label"]) == ("mcp_list_tools", "crm")
        assert [tool["name"] for tool in item["tools"]] == ["find"]
        assert {event["item_id"] for event in events[2:]} == {item["id"]}
        assert types(drive.send("session.update", session={"tools": [tool]})) == ["session.updated"]


class TestExpectations:
    """The scenario waits for what the client does."""

    def user(self, drive: Drive, text: str, role: str = "user") -> None:
        kind = "input_text" if role == "user" else "text"
        content = [{"type": kind, "text": text}]
        drive.send("conversation.item.create", item={"type": "message", "role": role, "content": content})

    def test_a_user_message_is_awaited(self) -> None:
        drive = scripted('steps: [{say: Type.}, {expect_message: "42"}, {say: Thanks.}]', pace="instant")
        asked(drive)
        self.user(drive, "They typed 42.", role="assistant")
        assert drive.session.shown()["script"]["position"] == 1
        self.user(drive, "They typed 42.")
        asked(drive)
        assert (said(drive), drive.session.shown()["script"]["failures"]) == ("Thanks.", [])

    def test_a_response_asked_for_before_the_message_is_noted(self) -> None:
        drive = scripted('steps: [{expect_message: "42"}, {say: Thanks.}]', pace="instant")
        asked(drive)
        failures = drive.session.shown()["script"]["failures"]
        assert (said(drive), failures) == ("Thanks.", ["step 1: a response was asked for before the message"])

    def test_a_request_is_known_by_its_instructions(self) -> None:
        drive = scripted('steps: [{expect_request: still there}, {say: "Are you there?"}]', pace="instant")
        drive.send("response.create", response={"instructions": "Ask whether they are still there."})
        assert (said(drive), drive.session.shown()["script"]["failures"]) == ("Are you there?", [])

    def test_a_request_is_known_by_the_words_it_wants_spoken(self) -> None:
        drive = scripted('steps: [{expect_request: Welcome}, {say: "Yes?"}]', pace="instant")
        content = [{"type": "text", "text": "Welcome to the zoo."}]
        message = {"type": "message", "role": "assistant", "content": content}
        drive.send("response.create", response={"pre_generated_assistant_message": message})
        assert (said(drive), drive.session.shown()["script"]["position"]) == ("Welcome to the zoo.", 1)
        asked(drive)
        assert (said(drive), drive.session.shown()["script"]["failures"]) == ("Yes?", [])


class TestTimestamps:
    """`output_audio_timestamp_types`: where in the audio each word lies."""

    @pytest.mark.parametrize("model", MODELS)
    def test_words_share_the_audio_evenly(self, model: str) -> None:
        drive = scripted("steps: [{say: one two three four}]", model)
        drive.send("session.update", session={"output_audio_timestamp_types": ["word"]})
        events = asked(drive)
        told = [event for event in events if event["type"] == "response.audio_timestamp.delta"]
        assert [event["text"] for event in told] == ["one", "two", "three", "four"]
        assert [event["audio_offset_ms"] for event in told] == [0, 450, 900, 1350]  # of 1.8 s
        assert {event["audio_duration_ms"] for event in told} == {450}
        kinds = types(events)
        assert kinds[kinds.index("response.audio.done") + 1] == "response.audio_timestamp.done"

    @pytest.mark.parametrize("model", MODELS)
    def test_a_word_is_told_right_after_the_audio_it_begins_in(self, model: str) -> None:
        drive = scripted("steps: [{say: one two three four five six seven}]", model)
        drive.send("session.update", session={"output_audio_timestamp_types": ["word"]})
        heard_ms = last_ms = 0.0
        for event in asked(drive):
            if event["type"] == "response.audio.delta":
                last_ms, heard_ms = heard_ms, heard_ms + len(event["delta"]) * 3 // 4 // 8
            elif event["type"] == "response.audio_timestamp.delta":
                assert last_ms <= event["audio_offset_ms"] < heard_ms

    def test_nobody_is_told_who_did_not_ask(self) -> None:
        kinds = types(asked(scripted("steps: [{say: one two}]")))
        assert not [kind for kind in kinds if "timestamp" in kind]


def test_text_that_an_earlier_response_has_read_comes_from_the_cache() -> None:
    drive = scripted("steps: [{say: One.}, {say: Two.}]", pace="instant")
    drive.send("session.update", session={"instructions": "Be brief and be kind."})
    first = asked(drive)[-1]["response"]["usage"]["input_token_details"]
    content = [{"type": "input_text", "text": "Three more words."}]
    drive.send("conversation.item.create", item={"type": "message", "role": "user", "content": content})
    second = asked(drive)[-1]["response"]["usage"]["input_token_details"]
    assert (first["text_tokens"], first["cached_tokens"]) == (5, 0)
    assert (second["text_tokens"], second["cached_tokens"]) == (8, 5)
    assert second["cached_tokens_details"] == {"text_tokens": 5, "audio_tokens": 0, "image_tokens": 0}


def test_a_cough_is_not_a_turn() -> None:
    detection = {"type": "azure_semantic_vad", "speech_duration_ms": 300}
    drive = Drive().start(**G711, turn_detection=detection)
    assert drive.say(ms=200) == []
    assert "input_audio_buffer.speech_started" in types(drive.say(ms=400))


@pytest.mark.parametrize(("eagerness", "answered"), [("high", True), ("low", False)])
def test_an_eager_native_model_ends_the_turn_sooner(eagerness: str, answered: bool) -> None:
    detection = {"type": "semantic_vad", "eagerness": eagerness}
    drive = Drive("gpt-realtime").start(**G711, turn_detection=detection)
    assert ("input_audio_buffer.speech_stopped" in types(drive.say(pause_ms=600))) == answered


class TestReveal:
    """What a test may look at."""

    def test_the_conversation_the_session_and_what_was_said_are_shown(self) -> None:
        drive = scripted(BOTH, pace="instant", reveal=True, heard="What is the weather?")
        drive.send("session.update", session={"instructions": "Be brief."})
        drive.say()
        answer_call(drive, "clock", "nine")
        shown = drive.session.shown()
        assert shown["instructions"] == shown["session"]["instructions"] == "Be brief."
        assert shown["said"] == ["One moment."]
        user, message, weather, clock, output = shown["items"]
        assert (user["role"], user["text"]) == ("user", "What is the weather?")
        assert (message["role"], message["text"], message["status"]) == ("assistant", "One moment.", "completed")
        assert (weather["type"], weather["name"]) == ("function_call", "weather")
        assert weather["arguments"] == '{"city": "Rome"}'
        assert output == {
            "id": output["id"],
            "type": "function_call_output",
            "call_id": clock["call_id"],
            "output": "nine",
        }

    def test_nothing_of_it_is_shown_otherwise(self) -> None:
        drive = scripted(BOTH, pace="instant")
        drive.say()
        assert not {"items", "instructions", "session", "said"} & drive.session.shown().keys()
