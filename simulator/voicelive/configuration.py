"""Merges and checks `session.update`. Does not act on the settings it keeps.

A change is taken whole or not at all: the first bad value refuses it. `turn_detection.type` and the input format can
be set once, before any audio; the service refuses to change them later.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from simulator.voicelive import shapes
from simulator.voicelive.audio import INPUT_ENCODINGS, INPUT_RATES, OUTPUT_FORMATS, AudioFormat, input_format
from simulator.voicelive.profiles import CASCADED, Profile
from simulator.voicelive.refusal import Refused, invalid_type, invalid_value, one_of
from simulator.voicelive.vad import VadSettings

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
_INCLUDES: Final = (
    "item.input_audio_transcription.logprobs",
    "item.input_audio_transcription.phrases",
    "file_search_call.results",
)

# `server_vad` as `session.updated` fills it in (the session starts with other durations).
_UPDATED_VAD: Final = {"prefix_padding_ms": 400, "silence_duration_ms": 500}

# What the null `speech_duration_ms` of `server_vad` means.
_DEFAULT_SPEECH_MS: Final = 200


class Configuration:
    """The session object a client sees and the settings the simulator reads from it."""

    def __init__(self, session: dict[str, Any], profile: Profile) -> None:
        self._session = session
        self._profile = profile
        self._settled: set[str] = set()

    @property
    def session(self) -> Mapping[str, Any]:
        return self._session

    @property
    def input_format(self) -> AudioFormat:
        return input_format(self._session["input_audio_format"], self._session["input_audio_sampling_rate"])

    @property
    def turn_detection(self) -> Mapping[str, Any] | None:
        detection: Mapping[str, Any] | None = self._session["turn_detection"]
        return detection

    @property
    def vad(self) -> VadSettings | None:
        """How to detect speech; None when turns are manual."""
        detection = self.turn_detection
        if detection is None:
            return None
        speech_ms = detection["speech_duration_ms"]
        return VadSettings(
            threshold=detection["threshold"],
            prefix_padding_ms=detection["prefix_padding_ms"],
            silence_duration_ms=detection["silence_duration_ms"],
            speech_duration_ms=_DEFAULT_SPEECH_MS if speech_ms is None else speech_ms,
        )

    def update(self, changes: Mapping[str, Any], *, audio_heard: bool) -> None:
        """Merge the `session` of a `session.update`; raises Refused, and keeps the old session, if any of it is bad."""
        changes = {name: value for name, value in changes.items() if name != "model"}  # the URL chose the model
        merged = dict(self._session)
        for name, value in changes.items():
            if name not in _CHECKS:
                raise Refused("unknown_parameter", f"Unknown parameter: 'session.{name}'.", f"session.{name}")
            merged[name] = _CHECKS[name](value, f"session.{name}")
        self._refuse_late_changes(merged, audio_heard)
        _refuse_bad_pairs(merged)
        self._settled |= {"input_audio_format", "input_audio_sampling_rate", "turn_detection"} & changes.keys()
        self._session = {**merged, "greeting": merged.get("greeting"), "handoff": merged.get("handoff")}

    def response_options(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The session's settings for one response, with those `response.create` overrides; raises Refused."""
        options = {
            "modalities": self._session["modalities"],
            "voice": self._session["voice"],
            "output_audio_format": self._session["output_audio_format"],
            "temperature": self._session.get("temperature"),
            "max_output_tokens": self._session["max_response_output_tokens"],
            "metadata": None,
        }
        for name in options.keys() & params.keys():
            check = _CHECKS["max_response_output_tokens" if name == "max_output_tokens" else name]
            if params[name] is not None:
                options[name] = check(params[name], f"response.{name}")
        return options

    def _refuse_late_changes(self, merged: Mapping[str, Any], audio_heard: bool) -> None:
        for name in ("input_audio_format", "input_audio_sampling_rate"):
            if merged[name] != self._session[name] and (audio_heard or name in self._settled):
                raise _settled(f"session.{name}")
        kinds = [d and d["type"] for d in (self._session["turn_detection"], merged["turn_detection"])]
        if kinds[0] != kinds[1] and (audio_heard or "turn_detection" in self._settled):
            raise _settled("session.turn_detection.type")


def _settled(param: str) -> Refused:
    return Refused("invalid_value", f"Cannot change '{param}' once it is set or audio was received.", param)


