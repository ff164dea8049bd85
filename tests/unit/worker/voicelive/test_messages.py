"""Client events, as the service takes them."""

from typing import Any

import pytest

from worker.voicelive import messages
from worker.voicelive.memory import Role, ToolCall, Typed, Utterance


def items(entry: Utterance | ToolCall | Typed) -> list[dict[str, Any]]:
    told = messages.replayed(entry, "told_1")
    assert all(event["type"] == "conversation.item.create" for event in told)
    return [event["item"] for event in told]


def test_a_truncation_names_the_item_and_what_was_heard() -> None:
    assert messages.truncation("item_1", 640) == {
        "type": "conversation.item.truncate",
        "event_id": "truncate:item_1",
        "item_id": "item_1",
        "content_index": 0,
        "audio_end_ms": 640,
    }


def test_text_to_be_spoken_is_a_message_of_the_assistants() -> None:
    assert messages.response(messages.spoken("Hello."), "e") == {
        "type": "response.create",
        "event_id": "e",
        "response": {
            "pre_generated_assistant_message": {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "text", "text": "Hello."}],
            }
        },
    }


def test_a_cancellation_and_a_deletion_name_what_they_are_about() -> None:
    assert messages.cancellation("r") == {"type": "response.cancel", "response_id": "r"}
    assert messages.deletion("i") == {"type": "conversation.item.delete", "item_id": "i"}


def test_an_approval_is_refused_by_its_request() -> None:
    item = {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": False}
    assert messages.refused_approval("mcpr_1") == {"type": "conversation.item.create", "item": item}


@pytest.mark.parametrize(
    ("role", "told_as", "part"), [(Role.CALLER, "user", "input_text"), (Role.AGENT, "assistant", "text")]
)
def test_what_was_said_is_told_as_a_message_of_whoever_said_it(role: Role, told_as: str, part: str) -> None:
    [item] = items(Utterance(role, "item_1", 0.0, "Good day."))
    content = [{"type": part, "text": "Good day."}]
    assert item == {"type": "message", "id": "told_1", "role": told_as, "content": content}


@pytest.mark.parametrize("role", Role)
def test_what_has_no_words_is_not_told(role: Role) -> None:
    assert items(Utterance(role, "item_1", 0.0)) == []


def test_a_call_is_told_with_its_result() -> None:
    call, result = items(ToolCall("call_1", "weather", '{"city": "Ulm"}', 0.0, '{"sky": "clear"}'))
    assert call == {
        "type": "function_call",
        "id": "told_1",
        "call_id": "call_1",
        "name": "weather",
        "arguments": '{"city": "Ulm"}',
    }
    expected = {"type": "function_call_output", "id": "told_1r", "call_id": "call_1", "output": '{"sky": "clear"}'}
    assert result == expected


def test_a_call_that_still_runs_is_told_without_one() -> None:
    [item] = items(ToolCall("call_1", "weather", "{}", 0.0))
    assert item["type"] == "function_call"


def test_digits_are_told_in_the_callers_place() -> None:
    [item] = items(Typed("42", 0.0))
    assert item["role"] == "user" and "42" in item["content"][0]["text"]


def test_sensitive_digits_are_not_told() -> None:
    assert items(Typed("42", 0.0, sensitive=True)) == []
