"""How an agent conducts a call beside talking: digits, silence, limits, dead air, lost connections, what is kept.

It only says what is wanted; `worker/voicelive/session.py` acts on it.
"""

import re
import wave
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, model_validator

from shared.agents import template
from shared.agents.parts import Digit, Line, Name, Part, Seconds, Shorthand, Spoken

DIRECTORY = "directory"
"""Key of the validation context under which the directory stands that relative paths begin at."""


def _template(text: str) -> str:
    problem = template.check(text)
    if problem is not None:
        raise ValueError(problem)
    return text


Template = Annotated[str, Field(max_length=20_000), AfterValidator(_template)]
"""A text that may name what is known of the call (`shared/agents/template.py`)."""


def _wav(path: Path, info: ValidationInfo) -> Path:
    """Returns the path, absolute where its directory is known; raises ValueError unless it is a 16 bit PCM WAV."""
    directory = (info.context or {}).get(DIRECTORY)
    path = directory / path if directory else path
    try:
        with wave.open(str(path), "rb") as file:
            kind = file.getsampwidth(), file.getnchannels(), file.getframerate(), file.getnframes()
    except (OSError, EOFError, wave.Error) as error:
        raise ValueError(f"is no PCM WAV file that can be read ({type(error).__name__})") from error
    width, channels, rate, frames = kind
    if width != 2 or channels > 2 or not 8_000 <= rate <= 48_000:
        raise ValueError("must be 16 bit PCM, one or two channels, 8 to 48 kHz")
    if not 0 < frames <= 60 * rate:
        raise ValueError("must be longer than nothing and not longer than a minute")
    return path


WavFile = Annotated[Path, AfterValidator(_wav)]


def _target_uri(uri: str) -> str:
    if not re.fullmatch(r"(sips?:([^@\s<>\"]+@)?[^@\s<>\"]+|tel:\+?[0-9*#.()-]+(;[^\s<>\"]*)?)", uri):
        raise ValueError("must be a sip:, sips: or tel: URI")
    return uri


class TransferTarget(Part):
    """Somewhere a caller can be transferred to."""

    uri: Annotated[Line, AfterValidator(_target_uri)]
    """sip:, sips: or tel: URI that the caller's side is referred to."""
    description: Spoken | None = None
    """What the model is told of it: who is there, and for what."""


Transfer = Annotated[TransferTarget, Shorthand(lambda uri: {"uri": uri})]


class Greeting(Part):
    """What is said before the caller speaks."""

    text: Annotated[Template, Field(min_length=1, max_length=2_000)]
    """Said word for word; may name what is known of the call."""
    interruptible: bool = True
    """The caller may speak over it; otherwise they are not heard until it is over."""


class MenuEntry(Part):
    """What one key does while nothing else asks for digits: exactly one of these."""

    say: Spoken | None = None
    """Said to the caller, word for word."""
    transfer: Name | None = None
    """The caller is transferred to this one of `transfers`."""
    hang_up: bool = False
    """The call is ended."""

    @model_validator(mode="after")
    def _one_thing(self) -> Self:
        if sum((self.say is not None, self.transfer is not None, self.hang_up)) != 1:
            raise ValueError("needs exactly one of say, transfer and hang_up: true")
        return self


def _digit_keys(menu: Any) -> Any:
    """YAML reads an unquoted key 1 as a number."""
    return {str(key): entry for key, entry in menu.items()} if isinstance(menu, dict) else menu


class Dtmf(Part):
    """What is done with digits the caller types."""

    inter_digit_s: Annotated[float, Field(gt=0, le=60)] = 3.0
    """Pause after which digits count as complete, in seconds."""
    terminator: Annotated[str, Field(pattern=r"^[0-9A-D*#]?$")] = "#"
    """Key that ends an entry; empty is none."""
    max_digits: int = Field(default=20, ge=1, le=100)
    """Digits after which an entry is complete."""
    interrupts: bool = True
    """A key silences the model, as speech does."""
    menu: Annotated[dict[Digit, MenuEntry], BeforeValidator(_digit_keys)] = Field(default_factory=dict)
    """What single keys do."""


class Silence(Part):
    """What is done when the caller says nothing."""

    after_s: Seconds = 12.0
    """Silence after which the caller is asked, in seconds; 0 is off."""
    prompt: Spoken = "Are you still there?"
    """What they are asked."""
    prompts: int = Field(default=1, ge=0, le=20)
    """How often they are asked before the agent hangs up."""
    goodbye: Spoken = "I cannot hear you, so I will hang up now. Goodbye."
    """Said before hanging up."""


class Limits(Part):
    """How long a call may take."""

    max_call_s: Seconds = 3540.0
    """Longest call, in seconds from the answer; 0 is no limit."""
    warning_s: Seconds = 60.0
    """How long before that the caller is warned, in seconds; 0 is no warning."""
    warning: Spoken = "We have one minute left."
    """What they are told."""
    goodbye: Spoken = "Our time is up, so I will hang up now. Goodbye."
    """Said before hanging up."""


class Sound(StrEnum):
    """Sounds of the worker's own."""

    SOFT = "soft"


class DeadAir(Part):
    """What the caller hears while an answer is long in coming."""

    after_s: Seconds = 4.0
    """Wait for the answer after which the filler is played, in seconds; 0 is off."""
    filler: Annotated[Sound | Spoken, Field(union_mode="left_to_right")] = Sound.SOFT
    """soft: a quiet sound; any other text is said, in `language`."""


class Reconnect(Part):
    """What is done when the connection to Voice Live is lost."""

    give_up_after_s: Seconds = 20.0
    """How long to try, in seconds; 0 does not try."""
    first_delay_s: Annotated[float, Field(gt=0, le=60)] = 0.1
    """Wait before the second attempt, in seconds; it doubles from one to the next."""
    max_delay_s: Annotated[float, Field(gt=0, le=60)] = 4.0
    """Longest wait between attempts, in seconds."""
    filler_after_s: Seconds = 0.5
    """Wait after which the filler of `dead_air` is played, in seconds."""


class Fallback(Part):
    """What is done for the caller when the session is lost in the course of a call and there will be none.

    Before the answer it is not used: the caller's side gets 503 or 500, so that an SBC can choose another way.
    """

    say: Spoken | None = None
    """Said by the worker itself, in `language`."""
    wav: WavFile | None = None
    """Played instead: a WAV file, relative to the agent file; 16 bit PCM, 8 to 48 kHz, up to a minute."""
    transfer: Name | None = None
    """Then the caller is transferred to this one of `transfers`; without it the call is ended."""


class Keep(Part):
    """What is kept of a call in its record."""

    transcript: bool = True
    """What was said."""
    tools: bool = True
    """Arguments and results of tools."""
    dtmf: bool = True
    """Digits the caller typed, except sensitive ones."""
    numbers: bool = True
    """The caller's and the called number."""
