"""The settings that are a choice of few, as the types that pure code may import.

It reads no environment; `shared/settings.py` does.
"""

from enum import StrEnum


class DispatchMode(StrEnum):
    """How the dispatcher hands a call over."""

    PROXY = "proxy"
    REDIRECT = "redirect"


class PlacementPolicy(StrEnum):
    """Which of the workers with room gets the next call."""

    SPREAD = "spread"
    PACK = "pack"


class AudioFormat(StrEnum):
    """What Voice Live is fed and answers with."""

    G711 = "g711"
    PCM16 = "pcm16"


class MediaSrtp(StrEnum):
    """Whether audio is encrypted on the telephone's side (SRTP with keys in SDP, RFC 4568)."""

    OFF = "off"
    OPTIONAL = "optional"
    MANDATORY = "mandatory"
