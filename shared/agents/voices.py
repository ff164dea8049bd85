"""The voices an agent can speak with, typed as Voice Live takes them (`voice` of the session).

It does not know which voices there are beyond the closed lists, nor in which regions.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from shared.agents.parts import ImpliedType, Line, Part, Shorthand, WebAddress

Rate = Annotated[str, Field(pattern=r"^(0\.[5-9]\d*|1(\.[0-4]\d*|\.50*)?)$")]


class _AzureVoice(Part):
    name: Line
    """Name of the voice."""
    temperature: float | None = Field(default=None, ge=0, le=1)
    """How varied an HD voice speaks, 0 to 1."""
    rate: Rate | None = None
    """Speed, as text: "0.5" to "1.5"."""
    style: Line | None = None
    """Speaking style, of voices that have some: cheerful, sad and so on."""
    pitch: Line | None = None
    """As in SSML's prosody: +10%, -2st, low."""
    volume: Line | None = None
    """As in SSML's prosody: 0 to 100, +10, loud."""
    locale: Line | None = None
    """The only locale to speak, BCP 47 (en-US); without it the voice goes by the text."""
    prefer_locales: tuple[Line, ...] = ()
    """Accents to prefer, per language: en-GB, es-ES."""
    custom_lexicon_url: WebAddress | None = None
    """Where the service finds a lexicon of pronunciations."""


class AzureStandardVoice(_AzureVoice):
    """A voice out of the Azure catalogue."""

    type: Literal["azure-standard"] = "azure-standard"
    """Says that it is one of Azure's."""


class AzureCustomVoice(_AzureVoice):
    """A voice that was trained for its owner."""

    type: Literal["azure-custom"]
    """Says that it is a custom voice."""
    endpoint_id: Line
    """Deployment of the voice."""


class AzurePersonalVoice(_AzureVoice):
    """A person's own voice."""

    type: Literal["azure-personal"]
    """Says that it is a personal voice; `name` is its speaker profile."""
    model: Literal[
        "DragonLatestNeural", "PhoenixLatestNeural", "PhoenixV2Neural", "DragonHDOmniLatestNeural", "MAI-Voice-1"
    ]
    """What speaks with the personal voice."""


class OpenAIVoice(Part):
    """A voice of the gpt-realtime models."""

    type: Literal["openai"]
    """Says that it is one of OpenAI's."""
    name: Literal["alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar"]
    """Name of the voice."""


class AzureRealtimeNativeVoice(Part):
    """A voice of the azure-realtime model."""

    type: Literal["azure-realtime-native"]
    """Says that it is one of the model's own."""
    name: Literal[
        "aarti",
        "andrew",
        "ava",
        "denise",
        "diya",
        "elsa",
        "florian",
        "francisca",
        "meera",
        "xiaoxiao",
        "yunxi",
        "ximena",
    ]
    """Name of the voice."""


def _by_name(name: str) -> dict[str, Any]:
    """Azure voices carry their locale (en-US-AvaNeural), OpenAI's are one word."""
    return {"type": "azure-standard" if "-" in name else "openai", "name": name}


Voice = Annotated[
    Annotated[
        AzureStandardVoice | AzureCustomVoice | AzurePersonalVoice | OpenAIVoice | AzureRealtimeNativeVoice,
        Field(discriminator="type"),
        ImpliedType("azure-standard"),
    ],
    Shorthand(_by_name),
]
