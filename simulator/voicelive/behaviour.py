"""How simulated sessions behave: the choices of the command line, resolved for one model. Does not act on them."""

from dataclasses import dataclass, replace
from typing import Literal

from simulator.voicelive.profiles import NATIVE, PACES, PROFILES, Pace, Profile, profile_of
from simulator.voicelive.scenario import PARROT, Scenario

DEFAULT_HEARD = "Something was said."

# From speech_started to the cancelled response.done, as recorded.
_CANCEL_S = 0.014


@dataclass(frozen=True, slots=True)
class Manner:
    """The choices for one session: all settled, nothing left to look up."""

    profile: Profile
    pace: Pace
    first_audio_s: float
    jitter_s: float
    cancel_s: float
    cancel_reason: str
    item_done: bool
    monologue: bool

    @property
    def native(self) -> bool:
        return self.profile is NATIVE

    @property
    def transcript_s(self) -> float:
        """From the end of the caller's speech to its transcript."""
        return self.first_audio_s * self.profile.transcript


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What may be chosen; `auto` and None leave it to the model's profile.

    `cancel_reason` also picks the events of a cancellation: `client_cancelled` is a bare response.done, `turn_detected`
    closes every part of the response first. `heard` is the caller's transcript where a scenario gives none. In a
    `monologue` the model speaks all the time, unasked, and does not listen. speech_started and each answer's first
    audio come up to `jitter_s` late, at random. With `script_scope` `process` a session goes on with the scenario where
    the one before stopped. `reveal` lets the control API show what is said, for tests.
    """

    scenario: Scenario = PARROT
    profile: Literal["auto", "native", "cascaded"] = "auto"
    pace: Literal["auto", "azure", "openai", "instant"] = "auto"
    first_audio_s: float | None = None
    jitter_s: float = 0.0
    realtime_factor: float | None = None
    cancel_reason: Literal["client_cancelled", "turn_detected"] = "client_cancelled"
    item_done: Literal["auto", "on", "off"] = "auto"
    heard: str = DEFAULT_HEARD
    max_session_s: float = 3600.0
    monologue: bool = False
    script_scope: Literal["session", "process"] = "session"
    reveal: bool = False

    def manner(self, model: str | None) -> Manner:
        """The choices for a session with `model`."""
        profile = profile_of(model) if self.profile == "auto" else PROFILES[self.profile]
        name = profile.pace if self.pace == "auto" else self.pace
        pace = PACES[name]
        if self.realtime_factor is not None:
            pace = replace(pace, realtime_factor=self.realtime_factor)
        instant = name == "instant"
        first_audio_s = 0.0 if instant else profile.first_audio_s
        return Manner(
            profile=profile,
            pace=pace,
            first_audio_s=first_audio_s if self.first_audio_s is None else self.first_audio_s,
            jitter_s=self.jitter_s,
            cancel_s=0.0 if instant else _CANCEL_S,
            cancel_reason=self.cancel_reason,
            item_done=profile.item_done if self.item_done == "auto" else self.item_done == "on",
            monologue=self.monologue,
        )
