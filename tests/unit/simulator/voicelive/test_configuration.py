"""What `session.update` may change, and what it looks like afterwards."""

from typing import Any

import pytest

from simulator.voicelive import shapes
from simulator.voicelive.audio import AudioFormat
from simulator.voicelive.configuration import Configuration
from simulator.voicelive.profiles import CASCADED, NATIVE, Profile
from simulator.voicelive.refusal import Refused
from simulator.voicelive.vad import VadSettings


def configuration(profile: Profile = CASCADED, model: str = "gpt-4.1-mini") -> Configuration:
    return Configuration(shapes.session("sess_1", profile, model, 1_700_003_600), profile)


def updated(changes: dict[str, Any], profile: Profile = CASCADED) -> Configuration:
    it = configuration(profile)
    it.update(changes, audio_heard=False)
    return it


def refusal(changes: dict[str, Any], it: Configuration | None = None, *, audio_heard: bool = False) -> Refused:
    with pytest.raises(Refused) as refused:
        (it or configuration()).update(changes, audio_heard=audio_heard)
    return refused.value


def test_a_session_starts_with_the_recorded_detection() -> None:
    assert configuration().vad == VadSettings(0.5, 300, 200, 200)
    assert configuration().input_format == AudioFormat("pcm16", 24000)


def test_only_the_fields_present_change() -> None:
    it = updated({"instructions": "Be brief."})
    it.update({"tool_choice": "none"}, audio_heard=False)
    assert it.session["instructions"] == "Be brief."
    assert it.session["tool_choice"] == "none"
    assert it.session["max_response_output_tokens"] == "inf"


def test_an_update_fills_in_the_detection_it_names() -> None:
    assert updated({"turn_detection": {"type": "server_vad"}}).vad == VadSettings(0.5, 400, 500, 200)
    it = updated({"turn_detection": {"type": "azure_semantic_vad", "silence_duration_ms": 700}})
    assert it.vad == VadSettings(0.5, 420, 700, 80)


def test_null_detection_means_manual_turns() -> None:
    assert updated({"turn_detection": None}).vad is None


def test_a_null_inside_the_detection_means_its_default() -> None:
    it = updated({"turn_detection": {"type": "server_vad", "threshold": None, "speech_duration_ms": None}})
    assert it.vad == VadSettings(0.5, 400, 500, 200)


def test_the_model_cannot_be_changed() -> None:
    assert updated({"model": "gpt-5"}).session["model"] == "gpt-4.1-mini"


def test_newer_fields_appear_with_the_first_update() -> None:
    assert "greeting" not in configuration().session
    session = updated({}).session
    assert session["greeting"] is None and session["handoff"] is None


def test_voices_are_shown_in_full() -> None:
    assert updated({"voice": "verse"}).session["voice"] == {"name": "verse", "type": "openai"}
    voice = updated({"voice": {"type": "azure-standard", "name": "de-DE-KatjaNeural", "rate": "1.1"}}).session["voice"]
    assert voice.keys() == CASCADED.voice.keys()
    assert (voice["name"], voice["rate"], voice["style"]) == ("de-DE-KatjaNeural", "1.1", None)


