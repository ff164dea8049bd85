"""Merges `session.update` into the session. Does not check single fields (see `checks`) or act on what it keeps.

A change is taken whole or not at all: the first bad value refuses it. `turn_detection.type` and the input format can
be set once, before any audio; the service refuses to change them later.
"""

from collections.abc import Mapping
from typing import Any, Final

from simulator.voicelive.audio import AudioFormat, input_format
from simulator.voicelive.checks import PATIENCE_MS, SESSION_CHECKS
from simulator.voicelive.profiles import NATIVE, Profile
from simulator.voicelive.refusal import Refused
from simulator.voicelive.vad import VadSettings

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
        if detection["type"] == "semantic_vad":
            return VadSettings(prefix_padding_ms=300, silence_duration_ms=PATIENCE_MS[detection["eagerness"]])
        speech_ms = detection["speech_duration_ms"]
        return VadSettings(
            threshold=detection["threshold"],
            prefix_padding_ms=detection["prefix_padding_ms"],
            silence_duration_ms=detection["silence_duration_ms"],
            speech_duration_ms=_DEFAULT_SPEECH_MS if speech_ms is None else speech_ms,
        )

    @property
    def mcp_servers(self) -> list[Mapping[str, Any]]:
        """The session's tools that are MCP servers."""
        return [tool for tool in self._session["tools"] if tool["type"] == "mcp"]

    def update(self, changes: Mapping[str, Any], *, audio_heard: bool) -> None:
        """Merge the `session` of a `session.update`; raises Refused, and keeps the old session, if any of it is bad."""
        changes = {name: value for name, value in changes.items() if name != "model"}  # the URL chose the model
        merged = dict(self._session)
        for name, value in changes.items():
            if name not in SESSION_CHECKS:
                raise Refused("unknown_parameter", f"Unknown parameter: 'session.{name}'.", f"session.{name}")
            merged[name] = SESSION_CHECKS[name](value, f"session.{name}")
        self._refuse_late_changes(merged, audio_heard)
        _refuse_bad_pairs(merged)
        self._refuse_for_profile(merged)
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
            check = SESSION_CHECKS["max_response_output_tokens" if name == "max_output_tokens" else name]
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

    def _refuse_for_profile(self, merged: Mapping[str, Any]) -> None:
        """Native models detect and speak by themselves; cascaded ones can be helped."""
        detection = merged["turn_detection"] or {}
        if self._profile is not NATIVE:
            if detection.get("type") == "semantic_vad":
                raise _not_for_model("session.turn_detection.type")
            return
        if detection.get("end_of_utterance_detection") is not None:
            raise _not_for_model("session.turn_detection.end_of_utterance_detection")
        if merged.get("interim_response") is not None:
            raise _not_for_model("session.interim_response")


def _not_for_model(param: str) -> Refused:
    return Refused("invalid_value", f"'{param}' is not supported with this model.", param)


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
