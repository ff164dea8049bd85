"""The two kinds of model behind Voice Live and how fast each sends speech: tables. Does not send anything.

`native` is a speech-to-speech model (gpt-realtime); `cascaded` is recognition, a text model and an Azure voice
(gpt-4.1-mini). Times were measured on recordings, in seconds after the caller stopped speaking.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, slots=True)
class Pace:
    """How a reply's audio is cut and sent: chunk lengths in ms (the last one repeats) and speed over real time."""

    chunks_ms: tuple[int, ...]
    realtime_factor: float

    def chunk_lengths(self) -> Iterator[int]:
        yield from self.chunks_ms[:-1]
        while True:
            yield self.chunks_ms[-1]


PACES: Mapping[str, Pace] = MappingProxyType(
    {
        # An Azure voice: 200, 300, then 500 ms; 11 times real time is the slowest recorded.
        "azure": Pace((200, 300, 500), 11.0),
        # A speech-to-speech model: 400 ms, 2 to 4 times real time.
        "openai": Pace((400,), 3.0),
        "instant": Pace((200, 300, 500), math.inf),
    }
)


@dataclass(frozen=True, slots=True)
class Profile:
    """What differs between the two kinds of model, event for event.

    Times of `transcript`, `item` and `words_end` are fractions of the first-audio delay, so that a shorter delay
    shortens the whole turn and keeps its order.
    """

    name: str
    voice: Mapping[str, Any]
    pace: str
    first_audio_s: float
    transcript: float
    item: float
    words_end: float
    reply_prefix: str
    reply_status: str
    item_done: bool


NATIVE = Profile(
    name="native",
    voice=MappingProxyType({"name": "alloy", "type": "openai"}),
    pace="openai",
    first_audio_s=0.6,  # not recorded: a figure between the faster and the slower reports
    transcript=1.2,  # the caller's transcript arrives among the reply's own events
    item=0.75,
    words_end=0.0,  # unused: the words travel with the audio
    reply_prefix="item",
    reply_status="in_progress",
    item_done=True,
)

CASCADED = Profile(
    name="cascaded",
    voice=MappingProxyType(
        {
            "name": "en-US-AvaNeural",
            "type": "azure-standard",
            "temperature": None,
            "custom_lexicon_url": None,
            "custom_text_normalization_url": None,
            "prefer_locales": None,
            "locale": None,
            "style": None,
            "pitch": None,
            "rate": None,
            "volume": None,
        }
    ),
    pace="azure",
    first_audio_s=0.78,
    transcript=0.33,
    item=0.585,
    words_end=0.665,
    reply_prefix="msg",
    reply_status="incomplete",
    item_done=False,
)

# The name a session shows for the model asked for; others are shown as they are.
DEPLOYED: Mapping[str, str] = MappingProxyType(
    {"gpt-realtime": "gpt-realtime-global-standard", "gpt-4.1-mini": "gpt-4.1-mini-2025-04-14"}
)

PROFILES: Mapping[str, Profile] = MappingProxyType({p.name: p for p in (NATIVE, CASCADED)})


def profile_of(model: str | None) -> Profile:
    """The profile of a model by its name: `…realtime…` models hear and speak by themselves, all others are cascaded."""
    return NATIVE if model and "realtime" in model else CASCADED