def test_the_sampling_rate_sets_the_input_format() -> None:
    it = updated({"input_audio_format": "pcm16", "input_audio_sampling_rate": 16000})
    assert it.input_format == AudioFormat("pcm16", 16000)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"volume": 3}, "session.volume"),
        ({"instructions": 5}, "session.instructions"),
        ({"modalities": ["smell"]}, "session.modalities"),
        ({"modalities": "audio"}, "session.modalities"),
        ({"voice": "hal"}, "session.voice"),
        ({"voice": {"type": "azure-standard"}}, "session.voice.name"),
        ({"voice": {"type": "openai", "name": "hal"}}, "session.voice.name"),
        ({"voice": {"type": "clockwork", "name": "x"}}, "session.voice.type"),
        ({"input_audio_format": "mp3"}, "session.input_audio_format"),
        ({"input_audio_sampling_rate": 44100}, "session.input_audio_sampling_rate"),
        ({"input_audio_sampling_rate": 8000.0}, "session.input_audio_sampling_rate"),
        ({"output_audio_format": "pcm16-8000hz"}, "session.output_audio_format"),
        ({"turn_detection": {"type": "telepathy"}}, "session.turn_detection.type"),
        ({"turn_detection": {}}, "session.turn_detection.type"),
        ({"turn_detection": {"type": "server_vad", "threshold": 1.5}}, "session.turn_detection.threshold"),
        ({"turn_detection": {"type": "server_vad", "threshold": True}}, "session.turn_detection.threshold"),
        (
            {"turn_detection": {"type": "server_vad", "silence_duration_ms": -1}},
            "session.turn_detection.silence_duration_ms",
        ),
        ({"turn_detection": {"type": "server_vad", "eagerness": "high"}}, "session.turn_detection.eagerness"),
        ({"input_audio_noise_reduction": {"type": "magic"}}, "session.input_audio_noise_reduction.type"),
        ({"input_audio_transcription": {"model": "ear"}}, "session.input_audio_transcription.model"),
        ({"tools": [{"type": "function"}]}, "session.tools[0].name"),
        ({"tools": [{"type": "saw", "name": "x"}]}, "session.tools[0].type"),
        ({"tool_choice": "maybe"}, "session.tool_choice"),
        ({"max_response_output_tokens": 0}, "session.max_response_output_tokens"),
        ({"temperature": "hot"}, "session.temperature"),
        ({"include": ["everything"]}, "session.include"),
        ({"temperature": 3}, "session.temperature"),
        ({"metadata": {str(n): "" for n in range(17)}}, "session.metadata"),
        ({"turn_detection": {"type": "semantic_vad"}}, "session.turn_detection.type"),
        (
            {"turn_detection": {"type": "server_vad", "end_of_utterance_detection": {"model": "guess"}}},
            "session.turn_detection.end_of_utterance_detection.model",
        ),
        (
            {"turn_detection": {"type": "azure_semantic_vad", "end_of_utterance_detection": {"timeout_ms": 5}}},
            "session.turn_detection.end_of_utterance_detection.model",
        ),
        ({"turn_detection": {"type": "azure_semantic_vad", "languages": [1]}}, "session.turn_detection.languages[0]"),
        ({"voice": {"type": "azure-standard", "name": "x", "volumes": "1"}}, "session.voice.volumes"),
        ({"voice": {"type": "azure-standard", "name": "x", "rate": 1.1}}, "session.voice.rate"),
        ({"voice": {"type": "azure-personal", "name": "x"}}, "session.voice.model"),
        ({"input_audio_transcription": {"model": "whisper-1", "lang": "de"}}, "session.input_audio_transcription.lang"),
        ({"input_audio_transcription": {"language": "de"}}, "session.input_audio_transcription.model"),
        ({"input_audio_echo_cancellation": {"type": "echo"}}, "session.input_audio_echo_cancellation.type"),
        (
            {"input_audio_echo_cancellation": {"type": "server_echo_cancellation", "reference_source": "client"}},
            "session.input_audio_echo_cancellation.reference_source",
        ),
        (
            {"input_audio_echo_cancellation": {"type": "server_echo_cancellation", "channels": 2}},
            "session.input_audio_echo_cancellation.channels",
        ),
        (
            {"interim_response": {"type": "static_interim_response", "triggers": ["x"]}},
            "session.interim_response.triggers",
        ),
        ({"interim_response": {"type": "static_interim_response", "model": "x"}}, "session.interim_response.model"),
        ({"tools": [{"type": "function", "name": "f", "strict": True}]}, "session.tools[0].strict"),
        ({"tools": [{"type": "function", "name": "f"}, {"type": "function", "name": "f"}]}, "session.tools"),
        ({"tools": [{"type": "mcp", "server_label": "x"}]}, "session.tools[0].server_url"),
        (
            {"tools": [{"type": "mcp", "server_label": "x", "server_url": "y", "require_approval": "often"}]},
            "session.tools[0].require_approval",
        ),
        ({"tool_choice": {"type": "function"}}, "session.tool_choice.name"),
        ({"reasoning_effort": "heroic"}, "session.reasoning_effort"),
        ({"output_audio_timestamp_types": ["viseme"]}, "session.output_audio_timestamp_types"),
    ],
)
def test_a_bad_value_is_refused_by_name(changes: dict[str, Any], param: str) -> None:
    assert refusal(changes).param == param


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        (
            {
                "turn_detection": {
                    "type": "server_vad",
                    "end_of_utterance_detection": {"model": "semantic_detection_v1"},
                }
            },
            "session.turn_detection.end_of_utterance_detection",
        ),
        ({"interim_response": {"type": "llm_interim_response"}}, "session.interim_response"),
        ({"turn_detection": {"type": "semantic_vad", "eagerness": "mild"}}, "session.turn_detection.eagerness"),
        ({"turn_detection": {"type": "semantic_vad", "threshold": 0.5}}, "session.turn_detection.threshold"),
    ],
)
def test_a_native_model_refuses_what_it_does_by_itself(changes: dict[str, Any], param: str) -> None:
    assert refusal(changes, configuration(NATIVE, "gpt-realtime")).param == param


