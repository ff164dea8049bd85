"""The agent file's typed model: who answers, as whom, by which rules. JSON Schema and tables are made from it.

It reads no environment and no file (`shared/agents/file.py` does) but the header of a WAV that is named, and knows
nothing of Voice Live's own words beyond names of models, voices and detectors.
"""

from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from shared.agents import rules
from shared.agents.conduct import (
    DeadAir,
    Dtmf,
    Fallback,
    Greeting,
    Keep,
    Limits,
    MenuEntry,
    Reconnect,
    Silence,
    Sound,
    Template,
    Transfer,
    TransferTarget,
)
from shared.agents.outline import Asks, Outline, Quota
from shared.agents.parts import Line, Name, Part, Secret, Shorthand, Spoken
from shared.agents.problems import COMBINATION
from shared.agents.routes import Route
from shared.agents.tools import (
    CollectDigitsTool,
    HangUpTool,
    HttpTool,
    McpTool,
    PythonTool,
    SendDtmfTool,
    Tool,
    TransferTool,
)
from shared.agents.turn_detection import (
    AzureSemanticVad,
    AzureSemanticVadEn,
    AzureSemanticVadMultilingual,
    EndOfUtterance,
    SemanticVad,
    ServerVad,
    TurnDetection,
)
from shared.agents.voices import (
    AzureCustomVoice,
    AzurePersonalVoice,
    AzureRealtimeNativeVoice,
    AzureStandardVoice,
    OpenAIVoice,
    Voice,
)
from shared.choices import AudioFormat

__all__ = [
    "Agent",
    "AgentFile",
    "AzureCustomVoice",
    "AzurePersonalVoice",
    "AzureRealtimeNativeVoice",
    "AzureSemanticVad",
    "AzureSemanticVadEn",
    "AzureSemanticVadMultilingual",
    "AzureStandardVoice",
    "CollectDigitsTool",
    "DeadAir",
    "Dtmf",
    "EndOfUtterance",
    "Fallback",
    "FoundryAgent",
    "Greeting",
    "HangUpTool",
    "HttpTool",
    "InterimResponse",
    "Keep",
    "Limits",
    "LlmInterimResponse",
    "McpTool",
    "MenuEntry",
    "OpenAIVoice",
    "Price",
    "PythonTool",
    "Quota",
    "Reconnect",
    "Resource",
    "Route",
    "SemanticVad",
    "SendDtmfTool",
    "ServerVad",
    "Silence",
    "Sound",
    "StaticInterimResponse",
    "Tool",
    "Transcription",
    "TransferTarget",
    "TransferTool",
    "TurnDetection",
    "Voice",
]


class FoundryAgent(Part):
    """An agent of Azure AI Foundry that answers instead of a model. Instructions, model and tools live there."""

    name: Line
    """Name of the agent."""
    project: Line
    """Project the agent belongs to."""
    version: Line | None = None
    """Version of the agent; without it the newest."""
    conversation_id: Line | None = None
    """Conversation to go on with."""


class Transcription(Part):
    """How the caller's words become text."""

    model: Literal[
        "azure-speech",
        "whisper-1",
        "gpt-4o-transcribe",
        "gpt-4o-mini-transcribe",
        "gpt-4o-transcribe-diarize",
        "mai-transcribe-1",
    ] = "azure-speech"
    """What listens."""
    language: Line | None = None
    """Language spoken (en-US, or several: en,de); without it the model finds out."""
    phrase_list: tuple[Line, ...] = ()
    """Words to expect: names, products. For azure-speech and mai-transcribe-1."""
    custom_speech: dict[Line, Line] = Field(default_factory=dict)
    """Custom speech models, by locale. For azure-speech."""


class _InterimResponse(Part):
    triggers: Annotated[tuple[Literal["latency", "tool"], ...], Field(min_length=1)] | None = None
    """What it is said for: a slow answer, a running tool."""
    latency_threshold_ms: int | None = Field(default=None, ge=0, le=60_000)
    """Wait that counts as slow, in ms; 2000 when not set."""


class StaticInterimResponse(_InterimResponse):
    """One of some fixed texts, while the answer takes its time."""

    type: Literal["static"]
    """Fixed texts."""
    texts: tuple[Spoken, ...] = Field(min_length=1)
    """One of them is said."""


class LlmInterimResponse(_InterimResponse):
    """A few words by a model, while the answer takes its time."""

    type: Literal["llm"]
    """Made by a model."""
    model: Line | None = None
    """Which model; gpt-4.1-mini when not set."""
    instructions: Spoken | None = None
    """What that model is told."""
    max_completion_tokens: int | None = Field(default=None, ge=1, le=1_000)
    """Longest text, in tokens; 50 when not set."""


InterimResponse = Annotated[StaticInterimResponse | LlmInterimResponse, Field(discriminator="type")]


def _time_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError("must be a time zone like Europe/Berlin") from error
    return name