def _refuse_bad_pairs(session: Mapping[str, Any]) -> None:
    """gpt-realtime-2 with Azure recognition takes only the semantic detectors."""
    transcription, detection = session["input_audio_transcription"], session["turn_detection"]
    recognises = transcription is not None and transcription.get("model") == "azure-speech"
    if str(session["model"]).startswith("gpt-realtime-2") and recognises:
        if detection is not None and detection["type"] == "server_vad":
            message = "turn_detection must be of type AzureSemanticVAD"
            raise Refused("invalid_value", message, "session.turn_detection.type")


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
        "end_of_utterance_detection": _nullable(_object),
        "languages": _nullable(_list),
        "appended_text_after_truncation": _nullable(_string),
    }
)


def _turn_detection(value: Any, param: str) -> Any:
    if value is None:
        return None
    kind = one_of(_object(value, param).get("type"), ("server_vad", *SEMANTIC_VADS), f"{param}.type")
    filled = shapes.server_vad(**_UPDATED_VAD) if kind == "server_vad" else shapes.azure_semantic_vad(kind)
    for name, given in value.items():
        if name == "type":
            continue
        if name not in filled:
            raise Refused("unknown_parameter", f"Unknown parameter: '{param}.{name}'.", f"{param}.{name}")
        # A null stands for the default, wherever null is not a value of its own.
        if given is not None or filled[name] is None:
            filled[name] = _DETECTION_CHECKS[name](given, f"{param}.{name}")
    return filled


def _voice(value: Any, param: str) -> Any:
    if isinstance(value, str):
        return {"name": one_of(value, _OPENAI_VOICES, param), "type": "openai"}
    kind = one_of(_object(value, param).get("type"), _VOICE_NEEDS, f"{param}.type")
    for need in _VOICE_NEEDS[kind]:
        if not isinstance(value.get(need), str) or not value[need]:
            raise invalid_value(f"{param}.{need}", value.get(need), "a non-empty string")
    if kind == "openai":
        one_of(value["name"], _OPENAI_VOICES, f"{param}.name")
    return {**_AZURE_VOICE_NULLS, **value} if kind == "azure-standard" else dict(value)


def _transcription(value: Any, param: str) -> Any:
    one_of(_object(value, param).get("model"), _TRANSCRIBERS, f"{param}.model")
    return value


def _tools(value: Any, param: str) -> Any:
    for index, tool in enumerate(_list(value, param)):
        kind = _typed("function", "mcp", "foundry_agent")(tool, f"{param}[{index}]")["type"]
        if kind == "function" and not tool.get("name"):
            raise invalid_value(f"{param}[{index}].name", tool.get("name"), "a non-empty string")
    return value


def _tool_choice(value: Any, param: str) -> Any:
    if isinstance(value, dict):
        return _typed("function", "mcp")(value, param)
    return one_of(value, ("auto", "none", "required"), param)


def _token_limit(value: Any, param: str) -> Any:
    if value != "inf" and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise invalid_value(param, value, "a positive integer or 'inf'")
    return value


# Every field of RequestSession, and what the wire carries beyond it.
_CHECKS: Final[Mapping[str, Check]] = MappingProxyType(
    {
        "modalities": _choices("text", "audio", "animation", "avatar"),
        "instructions": _string,
        "voice": _voice,
        "input_audio_format": _choice(*INPUT_ENCODINGS),
        "input_audio_sampling_rate": _sampling_rate,
        "output_audio_format": _nullable(_choice(*OUTPUT_FORMATS)),
        "turn_detection": _turn_detection,
        "input_audio_noise_reduction": _nullable(_typed("azure_deep_noise_suppression", "near_field", "far_field")),
        "input_audio_echo_cancellation": _nullable(_typed("server_echo_cancellation")),
        "input_audio_transcription": _nullable(_transcription),
        "output_audio_timestamp_types": _nullable(_choices("word")),
        "tools": _tools,
        "tool_choice": _tool_choice,
        "parallel_tool_calls": _nullable(_boolean),
        "temperature": _nullable(_a_number),
        "max_response_output_tokens": _token_limit,
        "reasoning_effort": _nullable(_choice("none", "minimal", "low", "medium", "high", "xhigh")),
        "interim_response": _nullable(_typed("static_interim_response", "llm_interim_response")),
        "include": _nullable(_choices(*_INCLUDES)),
        "animation": _nullable(_object),
        "avatar": _nullable(_object),
        "metadata": _nullable(_object),
        "truncation_strategy": _nullable(_object),
        "greeting": _nullable(_object),
        "handoff": _nullable(_object),
    }
)
