"""An agent in Voice Live's words: the `session` of session.update.

Pure; it checks nothing (the agent file's model has) and sends nothing. What an agent does not set is left out, so that
the service's default holds. Names are those of `azure.ai.voicelive.models.RequestSession`.
"""

from typing import Any

from pydantic import BaseModel

from shared.agents.model import Agent, InterimResponse, Transcription, TurnDetection

_INTERIM_TYPES = {"static": "static_interim_response", "llm": "llm_interim_response"}


def session_update(
    agent: Agent, instructions: str, encoding: str, rate: int, tools: list[dict[str, Any]]
) -> dict[str, Any]:
    """Returns the whole `session`: the service treats each update as a replacement.

    `instructions` are the agent's, filled in; `encoding` and `rate` (samples per second) are those of the audio, both
    ways; `tools` are the definitions of the agent's tools. With a Foundry agent what is set in Foundry is left out.
    """
    session: dict[str, Any] = {
        "modalities": ["text", "audio"],
        "voice": _set_fields(agent.voice),
        "input_audio_format": encoding,
        "input_audio_sampling_rate": rate,
        "output_audio_format": encoding,
        "turn_detection": _turn_detection(agent.turn_detection),
        "input_audio_transcription": _transcription(agent.transcription),
    }
    if agent.noise_reduction is not None:
        session["input_audio_noise_reduction"] = {"type": agent.noise_reduction}
    if agent.echo_cancellation:
        session["input_audio_echo_cancellation"] = {"type": "server_echo_cancellation"}
    if agent.interim_response is not None:
        session["interim_response"] = _interim_response(agent.interim_response)
    return session if agent.foundry_agent is not None else session | _thinking(agent, instructions, tools)


def _thinking(agent: Agent, instructions: str, tools: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns what is the model's, and in agent mode lives in Foundry."""
    fields: dict[str, Any] = {"instructions": instructions}
    if tools:
        fields["tools"] = tools
    if agent.temperature is not None:
        fields["temperature"] = agent.temperature
    if agent.max_output_tokens is not None:
        fields["max_response_output_tokens"] = agent.max_output_tokens
    if agent.reasoning_effort is not None:
        fields["reasoning_effort"] = agent.reasoning_effort
    return fields


def _turn_detection(detection: TurnDetection) -> dict[str, Any]:
    fields = _set_fields(detection)
    if detection.type == "semantic_vad":
        del fields["auto_truncate"]  # OpenAI's detector has none
    return fields


def _transcription(transcription: Transcription) -> dict[str, Any]:
    fields = _set_fields(transcription)
    if not transcription.custom_speech:
        del fields["custom_speech"]
    return fields


def _interim_response(interim: InterimResponse) -> dict[str, Any]:
    return _set_fields(interim) | {"type": _INTERIM_TYPES[interim.type]}


def _set_fields(part: BaseModel) -> dict[str, Any]:
    """Returns the part's fields as JSON values, without those that are not set and without empty lists."""
    fields = part.model_dump(mode="json", exclude_none=True)
    return {name: value for name, value in fields.items() if value != []}
