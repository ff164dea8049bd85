"""The caller's turns: exact event orders of both kinds of model, manual turns, transcripts."""

import base64
import json

import pytest

from simulator.voicelive.audio import OUTPUT_FORMATS, AudioFormat, Clip, convert
from simulator.voicelive.behaviour import Behaviour
from simulator.voicelive.faults import SessionFault
from tests.unit.simulator.voicelive.driving import G711, Drive, audio_of, silence, types, voice

CASCADED_TURN = [
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    "conversation.item.input_audio_transcription.completed",
    "conversation.item.created",
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

NATIVE_TURN = [
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    "conversation.item.created",
    "conversation.item.done",
    "response.created",
    "response.output_item.added",
    "conversation.item.created",
    "response.content_part.added",
    "response.audio_transcript.delta",
    "response.audio.delta",
    # the second chunk of 400 ms is due 133 ms after the first, the caller's transcript 120 ms after it
    "conversation.item.input_audio_transcription.delta",
    "conversation.item.input_audio_transcription.completed",
    "response.audio_transcript.delta",
    "response.audio.delta",
    "response.audio_transcript.delta",
    "response.audio.delta",
    "response.audio_transcript.delta",
    "response.audio.delta",
    "response.audio.done",
    "response.audio_transcript.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.done",
]


def cascaded(**behaviour: object) -> Drive:
    drive = Drive("gpt-4.1-mini", behaviour=Behaviour(**behaviour))  # type: ignore[arg-type]
    return drive.start(**G711, turn_detection={"type": "server_vad"})


def native(**update: object) -> Drive:
    return Drive("gpt-realtime", behaviour=Behaviour(heard="a b c d")).start(
        **G711, **{"input_audio_transcription": {"model": "whisper-1"}, **update}
    )


def test_a_cascaded_turn_has_the_recorded_order() -> None:
    drive = cascaded()
    assert types(drive.say() + drive.settle()) == CASCADED_TURN


def test_a_native_turn_has_the_recorded_order() -> None:
    drive = native()
    assert types(drive.say() + drive.settle()) == NATIVE_TURN


def test_a_cascaded_turn_takes_the_recorded_time() -> None:
    drive = cascaded()
    drive.say(ms=7000)
    drive.settle()
    stopped = drive.at("input_audio_buffer.speech_stopped")
    first_audio = next(when for when, event in drive.sent if event["type"] == "response.audio.delta")
    times = {kind: drive.at(kind) - stopped for kind in ("response.created", "response.output_item.added")}
    assert times["response.created"] == pytest.approx(0.261, abs=0.01)
    assert times["response.output_item.added"] == pytest.approx(0.459, abs=0.01)
    assert first_audio - stopped == pytest.approx(0.78, abs=0.001)
    assert drive.at("response.done") - first_audio == pytest.approx(7.5 / 11, abs=0.05)


def test_instant_pace_answers_at_once_in_the_same_order() -> None:
    drive = cascaded(pace="instant")
    assert types(drive.say()) == CASCADED_TURN


def test_the_ids_have_the_prefixes_of_the_service() -> None:
    for drive, reply_prefix in ((native(), "item_"), (cascaded(), "msg_")):
        drive.say()
        drive.settle()
        response = drive.last("response.done")["response"]
        assert drive.events[0]["session"]["id"].startswith("sess_")
        assert all(event["event_id"].startswith("event_") for event in drive.events)
        assert drive.last("input_audio_buffer.committed")["item_id"].startswith("item_")
        assert response["id"].startswith("resp_")
        assert response["output"][0]["id"].startswith(reply_prefix)
        assert all(20 <= len(event["event_id"].partition("_")[2]) <= 22 for event in drive.events)


def test_the_two_kinds_of_model_differ_where_the_recordings_do() -> None:
    expected = {
        "gpt-realtime": ("in_progress", "conv_", "g711_ulaw", "inf"),
        "gpt-4.1-mini": ("incomplete", "", None, None),
    }
    for model, (status, conversation, output_format, limit) in expected.items():
        drive = Drive(model).start(**G711)
        drive.say()
        drive.settle()
        response = drive.last("response.created")["response"]
        assert drive.last("response.output_item.added")["item"]["status"] == status
        assert drive.last("response.output_item.done")["item"]["status"] == "completed"
        assert response["conversation_id"][:5] == conversation
        assert (response["output_audio_format"], response["max_output_tokens"]) == (output_format, limit)


def test_every_event_of_a_turn_names_the_item_of_the_turn() -> None:
    drive = cascaded()
    events = drive.say() + drive.settle()
    item_id = events[0]["item_id"]
    assert [e["item_id"] for e in events[:4]] == 4 * [item_id]
    user, assistant = (e for e in events if e["type"] == "conversation.item.created")
    assert (user["item"]["id"], user["previous_item_id"]) == (item_id, None)
    assert assistant["previous_item_id"] == item_id


def test_the_second_turn_follows_the_first() -> None:
    drive = cascaded()
    drive.say()
    drive.settle()
    reply_id = drive.last("response.output_item.done")["item"]["id"]
    drive.say()
    assert drive.last("input_audio_buffer.committed")["previous_item_id"] == reply_id


def test_a_native_transcript_is_null_when_the_item_is_made_and_stored_later() -> None:
    drive = native()
    created = next(e for e in drive.say() if e["type"] == "conversation.item.created")
    assert created["item"]["content"] == [{"type": "input_audio", "transcript": None}]
    drive.settle()
    (retrieved,) = drive.send("conversation.item.retrieve", item_id=created["item"]["id"])
    assert retrieved["item"]["content"] == [{"type": "input_audio", "transcript": "a b c d"}]


def test_a_native_model_transcribes_only_when_asked_to() -> None:
    drive = native(input_audio_transcription=None)
    assert not [kind for kind in types(drive.say() + drive.settle()) if "transcription" in kind]


@pytest.mark.parametrize(("choice", "model"), [("on", "gpt-4.1-mini"), ("off", "gpt-realtime")])
def test_conversation_item_done_can_be_switched(choice: str, model: str) -> None:
    drive = Drive(model, behaviour=Behaviour(item_done=choice)).start(**G711)  # type: ignore[arg-type]
    assert ("conversation.item.done" in types(drive.say() + drive.settle())) == (choice == "on")


@pytest.mark.parametrize("name", ["g711_ulaw", "g711_alaw", "pcm16"])
def test_a_parrot_says_back_exactly_what_was_said(name: str) -> None:
    fmt = OUTPUT_FORMATS[name]
    drive = Drive().start(input_audio_format=name, output_audio_format=name)
    audio = silence(600, fmt) + voice(1200, fmt) + silence(700, fmt)
    events = drive.hear(audio, fmt) + drive.settle()
    started, stopped = events[0]["audio_start_ms"], events[1]["audio_end_ms"]
    assert audio_of(events) == audio[started * fmt.bytes_per_ms : stopped * fmt.bytes_per_ms]
    assert started < 600 and stopped > 1800


@pytest.mark.parametrize("output", OUTPUT_FORMATS)
def test_a_parrot_speaks_every_output_format(output: str) -> None:
    drive = Drive().start(input_audio_format="g711_alaw", output_audio_format=output)
    alaw = AudioFormat("g711_alaw", 8000)
    audio = silence(600, alaw) + voice(1200, alaw) + silence(700, alaw)
    events = drive.hear(audio, alaw) + drive.settle()
    said = Clip(audio[events[0]["audio_start_ms"] * 8 : events[1]["audio_end_ms"] * 8], alaw)
    assert audio_of(events) == convert(said, OUTPUT_FORMATS[output])


def test_a_parrot_repeats_only_the_last_utterance() -> None:
    drive = cascaded(pace="instant")
    first = audio_of(drive.say(ms=1000))
    second = audio_of(drive.say(ms=2000))
    assert len(second) > len(first)


def test_a_whole_file_appended_at_once_is_heard_on_audio_time() -> None:
    drive = cascaded(pace="instant")
    events = drive.append(voice(1000) + silence(1000))
    assert (events[0]["audio_start_ms"], events[1]["audio_end_ms"]) == (0, 1520)


def test_usage_counts_twenty_tokens_a_second_spoken_and_ten_heard() -> None:
    drive = cascaded(pace="instant")
    events = drive.say(ms=2000)
    usage = drive.last("response.done")["response"]["usage"]
    seconds = len(audio_of(events)) / 8000
    assert usage["output_token_details"]["audio_tokens"] == round(20 * seconds)
    assert usage["input_token_details"]["audio_tokens"] == round(10 * seconds)
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    for direction in ("input", "output"):
        details = usage[f"{direction}_token_details"]
        assert usage[f"{direction}_tokens"] == details["text_tokens"] + details["audio_tokens"]


def test_without_create_response_the_client_asks_for_the_answer() -> None:
    drive = Drive().start(**G711, turn_detection={"type": "server_vad", "create_response": False})
    assert "response.created" not in types(drive.say() + drive.settle())
    assert types(drive.send("response.create") + drive.settle())[-1] == "response.done"


def test_detection_settings_of_the_client_are_honoured() -> None:
    drive = Drive().start(**G711, turn_detection={"type": "azure_semantic_vad", "silence_duration_ms": 1500})
    drive.hear(voice(1000) + silence(1400))
    assert "input_audio_buffer.speech_stopped" not in types(drive.events)
    drive.hear(silence(200))
    assert drive.last("input_audio_buffer.speech_stopped")["audio_end_ms"] == 2512


def test_a_caller_who_goes_on_before_the_answer_is_answered_once() -> None:
    drive = cascaded()
    drive.session.order(SessionFault("delay_transcript", seconds=1.0), drive.now)
    events = drive.hear(voice(600) + silence(600) + voice(3000) + silence(700)) + drive.settle()
    kinds = [event["type"] for event in events]
    assert kinds.count("input_audio_buffer.speech_stopped") == 2
    assert kinds.count("response.created") == 1


class TestManual:
    """Turn detection off."""

    def drive(self, model: str = "gpt-4.1-mini") -> Drive:
        return Drive(model).start(**G711, turn_detection=None)

    def test_nothing_happens_until_the_client_commits(self) -> None:
        drive = self.drive()
        assert drive.say() == []

    @pytest.mark.parametrize("model", ["gpt-4.1-mini", "gpt-realtime"])
    def test_a_committed_turn_is_answered_when_asked_for(self, model: str) -> None:
        drive = self.drive(model)
        drive.hear(voice(1000))
        drive.send("input_audio_buffer.commit")
        drive.send("response.create")
        events = drive.settle()
        assert audio_of(events) == voice(1000)
        assert types(drive.events)[-1] == "response.done"

    def test_a_cascaded_answer_waits_for_the_transcript(self) -> None:
        drive = self.drive()
        drive.hear(voice(1000))
        events = drive.send("input_audio_buffer.commit") + drive.send("response.create") + drive.settle()
        assert types(events)[:4] == [
            "input_audio_buffer.committed",
            "conversation.item.input_audio_transcription.completed",
            "conversation.item.created",
            "response.created",
        ]

    def test_the_next_turn_begins_where_the_last_one_ended(self) -> None:
        drive = self.drive("gpt-realtime")
        drive.hear(voice(1000))
        drive.send("input_audio_buffer.commit")
        drive.hear(silence(300))
        drive.send("input_audio_buffer.commit")
        drive.send("response.create")
        assert audio_of(drive.settle()) == silence(300)

    def test_cleared_audio_belongs_to_no_turn(self) -> None:
        drive = self.drive("gpt-realtime")
        drive.hear(voice(1000))
        assert types(drive.send("input_audio_buffer.clear")) == ["input_audio_buffer.cleared"]
        drive.hear(silence(200))
        drive.send("input_audio_buffer.commit")
        drive.send("response.create")
        assert audio_of(drive.settle()) == silence(200)

    def test_an_empty_buffer_cannot_be_committed(self) -> None:
        drive = self.drive()
        (error,) = drive.send("input_audio_buffer.commit", event_id="mine")
        assert error["error"]["code"] == "input_audio_buffer_commit_empty"
        assert error["error"]["event_id"] == "mine"


def test_a_client_may_commit_while_speech_goes_on() -> None:
    drive = cascaded()
    drive.hear(voice(1000))
    assert types(drive.send("input_audio_buffer.commit")) == ["input_audio_buffer.committed"]
    drive.hear(silence(700))
    assert "input_audio_buffer.speech_stopped" not in types(drive.events)


class TestTranscripts:
    """Transcript faults."""

    def faulty(self, drive: Drive, kind: str, **fields: object) -> Drive:
        drive.session.order(SessionFault(kind, **fields), drive.now)  # type: ignore[arg-type]
        return drive

    def test_a_cascaded_model_does_not_respond_to_an_empty_transcript(self) -> None:
        drive = self.faulty(cascaded(), "empty_transcript")
        events = drive.say() + drive.settle()
        assert types(events)[3:] == [
            "conversation.item.input_audio_transcription.completed",
            "conversation.item.created",
        ]
        assert drive.last("conversation.item.created")["item"]["content"][0]["transcript"] == ""

    def test_a_native_model_responds_all_the_same(self) -> None:
        drive = self.faulty(native(), "empty_transcript")
        assert types(drive.say() + drive.settle())[-1] == "response.done"

    def test_the_fault_is_over_after_its_turns(self) -> None:
        drive = self.faulty(cascaded(), "empty_transcript", turns=2)
        answered = []
        for _ in range(3):
            answered.append("response.created" in types(drive.say() + drive.settle()))
        assert answered == [False, False, True]

    def test_a_delayed_transcript_delays_a_cascaded_answer(self) -> None:
        drive = self.faulty(cascaded(), "delay_transcript", seconds=3.0)
        drive.say()
        drive.settle()
        late = drive.at("response.created") - drive.at("input_audio_buffer.speech_stopped")
        assert late == pytest.approx(3.26, abs=0.01)

    def test_a_duplicate_transcript_is_empty_and_for_the_same_item(self) -> None:
        drive = self.faulty(cascaded(), "duplicate_transcript")
        events = drive.say() + drive.settle()
        first, second = (e for e in events if e["type"].endswith("transcription.completed"))
        assert first["item_id"] == second["item_id"]
        assert first["transcript"] and not second["transcript"]


def test_a_session_shows_counts_and_marks_but_neither_audio_nor_words() -> None:
    drive = cascaded(heard="my secret number")
    audio = voice(1000) + silence(700)
    drive.hear(audio)
    drive.settle()
    shown = drive.session.shown()
    assert shown["received"] == {"session.update": 1, "input_audio_buffer.append": 85}
    assert shown["appended_audio_ms"] == 1700
    assert shown["sent"]["response.done"] == 1
    kinds = ["opened", "speech_started", "speech_stopped", "response_created", "first_audio", "response_done"]
    assert [mark["kind"] for mark in shown["marks"]] == kinds
    times = [mark["at_ms"] for mark in shown["marks"]]
    assert times == sorted(times) and times[0] == 1_700_000_000_000
    text = json.dumps(shown)
    assert "secret" not in text
    assert base64.b64encode(audio[:120]).decode() not in text


def test_the_state_follows_the_call() -> None:
    drive = cascaded()
    states = [drive.session.shown()["state"]]
    drive.hear(voice(1000))
    states.append(drive.session.shown()["state"])
    drive.hear(silence(700))
    drive.wait(0.3)
    states.append(drive.session.shown()["state"])
    drive.settle()
    states.append(drive.session.shown()["state"])
    assert states == ["listening", "hearing", "answering", "listening"]
    assert drive.session.shown()["profile"] == "cascaded"
