"""Items, their order and their audio."""

from typing import Any

import pytest

from simulator.voicelive.conversation import Conversation, pre_generated_text
from simulator.voicelive.ids import Ids
from simulator.voicelive.refusal import Refused


def message(item_id: str | None = None, **fields: Any) -> dict[str, Any]:
    content = [{"type": "input_text", "text": "two words"}]
    made = {"type": "message", "role": "user", "content": content, **fields}
    return made if item_id is None else {**made, "id": item_id}


def conversation(*item_ids: str) -> Conversation:
    it = Conversation(Ids())
    for item_id in item_ids:
        it.add(it.from_client(message(item_id)))
    return it


def refused_param(act: Any, *args: Any) -> str | None:
    with pytest.raises(Refused) as refused:
        act(*args)
    return refused.value.param


def test_each_item_knows_the_one_before_it() -> None:
    it = conversation()
    assert [it.add(it.from_client(message(item_id))) for item_id in "abc"] == [None, "a", "b"]
    assert it.last_id == "c"


def test_an_item_can_be_put_in_between() -> None:
    it = conversation("a", "c")
    assert it.add(it.from_client(message("b")), "a") == "a"
    assert it.add(it.from_client(message("start")), "root") is None
    assert it.last_id == "c"


def test_an_item_without_an_id_gets_one() -> None:
    assert conversation().from_client(message())["id"].startswith("item_")


def test_a_known_id_or_an_unknown_predecessor_is_refused() -> None:
    it = conversation("a")
    assert refused_param(it.add, it.from_client(message("a"))) == "item.id"
    assert refused_param(it.add, it.from_client(message("b")), "nobody") == "previous_item_id"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"type": "poem"}, "item.type"),
        (message(role="waiter"), "item.role"),
        (message(content=[]), "item.content"),
        (message(content=[{"type": "text", "text": "x"}]), "item.content[0].type"),
        (message(content=["x"]), "item.content[0].type"),
        ({"type": "function_call_output", "output": "x"}, "item.call_id"),
        ({"type": "function_call_output", "call_id": "c", "output": {}}, "item.output"),
        ({"type": "function_call", "call_id": "c", "arguments": "{}"}, "item.name"),
        (message(item_id=5), "item.id"),  # type: ignore[arg-type]
        (message(item_id="x" * 33), "item.id"),
        (message(content=[{"type": "input_text", "text": 5}]), "item.content[0].text"),
        ({"type": "function_call_output", "call_id": "x" * 33, "output": ""}, "item.call_id"),
    ],
)
def test_an_item_the_service_would_refuse_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    assert refused_param(conversation().from_client, fields) == param


def test_an_output_item_has_no_status() -> None:
    item = conversation().from_client({"type": "function_call_output", "call_id": "c", "output": "x"})
    assert "status" not in item


def test_the_items_of_a_lost_session_can_be_created_again() -> None:
    it = conversation()
    said = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "Hello."}]}
    call = {"type": "function_call", "name": "f", "call_id": "c", "arguments": "{}", "status": "completed"}
    output = {"type": "function_call_output", "call_id": "c", "output": "[]"}
    previous: str | None = None
    for item_id, fields in (("said", said), ("call", call), ("output", output)):
        assert it.add(it.from_client({"id": item_id, **fields}), previous) == previous
        previous = item_id
    assert [(item["id"], item["type"]) for item in it.shown()] == [
        ("said", "message"),
        ("call", "function_call"),
        ("output", "function_call_output"),
    ]
    assert it.shown()[0]["text"] == "Hello."


def test_a_deleted_item_is_gone() -> None:
    it = conversation("a", "b")
    it.remove("b")
    assert it.last_id == "a"
    assert refused_param(it.find, "b") == "item_id"
    assert refused_param(it.remove, "b") == "item_id"


def test_text_is_counted_in_words() -> None:
    assert conversation("a", "b").words == 4


def test_what_a_client_still_plays_follows_from_real_time() -> None:
    it = conversation("a")
    assert it.playing(10.0) is None
    it.sent_audio("a", 500, now=10.0)
    it.sent_audio("a", 1500, now=10.1)
    assert it.playing(11.25) == ("a", 1250)
    assert it.playing(12.0) is None


def test_audio_is_cut_at_most_at_its_end() -> None:
    it = Conversation(Ids())
    it.add({"id": "a", "content": [{"type": "audio", "transcript": "Hello"}]})
    it.sent_audio("a", 2000, now=0.0)
    with pytest.raises(Refused, match="Audio content of 2000ms is already shorter than 2001ms"):
        it.truncate("a", 2001)
    it.truncate("a", 2000)
    it.truncate("a", 700)
    assert it.find("a")["content"] == [{"type": "audio", "transcript": None}]
    with pytest.raises(Refused, match="already shorter"):
        it.truncate("a", 701)


def test_an_item_without_audio_cannot_be_cut() -> None:
    assert refused_param(conversation("a").truncate, "a", 0) == "item_id"
    assert refused_param(conversation().truncate, "nobody", 0) == "item_id"


def test_a_pre_generated_message_is_one_text() -> None:
    def params(*content: object) -> dict[str, Any]:
        return {"pre_generated_assistant_message": {"type": "message", "role": "assistant", "content": list(content)}}

    part = {"type": "text", "text": "Hello."}
    assert pre_generated_text(params(part)) == "Hello."
    assert pre_generated_text({}) is None
    assert pre_generated_text({"pre_generated_assistant_message": None}) is None
    param = "response.pre_generated_assistant_message"
    for bad in (params(), params(part, part), params({"type": "audio"}), params("Hello.")):
        assert refused_param(pre_generated_text, bad) == f"{param}.content"
    assert refused_param(pre_generated_text, {"pre_generated_assistant_message": "Hello."}) == param
