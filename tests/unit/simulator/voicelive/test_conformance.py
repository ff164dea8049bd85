"""Everything the simulator sends has the recorded shape, and the SDK's own models know every field of it.

`tests/data/voicelive` holds one example of each event as the service sends it, `<type>[.<variant>][.<profile>].json`.
Those about MCP servers and the times of words were not recorded: they have the fields of the SDK's models.
"""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.ai.voicelive.models import AzureVoice, OpenAIVoice, ServerEvent, ServerEventType

from simulator.voicelive.behaviour import Behaviour
from simulator.voicelive.faults import SessionFault
from simulator.voicelive.profiles import PROFILES
from simulator.voicelive.scenario import parse
from tests.unit.simulator.voicelive.driving import G711, Drive, Event, voice

SHAPES = {path.stem: json.loads(path.read_text()) for path in (Path(__file__).parents[3] / "data/voicelive").glob("*")}

# Values that are part of a shape.
FIXED = {"type", "object", "status", "role", "reason"}

# Null for the first item of a conversation, and for no other.
EITHER = {"previous_item_id"}

# What the service sends although the SDK has no name for it.
BEYOND_THE_SDK = {
    "session": {"object", "truncation_strategy", "greeting", "handoff"},
    "session.turn_detection": {"idle_timeout_ms", "speech_duration_ms", "appended_text_after_truncation"},
}

MODELS = {"native": "gpt-realtime", "cascaded": "gpt-4.1-mini"}

SCENARIO = """
steps:
  - say: This is the first answer.
  - call: {name: get_weather, arguments: {city: London}}
  - expect_output:
  - say: It rains. This answer is so long that it can be interrupted.
  - say: Written.
  - answer:
      mcp: {server: crm, name: find, arguments: {who: me}, output: found}
      say: Found it.
      calls: [{name: show, arguments: {what: it}}]
"""


def everything(profile: str, reason: str) -> Drive:
    """A call in which every event happens that the simulator can send."""
    behaviour = Behaviour(scenario=parse(SCENARIO), cancel_reason=reason, realtime_factor=2.0)  # type: ignore[arg-type]
    drive = Drive(MODELS[profile], behaviour=behaviour).start()
    transcription = {"model": "azure-speech"}
    detection = {"type": "server_vad", "auto_truncate": True}
    drive.send(
        "session.update", session={**G711, "input_audio_transcription": transcription, "turn_detection": detection}
    )
    drive.say()
    drive.settle()
    drive.say()
    drive.settle()
    call_id = drive.last("response.function_call_arguments.done")["call_id"]
    output = {"type": "function_call_output", "call_id": call_id, "output": "rain"}
    drive.send("conversation.item.create", item=output)
    drive.send("response.create")
    drive.wait(2.0)
    drive.hear(voice(300))
    drive.send("input_audio_buffer.clear")
    drive.send("output_audio_buffer.clear")
    drive.send("response.create", response={"modalities": ["text"]})
    drive.settle()
    edit_items(drive)
    use_tools(drive)
    drive.send("response.cancel")
    drive.send("session.update", session={"voice": "hal"}, event_id="mine")
    drive._take(drive.session.order(SessionFault("warning"), drive.now))
    return drive


def edit_items(drive: Drive) -> None:
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}
    (created,) = drive.send("conversation.item.create", item=item)
    drive.send("conversation.item.delete", item_id=created["item"]["id"])
    spoken_by_caller = next(e["item_id"] for e in drive.events if e["type"] == "input_audio_buffer.committed")
    drive.send("conversation.item.retrieve", item_id=spoken_by_caller)


def use_tools(drive: Drive) -> None:
    server = {"type": "mcp", "server_label": "crm", "server_url": "https://crm.example/mcp"}
    tools = [{**server, "allowed_tools": ["find"], "require_approval": "never"}]
    drive.send("session.update", session={"tools": tools, "output_audio_timestamp_types": ["word"]})
    drive.send("response.create")
    drive.settle()


def variant(event: Event) -> str:
    """Which of several shapes of its type an event has."""
    kind = event["type"]
    if "item" in event:
        return item_variant(event["item"], kind)
    if kind.startswith("response.content_part."):
        return str(event["part"]["type"])
    if kind == "session.updated":
        return "tools" if event["session"]["tools"] else ""
    if kind == "error":
        return "param" if event["error"]["param"] else ""
    if kind == "response.done":
        return response_variant(event["response"])
    return ""


def item_variant(item: dict[str, Any], kind: str) -> str:
    if item["type"] != "message":
        return str(item["type"])
    if kind == "response.output_item.done" and item["status"] == "incomplete":
        return "assistant.incomplete"
    first = item["content"][0]["type"] if item["content"] else ""
    return {"input_text": "text", "text": "text"}.get(first, str(item["role"]))


def response_variant(response: dict[str, Any]) -> str:
    if response["status"] == "cancelled":
        return "cancelled.turn_detected" if response["output"] else "cancelled"
    item = response["output"][0]
    if item["type"] != "message":
        return str(item["type"])
    return "text" if item["content"][0]["type"] == "text" else "completed"


def shape_name(event: Event, profile: str) -> str:
    parts = [event["type"], variant(event)]
    name = ".".join(part for part in parts if part)
    return f"{name}.{profile}" if f"{name}.{profile}" in SHAPES else name


