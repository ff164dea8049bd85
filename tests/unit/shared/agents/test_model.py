"""One agent: shorthands, defaults, and what does not go together."""

from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from shared.agents.model import (
    Agent,
    AzureSemanticVad,
    AzureStandardVoice,
    HangUpTool,
    HttpTool,
    McpTool,
    OpenAIVoice,
    Sound,
    TransferTarget,
    TransferTool,
)

FOUNDRY = {"name": "helpdesk", "project": "telephony"}
NATIVE = "gpt-realtime"


def agent(**fields: Any) -> Agent:
    if "foundry_agent" not in fields:
        fields = {"model": "gpt-4.1-mini", **fields}
    return Agent.model_validate({"name": "test", **fields})


def refusal(**fields: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        agent(**fields)
    return str(caught.value)


def test_an_agent_needs_no_more_than_a_model() -> None:
    least = agent()
    assert least.voice == AzureStandardVoice(name="en-US-AvaNeural")
    assert least.turn_detection == AzureSemanticVad()
    assert least.tools == ()
    assert least.greeting is None


def test_a_voice_can_be_written_by_its_name() -> None:
    assert agent(voice="en-US-Ava:DragonHDLatestNeural").voice == AzureStandardVoice(
        name="en-US-Ava:DragonHDLatestNeural"
    )
    assert agent(voice="alloy", model=NATIVE).voice == OpenAIVoice(type="openai", name="alloy")


def test_a_voice_and_a_detector_without_type_are_the_usual_ones() -> None:
    usual = agent(voice={"name": "de-DE-KatjaNeural", "rate": "1.2"}, turn_detection={"silence_duration_ms": 700})
    assert usual.voice == AzureStandardVoice(name="de-DE-KatjaNeural", rate="1.2")
    assert usual.turn_detection == AzureSemanticVad(silence_duration_ms=700)


def test_a_greeting_a_target_and_a_built_in_tool_can_be_written_as_text() -> None:
    written = agent(greeting="Hello.", transfers={"desk": "sip:desk@pbx.example"}, tools=["hang_up", "transfer_call"])
    assert written.greeting is not None
    assert (written.greeting.text, written.greeting.interruptible) == ("Hello.", True)
    assert written.transfers == {"desk": TransferTarget(uri="sip:desk@pbx.example")}
    assert written.tools == (HangUpTool(), TransferTool())


def test_a_filler_is_the_sound_of_that_name_or_a_text_to_say() -> None:
    assert agent(dead_air={"filler": "soft"}).dead_air.filler is Sound.SOFT
    spoken = agent(dead_air={"filler": "One moment."}).dead_air.filler
    assert spoken == "One moment."
    assert not isinstance(spoken, Sound)


def test_keys_of_the_menu_may_be_numbers() -> None:
    menu = agent(dtmf={"menu": {0: {"hang_up": True}, "*": {"say": "operator"}}}).dtmf.menu
    assert {digit: (entry.say, entry.hang_up) for digit, entry in menu.items()} == {
        "0": (None, True),
        "*": ("operator", False),
    }


def test_an_mcp_server_is_named_by_its_label() -> None:
    [tool] = agent(tools=[{"type": "mcp", "label": "docs", "url": "https://docs.example/mcp"}]).tools
    assert isinstance(tool, McpTool)
    assert tool.name == "docs"


def test_header_values_are_text_or_secrets() -> None:
    http = {
        "type": "http_request",
        "name": "look",
        "description": "Looks.",
        "url": "https://x.example",
        "headers": {"Accept": "text/plain", "Authorization": SecretStr("hunter2")},
    }
    tool = agent(tools=[http]).tools[0]
    assert isinstance(tool, HttpTool)
    assert tool.headers == {"Accept": "text/plain", "Authorization": SecretStr("hunter2")}
    assert "hunter2" not in repr(tool)


def test_an_agent_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        agent().model = "gpt-4o"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"model": ""}, "model: is missing; or set foundry_agent"),
        ({"foundry_agent": FOUNDRY, "model": "gpt-4o"}, "model: would be ignored"),
        ({"foundry_agent": FOUNDRY, "instructions": "Be brief."}, "instructions: would be ignored"),
        ({"foundry_agent": FOUNDRY, "tools": ["hang_up"]}, "tools: would be ignored"),
        ({"foundry_agent": FOUNDRY, "temperature": 0.0}, "temperature: would be ignored"),
        ({"model": NATIVE, "interim_response": {"type": "llm"}}, "interim_response: gpt-realtime is a native model"),
        ({"turn_detection": {"type": "semantic_vad"}}, "semantic_vad needs a gpt-realtime model"),
        (
            {"model": NATIVE, "turn_detection": {"type": "semantic_vad", "auto_truncate": True}},
            "turn_detection.auto_truncate: semantic_vad has none",
        ),
        (
            {"model": NATIVE, "turn_detection": {"end_of_utterance_detection": {}}},
            "turn_detection.end_of_utterance_detection: is for cascaded models",
        ),
        (
            {"turn_detection": {"auto_truncate": True, "interrupt_response": False}},
            "turn_detection.auto_truncate: needs interrupt_response",
        ),
        (
            {"model": "gpt-realtime-2", "turn_detection": {"type": "server_vad"}},
            "gpt-realtime-2 with azure-speech transcription takes only the azure_semantic_vad detectors",
        ),
        (
            {"model": NATIVE, "transcription": {"model": "whisper-1", "phrase_list": ["Contoso"]}},
            "transcription.phrase_list: is for azure-speech and mai-transcribe-1",
        ),
        (
            {"model": NATIVE, "transcription": {"model": "whisper-1", "custom_speech": {"en-US": "id"}}},
            "transcription.custom_speech: is for azure-speech",
        ),
        ({"transcription": {"model": "whisper-1"}}, "whisper-1 is for gpt-realtime models"),
        ({"noise_reduction": "near_field"}, "near_field is for gpt-realtime models"),
        ({"tools": ["hang_up", "hang_up"]}, "tools: hang_up is there 2 times"),
        ({"tools": ["transfer_call"]}, "tools: transfer_call has nowhere to go"),
        (
            {"transfers": {"desk": "tel:+49301"}, "dtmf": {"menu": {"0": {"transfer": "dekk"}}}},
            "dtmf.menu.0.transfer: dekk is not one of transfers (desk)",
        ),
        ({"fallback": {"transfer": "desk"}}, "fallback.transfer: desk is not one of transfers (none)"),
        ({"limits": {"max_call_s": 60, "warning_s": 60}}, "limits.warning_s: must be less than max_call_s"),
        ({"reconnect": {"first_delay_s": 5}}, "reconnect.first_delay_s: must not be more than max_delay_s"),
        ({"voice": {"type": "azure-personal", "name": "me"}}, "model\n  Field required"),
        ({"voice": "somebody"}, "'alloy'"),
        ({"voice": {"name": "en-US-AvaNeural", "rate": "1.51"}}, "rate"),
        ({"dtmf": {"menu": {"1": {}}}}, "needs exactly one of say, transfer and hang_up"),
        ({"dtmf": {"menu": {"1": {"say": "x", "hang_up": True}}}}, "needs exactly one of say, transfer and hang_up"),
        ({"transfers": {"desk": "https://pbx.example"}}, "must be a sip:, sips: or tel: URI"),
        ({"transfers": {"desk": "sip:a@b>\r\nX: y"}}, "control characters"),
        ({"timezone": "Berlin"}, "must be a time zone like Europe/Berlin"),
        ({"timezone": "../../etc/passwd"}, "must be a time zone like Europe/Berlin"),
        ({"uplink_ms": 50}, "multiple of 20"),
        ({"temperature": float("nan")}, "finite"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(fields: dict[str, Any], reason: str) -> None:
    assert reason in refusal(**fields)


@pytest.mark.parametrize("rate", ["0.5", "0.75", "1", "1.0", "1.49", "1.5", "1.50"])
def test_rates_from_a_half_to_one_and_a_half_are_taken(rate: str) -> None:
    voice = agent(voice={"name": "en-US-AvaNeural", "rate": rate}).voice
    assert isinstance(voice, AzureStandardVoice)
    assert voice.rate == rate


def test_everything_that_does_not_go_together_is_said_at_once() -> None:
    text = refusal(tools=["hang_up", "hang_up"], noise_reduction="far_field", fallback={"transfer": "desk"})
    assert "tools: " in text
    assert "noise_reduction: " in text
    assert "fallback.transfer: " in text


def test_a_foundry_agent_may_greet_and_fill_pauses() -> None:
    foundry = agent(foundry_agent=FOUNDRY, greeting="Hello.", interim_response={"type": "static", "texts": ["Hm."]})
    assert foundry.model == ""


def test_no_limit_of_call_time_needs_no_warning_below_it() -> None:
    assert agent(limits={"max_call_s": 0}).limits.warning_s == 60
