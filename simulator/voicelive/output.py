"""The outputs of a response: what each is to say or do, its item, and the events that open, fill and close it.

Does not send them or keep time (see `responder` and `reply`).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from simulator.voicelive import shapes
from simulator.voicelive.audio import Clip
from simulator.voicelive.recordings import Recording
from simulator.voicelive.shapes import Event, Item


@dataclass(frozen=True, slots=True)
class Speech:
    """A message to speak: as `audio`, or synthesised when that is None. Written, if the client wants no audio."""

    text: str
    audio: Clip | Recording | None = None


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """A call of one of the client's functions; `arguments` is JSON, sent as it is."""

    name: str
    call_id: str
    arguments: str


@dataclass(frozen=True, slots=True)
class McpCall:
    """A call of an MCP server's tool, which the service makes itself and which takes `seconds`."""

    server: str
    name: str
    arguments: str
    output: str
    seconds: float


Part = Speech | FunctionCall | McpCall


@dataclass(slots=True, eq=False)
class Output(ABC):
    """One output under way: `said` is what has been sent of its words (a call's words are its arguments)."""

    response_id: str
    index: int
    item_id: str
    added: bool = False
    said: list[str] = field(default_factory=list)

    @property
    def words(self) -> str:
        return "".join(self.said)

    @property
    def text(self) -> str:
        """What a caller hears or a reader reads of it."""
        return ""

    @abstractmethod
    def item(self, status: str) -> Item:
        """The item with what has been said so far."""

    def first_item(self, message_status: str) -> Item:
        """The item as it is added; only a message has a status that depends on the model."""
        return self.item("in_progress")

    def opening(self) -> list[Event]:
        """What follows the item's creation."""
        return []

    @abstractmethod
    def delta(self, delta: str) -> Event:
        """The event that carries some of its words."""

    def running(self) -> list[Event]:
        """What is sent when all its words are out and it begins to do what it does."""
        return []

    @abstractmethod
    def closing(self, status: str) -> list[Event]:
        """Its done-events, all but `response.output_item.done`."""


class _Message(Output):
    """A message of one content part."""

    @property
    def text(self) -> str:
        return self.words

    @abstractmethod
    def _part(self, words: str) -> dict[str, str]:
        """The content part with these words."""

    def item(self, status: str) -> Item:
        return shapes.message_item(self.item_id, "assistant", status, [self._part(self.words)])

    def first_item(self, message_status: str) -> Item:
        return shapes.message_item(self.item_id, "assistant", message_status, [])

    def opening(self) -> list[Event]:
        return [self.content("response.content_part.added", part=self._part(""))]

    def content(self, kind: str, **fields: object) -> Event:
        """An event about the content part."""
        return shapes.content(kind, self.response_id, self.item_id, self.index, **fields)


class Spoken(_Message):
    """A message that is heard."""

    def _part(self, words: str) -> dict[str, str]:
        return {"type": "audio", "transcript": words}

    def delta(self, delta: str) -> Event:
        return self.content("response.audio_transcript.delta", delta=delta)

    def closing(self, status: str) -> list[Event]:
        return [
            self.content("response.audio.done"),
            self.content("response.audio_transcript.done", transcript=self.words),
            self.content("response.content_part.done", part=self._part(self.words)),
        ]


class Timed(Spoken):
    """A message that is heard, with the times of its words."""

    def closing(self, status: str) -> list[Event]:
        audio_done, *others = Spoken.closing(self, status)
        return [audio_done, self.content("response.audio_timestamp.done"), *others]


class Written(_Message):
    """A message that is read."""

    def _part(self, words: str) -> dict[str, str]:
        return {"type": "text", "text": words}

    def delta(self, delta: str) -> Event:
        return self.content("response.text.delta", delta=delta)

    def closing(self, status: str) -> list[Event]:
        # The recorded quirk: the finished text part is empty.
        return [
            self.content("response.text.done", text=self.words),
            self.content("response.content_part.done", part=self._part("")),
        ]


@dataclass(slots=True, eq=False, kw_only=True)
class Called(Output):
    """A function call."""

    call: FunctionCall

    def item(self, status: str) -> Item:
        return shapes.function_call_item(self.item_id, status, self.call.name, self.call.call_id, self.words)

    def delta(self, delta: str) -> Event:
        return self._arguments("response.function_call_arguments.delta", delta=delta)

    def closing(self, status: str) -> list[Event]:
        kind = "response.function_call_arguments.done"
        return [self._arguments(kind, name=self.call.name, arguments=self.words)]

    def _arguments(self, kind: str, **fields: object) -> Event:
        return shapes.arguments(kind, self.response_id, self.item_id, self.index, call_id=self.call.call_id, **fields)


@dataclass(slots=True, eq=False, kw_only=True)
class McpCalled(Output):
    """A call the service makes itself; its item has no status, but an output once it is over."""

    call: McpCall

    def item(self, status: str) -> Item:
        output = self.call.output if status == "completed" else None
        return shapes.mcp_call_item(self.item_id, self.call.server, self.call.name, self.words, output)

    def delta(self, delta: str) -> Event:
        kind = "response.mcp_call_arguments.delta"
        return shapes.arguments(kind, self.response_id, self.item_id, self.index, delta=delta)

    def running(self) -> list[Event]:
        kind = "response.mcp_call_arguments.done"
        done = shapes.arguments(kind, self.response_id, self.item_id, self.index, arguments=self.words)
        return [done, shapes.mcp_call("response.mcp_call.in_progress", self.item_id, self.index)]

    def closing(self, status: str) -> list[Event]:
        if status != "completed":
            return []
        return [shapes.mcp_call("response.mcp_call.completed", self.item_id, self.index)]
