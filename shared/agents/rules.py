"""Which parts of an agent do not go together, and why. It knows nothing of files and resources."""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from shared.agents.model import Agent


class Problem(NamedTuple):
    """Fields that do not go together."""

    path: str
    """Where to look: the field's path within the agent."""
    text: str
    involves: tuple[str, ...]
    """The agent's own fields that the problem is about."""


def is_native(model: str) -> bool:
    """Whether a model hears and speaks by itself; all others are cascaded: recognition, a text model, a voice."""
    return "realtime" in model


def problems(agent: "Agent") -> Iterator[Problem]:
    """Yields everything about an agent that cannot work, or would be ignored."""
    yield from _model(agent)
    yield from _listening(agent)
    yield from _tools(agent)
    yield from _transfers(agent)
    yield from _conduct(agent)


def _model(agent: "Agent") -> Iterator[Problem]:
    if agent.foundry_agent is None:
        if not agent.model:
            yield Problem("model", "is missing; or set foundry_agent", ("model", "foundry_agent"))
        if is_native(agent.model) and agent.interim_response is not None:
            text = f"{agent.model} is a native model, and those say nothing in the meantime"
            yield Problem("interim_response", text, ("model", "interim_response"))
        return
    for field in ("model", "instructions", "tools", "temperature", "max_output_tokens", "reasoning_effort"):
        if getattr(agent, field) not in ("", (), None):
            text = "would be ignored: with foundry_agent it is set in Azure AI Foundry"
            yield Problem(field, text, (field, "foundry_agent"))


def _listening(agent: "Agent") -> Iterator[Problem]:
    detection, heard = agent.turn_detection, agent.transcription
    both = ("model", "turn_detection", "foundry_agent")
    if detection.type == "semantic_vad" and not is_native(agent.model):
        yield Problem("turn_detection.type", "semantic_vad needs a gpt-realtime model", both)
    if getattr(detection, "end_of_utterance_detection", None) is not None and is_native(agent.model):
        path = "turn_detection.end_of_utterance_detection"
        yield Problem(path, f"is for cascaded models, and {agent.model} is a native one", both)
    if detection.type == "semantic_vad" and detection.auto_truncate:
        yield Problem("turn_detection.auto_truncate", "semantic_vad has none", ("turn_detection",))
    if detection.auto_truncate and not detection.interrupt_response:
        path = "turn_detection.auto_truncate"
        yield Problem(path, "needs interrupt_response: otherwise no answer is ever cut off", ("turn_detection",))
    if detection.type == "server_vad" and agent.model.startswith("gpt-realtime-2") and heard.model == "azure-speech":
        text = f"{agent.model} with azure-speech transcription takes only the azure_semantic_vad detectors"
        yield Problem("turn_detection.type", text, ("model", "turn_detection", "transcription"))
    yield from _by_openai(agent)
    if heard.phrase_list and heard.model not in ("azure-speech", "mai-transcribe-1"):
        text = "is for azure-speech and mai-transcribe-1"
        yield Problem("transcription.phrase_list", text, ("transcription",))
    if heard.custom_speech and heard.model != "azure-speech":
        yield Problem("transcription.custom_speech", "is for azure-speech", ("transcription",))


def _by_openai(agent: "Agent") -> Iterator[Problem]:
    """What the native models do themselves, and nobody does for the others."""
    if is_native(agent.model):
        return
    if agent.transcription.model not in ("azure-speech", "mai-transcribe-1"):
        text = f"{agent.transcription.model} is for gpt-realtime models; others take azure-speech"
        yield Problem("transcription.model", text, ("model", "transcription", "foundry_agent"))
    if agent.noise_reduction in ("near_field", "far_field"):
        text = f"{agent.noise_reduction} is for gpt-realtime models; others take azure_deep_noise_suppression"
        yield Problem("noise_reduction", text, ("model", "noise_reduction", "foundry_agent"))


def _tools(agent: "Agent") -> Iterator[Problem]:
    counts = Counter(tool.name for tool in agent.tools)
    for name in (name for name, count in counts.items() if count > 1):
        yield Problem("tools", f"{name} is there {counts[name]} times", ("tools",))
    if "transfer_call" in counts and not agent.transfers:
        yield Problem("tools", "transfer_call has nowhere to go: there are no transfers", ("tools", "transfers"))


def _transfers(agent: "Agent") -> Iterator[Problem]:
    named = {f"dtmf.menu.{digit}.transfer": entry.transfer for digit, entry in agent.dtmf.menu.items()}
    for path, target in {**named, "fallback.transfer": agent.fallback.transfer}.items():
        if target is not None and target not in agent.transfers:
            known = ", ".join(sorted(agent.transfers)) or "none"
            yield Problem(path, f"{target} is not one of transfers ({known})", (path.partition(".")[0], "transfers"))


def _conduct(agent: "Agent") -> Iterator[Problem]:
    if agent.fallback.say is not None and agent.fallback.wav is not None:
        yield Problem("fallback", "needs at most one of say and wav", ("fallback",))
    if agent.limits.max_call_s and agent.limits.warning_s >= agent.limits.max_call_s:
        yield Problem("limits.warning_s", "must be less than max_call_s", ("limits",))
    if agent.reconnect.first_delay_s > agent.reconnect.max_delay_s:
        yield Problem("reconnect.first_delay_s", "must not be more than max_delay_s", ("reconnect",))
