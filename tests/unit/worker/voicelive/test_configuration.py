"""An agent in Voice Live's words: what is sent, and that the SDK and the simulator know all of it."""

import inspect
from typing import Any

import pytest
from azure.ai.voicelive import models

from shared.agents.model import Agent
from simulator.voicelive import shapes
from simulator.voicelive.configuration import Configuration
from simulator.voicelive.profiles import profile_of
from worker.voicelive.configuration import session_update

OPENAIS_DETECTOR = {"model": "gpt-realtime", "turn_detection": {"type": "semantic_vad", "eagerness": "low"}}

FOUNDRY = {"model": "", "foundry_agent": {"name": "helpdesk", "project": "telephony"}}

TOOLS = [{"type": "function", "name": "hang_up", "description": "Hangs up.", "parameters": {"type": "object"}}]

DETECTION = {"threshold": 0.6, "prefix_padding_ms": 300, "silence_duration_ms": 600, "speech_duration_ms": 100}
FILLERS = {"remove_filler_words": True}
UTTERANCE = {"end_of_utterance_detection": {"threshold_level": "high", "timeout_ms": 800}}
VOICE = {
    "temperature": 0.8,
    "rate": "1.2",
    "style": "cheerful",
    "pitch": "+5%",
    "volume": "80",
    "locale": "en-US",
    "prefer_locales": ["en-GB"],
    "custom_lexicon_url": "https://lexicon.example/words.xml",
}

AGENTS: list[dict[str, Any]] = [
    {},
    {"voice": {"name": "en-US-Ava:DragonHDLatestNeural", **VOICE}},
    {"voice": {"type": "azure-custom", "name": "ours", "endpoint_id": "e", **VOICE}},
    {"voice": {"type": "azure-personal", "name": "mine", "model": "DragonLatestNeural", **VOICE}},
    {"voice": "marin", "model": "gpt-realtime"},
    {"voice": {"type": "azure-realtime-native", "name": "ava"}, "model": "azure-realtime"},
    {"turn_detection": {"type": "server_vad", "idle_timeout_ms": 5000, **DETECTION, **UTTERANCE}},
    {"turn_detection": {"languages": ["en"], **DETECTION, **FILLERS, **UTTERANCE}},
    {"turn_detection": {"type": "azure_semantic_vad_en", **DETECTION, **FILLERS, **UTTERANCE}},
    {
        "turn_detection": {
            "type": "azure_semantic_vad_multilingual",
            "languages": ["en", "de"],
            **FILLERS,
            "end_of_utterance_detection": {"model": "semantic_detection_v1_multilingual"},
        }
    },
    {"turn_detection": {"create_response": False, "interrupt_response": False}},
    {"turn_detection": {"auto_truncate": True}},
    {"noise_reduction": "azure_deep_noise_suppression", "echo_cancellation": True},
    {"noise_reduction": "far_field", "model": "gpt-realtime"},
    {"transcription": {"language": "en-US", "phrase_list": ["Contoso"], "custom_speech": {"en-US": "id"}}},
    {"transcription": {"model": "gpt-4o-transcribe"}, "model": "gpt-realtime"},
    {"temperature": 0.4, "max_output_tokens": 300, "reasoning_effort": "low"},
    {"interim_response": {"type": "static", "texts": ["One moment."], "triggers": ["latency", "tool"]}},
    {
        "interim_response": {
            "type": "llm",
            "model": "gpt-4.1-nano",
            "instructions": "Brief.",
            "max_completion_tokens": 9,
        }
    },
    {"interim_response": {"type": "llm", "latency_threshold_ms": 900}},
]

MODELS: dict[str, type] = {
    "azure-standard": models.AzureStandardVoice,
    "azure-custom": models.AzureCustomVoice,
    "azure-personal": models.AzurePersonalVoice,
    "azure-realtime-native": models.AzureRealtimeNativeVoice,
    "openai": models.OpenAIVoice,
    "server_vad": models.ServerVad,
    "azure_semantic_vad": models.AzureSemanticVad,
    "azure_semantic_vad_en": models.AzureSemanticVadEn,
    "azure_semantic_vad_multilingual": models.AzureSemanticVadMultilingual,
    "static_interim_response": models.StaticInterimResponseConfig,
    "llm_interim_response": models.LlmInterimResponseConfig,
}
"""The SDK's model of each part, by the part's type."""