class Agent(Asks):
    """Who answers a call: the model, how it speaks and listens, and how the call is conducted."""

    name: Name
    """Its key in the file; not written again."""
    model: Annotated[str, Field(pattern=r"^[^\x00-\x20]{0,200}$")] = ""
    """Model that answers; VOICE_LIVE_MODEL where it is not written."""
    foundry_agent: FoundryAgent | None = None
    """Answers instead of a model; not with an API key."""
    instructions: Template = ""
    """What the model is told about its task; may name what is known of the call."""
    greeting: Annotated[Greeting, Shorthand(lambda text: {"text": text})] | None = None
    """Said before the caller speaks; null is nothing."""
    goodbye: Spoken = "Goodbye."
    """Said before hanging up when the model has said none."""
    voice: Voice = Field(default_factory=lambda: AzureStandardVoice(name="en-US-AvaNeural"))
    """The voice, or its name."""
    audio_format: AudioFormat = AudioFormat.G711
    """g711 (telephone audio straight through) or pcm16 (24 kHz)."""
    uplink_ms: int = Field(default=40, ge=20, le=200, multiple_of=20)
    """Caller audio per message to Voice Live, in ms: a multiple of 20."""
    turn_detection: TurnDetection = Field(default_factory=AzureSemanticVad)
    """How it is told that the caller has begun or finished speaking."""
    noise_reduction: Literal["azure_deep_noise_suppression", "near_field", "far_field"] | None = None
    """What the service does against noise on the line."""
    echo_cancellation: bool = False
    """The service takes out its own voice; telephone networks do so already."""
    transcription: Transcription = Field(default_factory=Transcription)
    """How the caller's words become text."""
    temperature: float | None = Field(default=None, ge=0, le=1)
    """How varied the model answers, 0 to 1."""
    max_output_tokens: int | None = Field(default=None, ge=1)
    """Longest answer, in tokens; null is no limit."""
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    """How long a reasoning model thinks."""
    interim_response: InterimResponse | None = None
    """What the service says while the answer takes its time. Not with native models (realtime in the name)."""
    tools: tuple[Tool, ...] = ()
    """What the model can do; built-in tools may be written by their names alone."""
    dtmf: Dtmf = Field(default_factory=Dtmf)
    """What is done with digits the caller types."""
    silence: Silence = Field(default_factory=Silence)
    """What is done when the caller says nothing."""
    limits: Limits = Field(default_factory=Limits)
    """How long a call may take."""
    dead_air: DeadAir = Field(default_factory=DeadAir)
    """What the caller hears while an answer is long in coming."""
    reconnect: Reconnect = Field(default_factory=Reconnect)
    """What is done when the connection to Voice Live is lost."""
    fallback: Fallback = Field(default_factory=Fallback)
    """What is done for the caller when the session is lost in the course of a call and there will be none; before the
    answer the caller's side gets 503 or 500 instead."""
    keep: Keep = Field(default_factory=Keep)
    """What is kept of a call in its record."""
    language: Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[a-zA-Z0-9]+)*$")] = "en"
    """Language of what the worker itself says: a voice of espeak-ng (en, de, pt-br)."""
    timezone: Annotated[str, AfterValidator(_time_zone)] = "UTC"
    """Time zone of `time` and `date` in texts."""
    transfers: dict[Name, Transfer] = Field(default_factory=dict)
    """Where callers can be transferred to, by name, beside those of the whole file."""

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        problems = list(rules.problems(self))
        if problems:
            text = "; ".join(f"{problem.path}: {problem.text}" for problem in problems)
            raise PydanticCustomError(COMBINATION, "{text}", {"text": text, "problems": problems})
        return self


class Resource(Part):
    """A Voice Live resource."""

    endpoint: Annotated[Line, Field(pattern=r"^(https|http|wss|ws)://[^/\s]+")]
    """URL of the resource."""
    api_key: Secret | None = None
    """Its API key, as {secret: NAME}; without it Microsoft Entra signs in."""
    quota: Quota = Field(default_factory=Quota)
    """How much of it the pool may use."""


Amount = Annotated[float, Field(ge=0)]


class Price(Part):
    """What a million tokens cost."""

    input_text: Amount
    """Text in."""
    input_audio: Amount
    """Audio in."""
    cached_text: Amount
    """Text in, from the service's cache."""
    cached_audio: Amount
    """Audio in, from the service's cache."""
    output_text: Amount
    """Text out."""
    output_audio: Amount
    """Audio out."""


class AgentFile(Outline):
    """The whole file, before defaults are put under its agents."""

    resources: dict[Name, Resource] = Field(default_factory=dict)
    """Voice Live resources, by name."""
    prices: dict[Line, Price] = Field(default_factory=dict)
    """What a million tokens cost, by model; "*" is any other. They make the cost in call records."""
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "USD"
    """Currency of the prices."""
    transfers: dict[Name, Transfer] = Field(default_factory=dict)
    """Where every agent can transfer callers to, by name."""
