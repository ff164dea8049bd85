"""How it is told that the caller has begun or finished speaking, typed as Voice Live takes it (`turn_detection`).

What is not set is not sent, so that the service's own default holds.
"""

from typing import Annotated, Literal

from pydantic import Field

from shared.agents.parts import ImpliedType, Line, Part

Milliseconds = Annotated[int, Field(ge=0, le=60_000)]


class EndOfUtterance(Part):
    """A model that tells from the words whether the caller has finished. For cascaded models only."""

    model: Literal["semantic_detection_v1", "semantic_detection_v1_en", "semantic_detection_v1_multilingual"] = (
        "semantic_detection_v1"
    )
    """Which model; the plain one and _en know English, _multilingual others too."""
    threshold_level: Literal["low", "medium", "high", "default"] | None = None
    """How sure it has to be."""
    timeout_ms: Milliseconds | None = None
    """Longest wait for more words, in ms; 1000 when not set."""


class _TurnDetection(Part):
    create_response: bool = True
    """The model answers as soon as the caller has finished."""
    interrupt_response: bool = True
    """The caller may speak over the model."""
    auto_truncate: bool = False
    """The service guesses what an interrupted caller heard, instead of being told what was played."""


class _LoudnessDetection(_TurnDetection):
    threshold: float | None = Field(default=None, ge=0, le=1)
    """How much like speech it has to be, 0 to 1."""
    prefix_padding_ms: Milliseconds | None = None
    """Audio taken from before the speech began, in ms."""
    silence_duration_ms: Milliseconds | None = None
    """Silence that ends the caller's turn, in ms."""
    speech_duration_ms: Milliseconds | None = None
    """Speech that begins the caller's turn, in ms."""
    end_of_utterance_detection: EndOfUtterance | None = None
    """A model that also goes by the words."""


class _FillerRemoval(_LoudnessDetection):
    remove_filler_words: bool | None = None
    """Words like "um" do not interrupt."""


class ServerVad(_LoudnessDetection):
    """Goes by loudness and silence."""

    type: Literal["server_vad"]
    """Loudness and silence."""
    idle_timeout_ms: Annotated[int, Field(ge=1_000, le=600_000)] | None = None
    """Silence of the caller after which the model speaks up by itself, in ms."""


class SemanticVad(_TurnDetection):
    """OpenAI's: the model judges by itself whether the caller has finished. For gpt-realtime models only."""

    type: Literal["semantic_vad"]
    """The model's own judgement."""
    eagerness: Literal["low", "medium", "high", "auto"] | None = None
    """How soon it answers."""


class AzureSemanticVad(_FillerRemoval):
    """Azure's: tells speech from other sounds."""

    type: Literal["azure_semantic_vad"] = "azure_semantic_vad"
    """Azure's; goes by speech."""
    languages: tuple[Line, ...] = ()
    """Languages whose filler words it knows: en, de."""


class AzureSemanticVadEn(_FillerRemoval):
    """Azure's, for English only."""

    type: Literal["azure_semantic_vad_en"]
    """Azure's; English only."""


class AzureSemanticVadMultilingual(_FillerRemoval):
    """Azure's, for many languages."""

    type: Literal["azure_semantic_vad_multilingual"]
    """Azure's; many languages."""
    languages: tuple[Line, ...] = ()
    """Languages whose filler words it knows: en, de."""


TurnDetection = Annotated[
    ServerVad | SemanticVad | AzureSemanticVad | AzureSemanticVadEn | AzureSemanticVadMultilingual,
    Field(discriminator="type"),
    ImpliedType("azure_semantic_vad"),
]