@pytest.mark.parametrize(
    "changes",
    [
        {"turn_detection": {"type": "server_vad", "idle_timeout_ms": 5000, "speech_duration_ms": 120}},
        {
            "turn_detection": {
                "type": "azure_semantic_vad_multilingual",
                "remove_filler_words": True,
                "languages": ["en", "de"],
                "end_of_utterance_detection": {
                    "model": "semantic_detection_v1_multilingual",
                    "threshold_level": "low",
                    "timeout_ms": 800,
                },
            }
        },
        {"voice": {"type": "azure-custom", "name": "x", "endpoint_id": "y", "temperature": 0.8}},
        {"voice": {"type": "azure-personal", "name": "x", "model": "DragonLatestNeural"}},
        {"input_audio_noise_reduction": {"type": "azure_deep_noise_suppression"}},
        {"input_audio_echo_cancellation": {"type": "server_echo_cancellation", "reference_source": "server"}},
        {"input_audio_transcription": {"model": "azure-speech", "language": "de-DE", "phrase_list": ["Contoso"]}},
        {"output_audio_timestamp_types": ["word"]},
        {"interim_response": {"type": "static_interim_response", "texts": ["Well."], "triggers": ["latency", "tool"]}},
        {"interim_response": {"type": "llm_interim_response", "instructions": "Brief.", "max_completion_tokens": 50}},
        {"tools": [{"type": "mcp", "server_label": "x", "server_url": "y", "require_approval": "never"}]},
        {"tools": [{"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}}]},
        {"tool_choice": {"type": "function", "name": "f"}, "parallel_tool_calls": False},
        {"reasoning_effort": "low", "temperature": 0.7, "max_response_output_tokens": 200, "metadata": {"a": "b"}},
    ],
)
def test_every_setting_is_echoed(changes: dict[str, Any]) -> None:
    session = updated(changes).session
    for name, value in changes.items():
        shown = session[name]
        assert shown == value or value.items() <= shown.items()


def test_a_native_model_takes_its_own_semantic_detection() -> None:
    it = updated({"turn_detection": {"type": "semantic_vad", "eagerness": "low"}}, NATIVE)
    assert it.turn_detection is not None
    assert (it.turn_detection["eagerness"], it.turn_detection["interrupt_response"]) == ("low", True)
    assert it.vad is not None


def test_a_refused_update_changes_nothing() -> None:
    it = configuration()
    before = dict(it.session)
    refusal({"instructions": "New.", "voice": "hal"}, it)
    assert it.session == before


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"input_audio_format": "g711_ulaw"}, "session.input_audio_format"),
        ({"input_audio_sampling_rate": 8000}, "session.input_audio_sampling_rate"),
        ({"turn_detection": {"type": "azure_semantic_vad"}}, "session.turn_detection.type"),
        ({"turn_detection": None}, "session.turn_detection.type"),
    ],
)
def test_the_format_and_the_detection_type_stay_once_set_or_audio_came(changes: dict[str, Any], param: str) -> None:
    assert refusal(changes, audio_heard=True).param == param
    first = {
        "input_audio_format": "pcm16",
        "input_audio_sampling_rate": 24000,
        "turn_detection": {"type": "server_vad"},
    }
    assert refusal(changes, updated(first)).param == param


def test_the_whole_session_may_be_sent_again() -> None:
    session = {"input_audio_format": "g711_ulaw", "turn_detection": {"type": "server_vad", "silence_duration_ms": 300}}
    it = updated(session)
    it.update({**session, "turn_detection": {"type": "server_vad", "silence_duration_ms": 900}}, audio_heard=True)
    assert it.vad == VadSettings(0.5, 400, 900, 200)


def test_gpt_realtime_2_with_azure_speech_takes_semantic_detection_only() -> None:
    it = configuration(NATIVE, "gpt-realtime-2")
    transcription = {"model": "azure-speech"}
    bad = {"input_audio_transcription": transcription, "turn_detection": {"type": "server_vad"}}
    assert refusal(bad, it).message == "turn_detection must be of type AzureSemanticVAD"
    it.update({**bad, "turn_detection": {"type": "azure_semantic_vad"}}, audio_heard=False)


def test_a_response_takes_the_session_and_what_it_overrides() -> None:
    it = updated({"output_audio_format": "g711_ulaw", "temperature": 0.7})
    options = it.response_options({"output_audio_format": "pcm16_8000hz", "voice": None, "tools": []})
    assert options["output_audio_format"] == "pcm16_8000hz"
    assert options["temperature"] == 0.7
    assert options["voice"] == it.session["voice"]


def test_a_response_is_refused_by_name_too() -> None:
    with pytest.raises(Refused) as refused:
        configuration().response_options({"max_output_tokens": -1})
    assert refused.value.param == "response.max_output_tokens"
