"""The caller speaks over the model."""

import pytest

from simulator.voicelive.behaviour import Behaviour
from simulator.voicelive.scenario import saying
from tests.unit.simulator.voicelive.driving import G711, Drive, audio_of, types, voice

LONG = saying(("A long answer of which the caller will not hear the end.",))  # 5.6 s of the fake voice


def speaking(reason: str = "client_cancelled", model: str = "gpt-4.1-mini", **detection: object) -> Drive:
    """A session in the middle of a long answer: two chunks of it sent."""
    behaviour = Behaviour(scenario=LONG, cancel_reason=reason, realtime_factor=1.0)  # type: ignore[arg-type]
    drive = Drive(model, behaviour=behaviour).start(**G711, turn_detection={"type": "server_vad", **detection})
    drive.say()
    while drive.session.shown()["sent"].get("response.audio.delta", 0) < 2:
        drive.wait(0.05)
    return drive


def test_the_response_is_cancelled_fourteen_milliseconds_after_speech_starts() -> None:
    drive = speaking()
    events = drive.hear(voice(400))
    assert types(events) == ["input_audio_buffer.speech_started", "response.done"]
    assert drive.at("response.done") - drive.at("input_audio_buffer.speech_started") == pytest.approx(0.014)


def test_a_client_cancelled_response_is_empty() -> None:
    drive = speaking()
    drive.hear(voice(400))
    response = drive.last("response.done")["response"]
    assert response["status"] == "cancelled"
    assert response["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
    assert response["output"] == []
    assert response["usage"]["total_tokens"] == 0


def test_a_response_cancelled_by_turn_detection_closes_its_parts_first() -> None:
    drive = speaking("turn_detected")
    assert types(drive.hear(voice(400))) == [
        "input_audio_buffer.speech_started",
        "response.audio.done",
        "response.audio_transcript.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.done",
    ]
    response = drive.last("response.done")["response"]
    assert response["status_details"]["reason"] == "turn_detected"
    assert [item["status"] for item in response["output"]] == ["incomplete"]


@pytest.mark.parametrize("model", ["gpt-4.1-mini", "gpt-realtime"])
def test_no_audio_of_a_cancelled_response_follows(model: str) -> None:
    drive = speaking(model=model)
    drive.hear(voice(400))
    assert audio_of(drive.wait(10)) == b""


def test_the_next_turn_is_answered_again() -> None:
    drive = speaking()
    drive.say()
    assert drive.last("response.done")["response"]["status"] == "cancelled"
    drive.settle()
    assert drive.last("response.done")["response"]["status"] == "completed"


def test_a_response_is_left_alone_when_it_may_not_be_interrupted() -> None:
    drive = speaking(interrupt_response=False)
    assert "response.done" not in types(drive.hear(voice(400)))
    drive.settle()
    assert drive.last("response.done")["response"]["status"] == "completed"


def test_a_turn_that_ends_during_a_response_is_refused_an_answer() -> None:
    drive = speaking(interrupt_response=False)
    drive.say(ms=400)
    drive.wait(0.3)
    assert drive.last("error")["error"]["code"] == "conversation_already_has_active_response"


def test_speech_with_nothing_to_interrupt_cancels_nothing() -> None:
    drive = Drive().start(**G711)
    assert types(drive.hear(voice(400))) == ["input_audio_buffer.speech_started"]


def test_a_response_can_be_interrupted_before_it_says_anything() -> None:
    drive = Drive(behaviour=Behaviour(scenario=LONG, cancel_reason="turn_detected")).start(**G711)
    drive.send("response.create")
    assert types(drive.hear(voice(300))) == ["input_audio_buffer.speech_started", "response.done"]
    assert types(drive.settle()) == []


class TestAutoTruncate:
    """`auto_truncate`: the server cuts the item to what a client playing in real time has played."""

    def test_the_item_is_cut_to_what_was_played(self) -> None:
        drive = speaking(auto_truncate=True)
        first_audio = next(when for when, event in drive.sent if event["type"] == "response.audio.delta")
        events = drive.hear(voice(400))
        assert types(events)[-2:] == ["response.done", "conversation.item.truncated"]
        played_s = drive.at("input_audio_buffer.speech_started") - first_audio
        assert drive.last("conversation.item.truncated")["audio_end_ms"] == int(played_s * 1000)
        assert drive.last("conversation.item.truncated")["item_id"] == drive.last("response.audio.delta")["item_id"]

    def test_it_is_cut_also_when_the_response_is_done_but_not_yet_played(self) -> None:
        drive = Drive(behaviour=Behaviour(scenario=LONG)).start(
            **G711, turn_detection={"type": "server_vad", "auto_truncate": True}
        )
        drive.say()
        drive.settle()
        events = drive.hear(voice(400))
        assert types(events) == ["input_audio_buffer.speech_started", "conversation.item.truncated"]

    def test_nothing_is_cut_once_all_of_it_was_played(self) -> None:
        drive = Drive(behaviour=Behaviour(scenario=LONG)).start(
            **G711, turn_detection={"type": "server_vad", "auto_truncate": True}
        )
        drive.say()
        drive.wait(20)
        assert types(drive.hear(voice(400))) == ["input_audio_buffer.speech_started"]


class TestClientTruncate:
    """`conversation.item.truncate`."""

    def answered(self) -> tuple[Drive, str, int]:
        drive = Drive(behaviour=Behaviour(scenario=LONG, pace="instant")).start(**G711)
        events = drive.say()
        return drive, drive.last("response.audio.delta")["item_id"], len(audio_of(events)) // 8

    def test_an_item_is_cut_where_the_client_says(self) -> None:
        drive, item_id, length_ms = self.answered()
        (event,) = drive.send(
            "conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=length_ms - 100
        )
        assert (event["type"], event["audio_end_ms"]) == ("conversation.item.truncated", length_ms - 100)

    def test_an_item_cannot_be_cut_behind_its_end(self) -> None:
        drive, item_id, length_ms = self.answered()
        fields = {"item_id": item_id, "content_index": 0, "audio_end_ms": length_ms + 1, "event_id": "cut"}
        (event,) = drive.send("conversation.item.truncate", **fields)
        assert event["error"]["message"] == f"Audio content of {length_ms}ms is already shorter than {length_ms + 1}ms"
        assert event["error"]["event_id"] == "cut"

    @pytest.mark.parametrize(
        ("fields", "param"),
        [
            ({"item_id": "nobody", "content_index": 0, "audio_end_ms": 1}, "item_id"),
            ({"content_index": 0, "audio_end_ms": 1}, "item_id"),
            ({"item_id": "x", "content_index": 0, "audio_end_ms": -1}, "audio_end_ms"),
            ({"item_id": "x", "content_index": 0, "audio_end_ms": 1.5}, "audio_end_ms"),
            ({"item_id": "x", "content_index": 1, "audio_end_ms": 1}, "content_index"),
        ],
    )
    def test_nonsense_is_refused_by_name(self, fields: dict[str, object], param: str) -> None:
        drive, _, _ = self.answered()
        (event,) = drive.send("conversation.item.truncate", **fields)
        assert event["error"]["param"] == param
