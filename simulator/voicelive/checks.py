"""The checks of a session's settings, one for each field of `session.update`. Does not merge or keep settings.

A check gets a value and its place (`session.voice`), and returns the value as the service shows it; it raises Refused.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from simulator.voicelive import shapes
from simulator.voicelive.audio import INPUT_ENCODINGS, INPUT_RATES, OUTPUT_FORMATS
from simulator.voicelive.profiles import CASCADED
from simulator.voicelive.refusal import Refused, invalid_type, invalid_value, one_of

SEMANTIC_VADS: Final = ("azure_semantic_vad", "azure_semantic_vad_en", "azure_semantic_vad_multilingual")

_OPENAI_VOICES: Final = ("alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar")
_VOICE_NEEDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "openai": ("name",),
        "azure-standard": ("name",),
        "azure-custom": ("name", "endpoint_id"),
        "azure-personal": ("name", "model"),
        "avatar-voice-sync": ("model",),
        "azure-realtime-native": ("name",),
    }
)
_AZURE_VOICE_NULLS: Final = {name: None for name, value in CASCADED.voice.items() if value is None}
_TRANSCRIBERS: Final = (
    "whisper-1",
    "gpt-4o-transcribe",
    "gpt-4o-mini-transcribe",
    "gpt-4o-transcribe-diarize",
    "mai-transcribe-1",
    "azure-speech",
)
_MULTILINGUAL: Final = "semantic_detection_v1_multilingual"
_INCLUDES: Final = (
    "item.input_audio_transcription.logprobs",
    "item.input_audio_transcription.phrases",
    "file_search_call.results",
)

_MAX_METADATA: Final = 16

# `server_vad` as `session.updated` fills it in (the session starts with other durations).
_UPDATED_VAD: Final = {"prefix_padding_ms": 400, "silence_duration_ms": 500}

# How long `semantic_vad` waits, by `eagerness`: it listens by energy like the others, only more or less patiently.
PATIENCE_MS: Final[Mapping[str, int]] = MappingProxyType({"low": 1000, "medium": 500, "high": 250, "auto": 500})

Check = Callable[[Any, str], Any]


def _nullable(check: Check) -> Check:
    return lambda value, param: None if value is None else check(value, param)


def _kind(expected: str, *types: type) -> Check:
    def check(value: Any, param: str) -> Any:
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise invalid_type(param, expected, value)
        return value

    return check


def _choice(*choices: str) -> Check:
    return lambda value, param: one_of(value, choices, param)


def _choices(*choices: str) -> Check:
    def check(value: Any, param: str) -> Any:
        _list(value, param)
        return [one_of(each, choices, param) for each in value]

    return check


def _number(low: float, high: float) -> Check:
    def check(value: Any, param: str) -> Any:
        if not low <= _a_number(value, param) <= high:
            raise invalid_value(param, value, f"a number from {low} to {high}")
        return value

    return check


_a_number = _kind("a number", int, float)
_object = _kind("an object", dict)
_list = _kind("an array", list)
_string = _kind("a string", str)
_boolean = _kind("a boolean", bool)


def _duration(value: Any, param: str) -> Any:
    if _kind("an integer", int)(value, param) < 0:
        message = f"Invalid '{param}': integer below minimum value. Expected a value >= 0, but got {value} instead."
        raise Refused("integer_below_min_value", message, param)
    return value


def _sampling_rate(value: Any, param: str) -> Any:
    if not isinstance(value, int) or value not in INPUT_RATES:
        raise invalid_value(param, value, "one of " + ", ".join(map(str, INPUT_RATES)))
    return value


def _typed(*kinds: str) -> Check:
    def check(value: Any, param: str) -> Any:
        one_of(_object(value, param).get("type"), kinds, f"{param}.type")
        return value

    return check


def _fields(checks: Mapping[str, Check], *required: str) -> Check:
    """An object of these fields and no others; those that are not required may be null."""

    def check(value: Any, param: str) -> Any:
        for name in required:
            if _object(value, param).get(name) is None:
                place = f"{param}.{name}"
                raise Refused("missing_required_parameter", f"Missing required parameter: '{place}'.", place)
        for name, given in _object(value, param).items():
            if name not in checks:
                raise Refused("unknown_parameter", f"Unknown parameter: '{param}.{name}'.", f"{param}.{name}")
            if given is not None:
                checks[name](given, f"{param}.{name}")
        return value

    return check


def _words(value: Any, param: str) -> Any:
    for index, each in enumerate(_list(value, param)):
        _name(each, f"{param}[{index}]")
    return value


def _name(value: Any, param: str) -> Any:
    if not isinstance(value, str) or not value:
        raise invalid_value(param, value, "a non-empty string")
    return value


_DETECTION_CHECKS: Final[Mapping[str, Check]] = MappingProxyType(
    {
        "threshold": _number(0.0, 1.0),
        "prefix_padding_ms": _duration,
        "silence_duration_ms": _duration,
        "speech_duration_ms": _nullable(_duration),
        "idle_timeout_ms": _nullable(_duration),
        "create_response": _boolean,
        "interrupt_response": _boolean,
        "auto_truncate": _boolean,
        "remove_filler_words": _boolean,
        "eagerness": _choice(*PATIENCE_MS),
        "end_of_utterance_detection": _nullable(
            _fields(
                {
                    "model": _choice("semantic_detection_v1", "semantic_detection_v1_en", _MULTILINGUAL),
                    "threshold_level": _choice("low", "medium", "high", "default"),
                    "timeout_ms": _duration,
                },
                "model",
            )
        ),
        "languages": _nullable(_words),
        "appended_text_after_truncation": _nullable(_string),
    }
)


def _turn_detection(value: Any, param: str) -> Any:
    if value is None:
        return None
    kinds = ("server_vad", "semantic_vad", *SEMANTIC_VADS)
    kind = one_of(_object(value, param).get("type"), kinds, f"{param}.type")
    filled = _detection(kind)
    for name, given in value.items():
        if name == "type":
            continue
        if name not in filled:
            raise Refused("unknown_parameter", f"Unknown parameter: '{param}.{name}'.", f"{param}.{name}")
        # A null stands for the default, wherever null is not a value of its own.
        if given is not None or filled[name] is None:
            filled[name] = _DETECTION_CHECKS[name](given, f"{param}.{name}")
    return filled


def _detection(kind: str) -> dict[str, Any]:
    if kind == "server_vad":
        return shapes.server_vad(**_UPDATED_VAD)
    return shapes.semantic_vad() if kind == "semantic_vad" else shapes.azure_semantic_vad(kind)


def _voice(value: Any, param: str) -> Any:
    if isinstance(value, str):
        return {"name": one_of(value, _OPENAI_VOICES, param), "type": "openai"}
    kind = one_of(_object(value, param).get("type"), _VOICE_NEEDS, f"{param}.type")
    for need in _VOICE_NEEDS[kind]:
        _name(value.get(need), f"{param}.{need}")
    if kind == "openai":
        one_of(value["name"], _OPENAI_VOICES, f"{param}.name")
    _fields({**_VOICE_CHECKS, **dict.fromkeys(("type", *_VOICE_NEEDS[kind]), _string)})(value, param)
    return {**_AZURE_VOICE_NULLS, **value} if kind == "azure-standard" else dict(value)


_VOICE_CHECKS: Final[Mapping[str, Check]] = MappingProxyType(
    {
        "temperature": _number(0.0, 1.0),
        "prefer_locales": _words,
        **dict.fromkeys(("custom_lexicon_url", "custom_text_normalization_url", "locale"), _string),
        **dict.fromkeys(("style", "pitch", "rate", "volume"), _string),
    }
)

_noise_reduction = _fields({"type": _choice("azure_deep_noise_suppression", "near_field", "far_field")}, "type")

_transcription = _fields(
    {
        "model": _choice(*_TRANSCRIBERS),
        "language": _string,
        "prompt": _string,
        "custom_speech": _object,
        "phrase_list": _words,
    },
    "model",
)

_echo_fields = _fields(
    {
        "type": _choice("server_echo_cancellation"),
        "reference_source": _choice("server", "client"),
        "channels": _number(1, 2),
    },
    "type",
)


def _echo_cancellation(value: Any, param: str) -> Any:
    """The client as reference needs a feature in the address that the simulator does not have."""
    _echo_fields(value, param)
    if value.get("reference_source") == "client":
        raise Refused("ec_not_supported", "Client echo reference is not enabled.", f"{param}.reference_source")
    if value.get("channels") == 2:
        message = "Two channels require the client as reference source."
        raise Refused("invalid_ec_channels_requires_client", message, f"{param}.channels")
    return value


_FUNCTION_FIELDS: Final = _fields(
    {"type": _string, "name": _name, "description": _string, "parameters": _object}, "name"
)
_MCP_FIELDS: Final = _fields(
    {
        "type": _string,
        "server_label": _name,
        "server_url": _name,
        "authorization": _string,
        "headers": _object,
        "allowed_tools": _words,
        "require_approval": lambda value, param: (
            value if isinstance(value, dict) else one_of(value, ("never", "always"), param)
        ),
    },
    "server_label",
    "server_url",
)


def _tools(value: Any, param: str) -> Any:
    for index, tool in enumerate(_list(value, param)):
        place = f"{param}[{index}]"
        kind = _typed("function", "mcp", "foundry_agent")(tool, place)["type"]
        if kind == "function":
            _FUNCTION_FIELDS(tool, place)
        elif kind == "mcp":
            _MCP_FIELDS(tool, place)
        else:
            _name(tool.get("name"), f"{place}.name")
    names = [tool["server_label" if tool["type"] == "mcp" else "name"] for tool in value]
    if len(set(names)) < len(names):
        raise Refused("invalid_value", f"Tool names in '{param}' must be unique.", param)
    return value


_INTERIM_FIELDS: Final[Mapping[str, Check]] = MappingProxyType(
    {"type": _string, "triggers": _choices("latency", "tool"), "latency_threshold_ms": _duration}
)
_STATIC_INTERIM: Final = _fields({**_INTERIM_FIELDS, "texts": _words})
_LLM_INTERIM: Final = _fields(
    {**_INTERIM_FIELDS, "model": _name, "instructions": _string, "max_completion_tokens": _duration}
)


def _interim_response(value: Any, param: str) -> Any:
    kind = _typed("static_interim_response", "llm_interim_response")(value, param)["type"]
    return (_STATIC_INTERIM if kind == "static_interim_response" else _LLM_INTERIM)(value, param)


def _metadata(value: Any, param: str) -> Any:
    if len(_object(value, param)) > _MAX_METADATA:
        raise Refused("invalid_value", f"'{param}' holds at most {_MAX_METADATA} pairs.", param)
    return value


def _tool_choice(value: Any, param: str) -> Any:
    if isinstance(value, dict):
        if _typed("function", "mcp")(value, param)["type"] == "function":
            _name(value.get("name"), f"{param}.name")
        return value
    return one_of(value, ("auto", "none", "required"), param)


def _token_limit(value: Any, param: str) -> Any:
    if value != "inf" and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise invalid_value(param, value, "a positive integer or 'inf'")
    return value


# Every field of RequestSession, and what the wire carries beyond it.
SESSION_CHECKS: Final[Mapping[str, Check]] = MappingProxyType(
    {
        "modalities": _choices("text", "audio", "animation", "avatar"),
        "instructions": _string,
        "voice": _voice,
        "input_audio_format": _choice(*INPUT_ENCODINGS),
        "input_audio_sampling_rate": _sampling_rate,
        "output_audio_format": _nullable(_choice(*OUTPUT_FORMATS)),
        "turn_detection": _turn_detection,
        "input_audio_noise_reduction": _nullable(_noise_reduction),
        "input_audio_echo_cancellation": _nullable(_echo_cancellation),
        "input_audio_transcription": _nullable(_transcription),
        "output_audio_timestamp_types": _nullable(_choices("word")),
        "tools": _tools,
        "tool_choice": _tool_choice,
        "parallel_tool_calls": _nullable(_boolean),
        "temperature": _nullable(_number(0.0, 2.0)),
        "max_response_output_tokens": _token_limit,
        "reasoning_effort": _nullable(_choice("none", "minimal", "low", "medium", "high", "xhigh")),
        "interim_response": _nullable(_interim_response),
        "include": _nullable(_choices(*_INCLUDES)),
        "animation": _nullable(_object),
        "avatar": _nullable(_object),
        "metadata": _nullable(_metadata),
        "truncation_strategy": _nullable(_object),
        "greeting": _nullable(_object),
        "handoff": _nullable(_object),
    }
)