ON_THE_WIRE_ONLY = {"speech_duration_ms", "idle_timeout_ms"}
"""Fields of server_vad that the service takes and the SDK does not model."""


def agent(fields: dict[str, Any]) -> Agent:
    return Agent.model_validate({"name": "test", "model": "gpt-4.1-mini", **fields})


def update(fields: dict[str, Any], tools: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return session_update(agent(fields), "Be brief.", "g711_ulaw", 8000, tools or [])


def test_a_plain_agent_sends_no_more_than_it_has_to() -> None:
    assert update({}) == {
        "modalities": ["text", "audio"],
        "voice": {"type": "azure-standard", "name": "en-US-AvaNeural"},
        "instructions": "Be brief.",
        "input_audio_format": "g711_ulaw",
        "input_audio_sampling_rate": 8000,
        "output_audio_format": "g711_ulaw",
        "turn_detection": {
            "type": "azure_semantic_vad",
            "interrupt_response": True,
            "create_response": True,
            "auto_truncate": False,
        },
        "input_audio_transcription": {"model": "azure-speech"},
    }


def test_what_an_agent_sets_is_sent_under_the_services_names() -> None:
    session = update(
        {
            "noise_reduction": "azure_deep_noise_suppression",
            "echo_cancellation": True,
            "max_output_tokens": 300,
            "interim_response": {"type": "static", "texts": ["One moment."]},
        },
        TOOLS,
    )
    assert session["input_audio_noise_reduction"] == {"type": "azure_deep_noise_suppression"}
    assert session["input_audio_echo_cancellation"] == {"type": "server_echo_cancellation"}
    assert session["max_response_output_tokens"] == 300
    assert session["interim_response"] == {"type": "static_interim_response", "texts": ["One moment."]}
    assert session["tools"] == TOOLS


def test_openais_detector_is_sent_without_truncation_which_it_does_not_have() -> None:
    session = update(OPENAIS_DETECTOR)
    assert session["turn_detection"] == {
        "type": "semantic_vad",
        "eagerness": "low",
        "create_response": True,
        "interrupt_response": True,
    }


def test_what_lives_in_foundry_is_not_sent() -> None:
    session = update(FOUNDRY | {"interim_response": {"type": "llm"}}, TOOLS)
    assert (
        not {"instructions", "tools", "temperature", "max_response_output_tokens", "reasoning_effort"} & session.keys()
    )
    assert session["voice"] == {"type": "azure-standard", "name": "en-US-AvaNeural"}
    assert session["interim_response"] == {"type": "llm_interim_response"}


@pytest.mark.parametrize("fields", AGENTS, ids=str)
def test_every_field_is_one_that_the_sdk_models(fields: dict[str, Any]) -> None:
    session = update(fields, TOOLS)
    assert models.RequestSession(session).as_dict() == session
    assert session.keys() <= _fields(models.RequestSession)
    for name in ("voice", "turn_detection", "interim_response"):
        if name in session:
            assert session[name].keys() <= _fields(MODELS[session[name]["type"]])
    assert session["input_audio_transcription"].keys() <= _fields(models.AudioInputTranscriptionOptions)
    utterance = session["turn_detection"].get("end_of_utterance_detection", {})
    assert utterance.keys() <= _fields(models.AzureSemanticDetection)


def _fields(model: type) -> set[str]:
    """The names that the SDK has for a model on the wire, which are those of its attributes."""
    known = {name for kind in model.__mro__ for name in inspect.get_annotations(kind)}
    return known | ON_THE_WIRE_ONLY if model is models.ServerVad else known


@pytest.mark.parametrize("fields", [*AGENTS, OPENAIS_DETECTOR, FOUNDRY], ids=str)
def test_the_simulator_takes_every_session(fields: dict[str, Any]) -> None:
    model = agent(fields).model
    profile = profile_of(model)
    configuration = Configuration(shapes.session("sess_1", profile, model, 0), profile)
    session = update(fields, TOOLS)
    configuration.update(session, audio_heard=False)
    for name in ("voice", "turn_detection"):
        assert session[name].items() <= configuration.session[name].items()
