"""What was said and done in a call, in order: replayed into a new connection, and kept in the call record.

It decides nothing and forgets nothing by itself; what of it is kept after the call is `worker/keeping.py`'s business.
All times are the session's `now`: Unix time in seconds of a clock that only goes forward.
"""

from dataclasses import dataclass, field
from enum import StrEnum

CHARS_PER_S = 15
"""How fast an answer is spoken whose end is not known, to work out what of its text was heard."""


class Role(StrEnum):
    """Who said it."""

    CALLER = "caller"
    AGENT = "agent"


@dataclass(slots=True)
class Utterance:
    """What one side said without a break."""

    role: Role
    item_id: str
    at: float
    """When it began: the caller's first sound, or the first packet that went to the caller."""
    text: str = ""
    """The transcript, as far as it has arrived; of a cut-off answer what was heard, up to a word."""
    settled: bool = False
    """The text is final."""
    audio_ms: float = 0.0
    """Audio received of it, for an answer."""
    heard_ms: float | None = None
    """How much of it was heard, where the caller spoke over it or the connection was lost; None is all."""

    def cut(self, heard_ms: float) -> None:
        """Leaves of an answer what was heard. Of the text that is about as many words, by its length."""
        # The words of an answer may have come long before its audio, and then their end is not known.
        unknown_ms = 0.0 if self.settled else len(self.text) / CHARS_PER_S * 1000
        whole_ms = max(self.audio_ms, unknown_ms)
        if heard_ms < whole_ms:
            end = self.text.rfind(" ", 0, int(len(self.text) * heard_ms / whole_ms) + 1)
            self.text = self.text[: max(end, 0)].rstrip()
        self.heard_ms, self.settled = heard_ms, True


@dataclass(slots=True)
class ToolCall:
    """One call of a tool by the model."""

    call_id: str
    name: str
    arguments: str
    """JSON, as the model sent it."""
    at: float
    output: str | None = None
    """JSON, as the model was answered; None while it runs."""
    done_at: float | None = None
    failed: bool = False


@dataclass(slots=True)
class Typed:
    """Digits the caller typed."""

    digits: str
    at: float
    sensitive: bool = False
    """Not to be kept, and not shown to the model."""


Entry = Utterance | ToolCall | Typed


@dataclass(slots=True)
class Turn:
    """From the end of the caller's speech to the answer's first packet."""

    speech_stopped: float
    """When the service said so."""
    speech_end: float | None = None
    """When the caller really stopped, by audio time."""
    first_audio: float | None = None
    """First audio of the answer received."""
    first_packet: float | None = None
    """First audio of the answer sent to the caller."""
    barged_in: bool = False
    """The caller spoke over the answer."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one response, as the service counts them."""

    response_id: str
    at: float
    model: str
    input_text: int = 0
    input_audio: int = 0
    cached_text: int = 0
    """Of the input's text tokens, those from the service's cache; likewise below."""
    cached_audio: int = 0
    output_text: int = 0
    output_audio: int = 0


@dataclass(slots=True)
class Memory:
    """A call's conversation so far."""

    entries: list[Entry] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    usage: list[Usage] = field(default_factory=list)

    def utterance(self, item_id: str) -> Utterance | None:
        """Returns the newest utterance of that item."""
        return next((e for e in reversed(self.entries) if isinstance(e, Utterance) and e.item_id == item_id), None)

    def tool_call(self, call_id: str) -> ToolCall | None:
        """Returns the tool call of that id."""
        return next((e for e in reversed(self.entries) if isinstance(e, ToolCall) and e.call_id == call_id), None)

    @property
    def words_unknown(self) -> bool:
        """Whether the latest thing the caller said has not become text, and nothing was said to it."""
        spoken = next((entry for entry in reversed(self.entries) if isinstance(entry, Utterance)), None)
        return spoken is not None and spoken.role is Role.CALLER and not spoken.settled

    def forget_unheard(self) -> None:
        """Drops what the caller said last and has not become text: its audio is sent again, and so it is heard anew."""
        while self.words_unknown:
            index = max(index for index, entry in enumerate(self.entries) if isinstance(entry, Utterance))
            begun = self.entries.pop(index).at
            self.turns = [turn for turn in self.turns if turn.speech_stopped < begun]

    def settle_words(self) -> bool:
        """Notes that what the caller said is dealt with, even if it never becomes text; says whether that is news."""
        unsettled = [
            entry
            for entry in self.entries
            if isinstance(entry, Utterance) and entry.role is Role.CALLER and not entry.settled
        ]
        for entry in unsettled:
            entry.settled = True
        return bool(unsettled)