def differences(expected: Any, actual: Any, path: str) -> Iterator[str]:
    """How `actual` differs in keys, nulls, types and fixed values."""
    if (expected is None) != (actual is None):
        yield f"{path}: {actual!r} instead of {expected!r}"
    elif isinstance(expected, dict) and isinstance(actual, dict):
        if expected.keys() != actual.keys():
            yield f"{path}: keys {sorted(expected.keys() ^ actual.keys())} on one side only"
        for key in expected.keys() & actual.keys():
            if key in FIXED and expected[key] != actual[key] and not isinstance(expected[key], dict):
                yield f"{path}.{key}: {actual[key]!r} instead of {expected[key]!r}"
            if key not in EITHER:
                yield from differences(expected[key], actual[key], f"{path}.{key}")
    elif isinstance(expected, list) and isinstance(actual, list):
        if bool(expected) != bool(actual):
            yield f"{path}: {actual!r} instead of {expected!r}"
            return
        patterns = expected if len(expected) == len(actual) else expected[:1] * len(actual)
        for index, (pattern, item) in enumerate(zip(patterns, actual, strict=True)):
            yield from differences(pattern, item, f"{path}[{index}]")
    elif type(expected) is not type(actual):
        yield f"{path}: a {type(actual).__name__} instead of a {type(expected).__name__}"


def as_sdk_sees(model: Any, raw: Any) -> Any:
    """`raw` as the SDK's receive path parses it."""
    return model._deserialize(raw, [])


def unknown_to_the_sdk(model: Any, path: str = "") -> Iterator[str]:
    """Fields of a parsed event, at any depth, that its model does not have."""
    if isinstance(model, list):
        for each in model:
            yield from unknown_to_the_sdk(each, path)
    elif hasattr(model, "_attr_to_rest_field"):
        fields = {field._rest_name: name for name, field in model._attr_to_rest_field.items()}
        for key in model.keys():
            if key not in fields:
                if key not in BEYOND_THE_SDK.get(path, set()):
                    yield f"{type(model).__name__}.{key}"
                continue
            yield from unknown_to_the_sdk(getattr(model, fields[key]), f"{path}.{key}" if path else key)
    elif isinstance(model, dict) and path.endswith(".voice"):  # a union, which the SDK leaves to its reader
        voice_model = OpenAIVoice if model["type"] == "openai" else AzureVoice
        yield from unknown_to_the_sdk(as_sdk_sees(voice_model, model), path)
    elif isinstance(model, dict) and not path.endswith(".input_schema"):  # any JSON schema
        yield f"{path} is a plain dict to the SDK"


@pytest.fixture(scope="module", params=[(p, r) for p in PROFILES for r in ("client_cancelled", "turn_detected")])
def call(request: pytest.FixtureRequest) -> tuple[str, Drive]:
    profile, reason = request.param
    return profile, everything(profile, reason)


def test_every_event_has_the_recorded_shape(call: tuple[str, Drive]) -> None:
    profile, drive = call
    found = []
    for event in drive.events:
        name = shape_name(event, profile)
        assert name in SHAPES, f"no recorded shape for {name}"
        found += [f"{name}{difference}" for difference in differences(SHAPES[name], event, "")]
    assert found == []


def test_every_event_begins_with_its_id_and_type(call: tuple[str, Drive]) -> None:
    _, drive = call
    assert {tuple(event)[:2] for event in drive.events} == {("event_id", "type")}


def test_the_sdk_knows_every_event_and_field(call: tuple[str, Drive]) -> None:
    _, drive = call
    known = {str(kind.value) for kind in ServerEventType}
    for event in drive.events:
        if event["type"] == "conversation.item.done":
            continue
        assert event["type"] in known
        parsed = as_sdk_sees(ServerEvent, event)
        assert type(parsed) is not ServerEvent
        assert list(unknown_to_the_sdk(parsed)) == [], event["type"]


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ([], "ServerEventResponseDone.extra"),
        (["response"], "Response.extra"),
        (["response", "usage", "input_token_details", "cached_tokens_details"], "CachedTokenDetails.extra"),
        (["response", "output", 0, "content", 0], "ResponseAudioContentPart.extra"),
        (["response", "voice"], "OpenAIVoice.extra"),
    ],
)
def test_a_field_the_sdk_does_not_know_would_be_found_at_any_depth(path: list[Any], complaint: str) -> None:
    event = copy.deepcopy(SHAPES["response.done.completed.native"])
    place: Any = event
    for step in path:
        place = place[step]
    place["extra"] = 1
    assert list(unknown_to_the_sdk(as_sdk_sees(ServerEvent, event))) == [complaint]


def test_every_recorded_shape_was_sent() -> None:
    calls = [(p, everything(p, reason)) for p in PROFILES for reason in ("client_cancelled", "turn_detected")]
    sent = {shape_name(event, profile) for profile, drive in calls for event in drive.events}
    assert sorted(SHAPES.keys() - sent) == []


@pytest.mark.parametrize("kind", ["azure_semantic_vad", "azure_semantic_vad_en", "azure_semantic_vad_multilingual"])
def test_the_sdk_knows_the_semantic_detectors_as_they_are_shown(kind: str) -> None:
    drive = Drive().start(turn_detection={"type": kind})
    parsed = as_sdk_sees(ServerEvent, drive.last("session.updated"))
    assert list(unknown_to_the_sdk(parsed)) == []
