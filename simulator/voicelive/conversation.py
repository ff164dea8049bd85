"""Keeps the conversation's items and the audio that was sent for them. Does not send events."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simulator.voicelive import shapes
from simulator.voicelive.ids import Ids
from simulator.voicelive.refusal import Refused, invalid_value, one_of, table, text
from simulator.voicelive.shapes import Item

# The longest id a client may choose.
_MAX_ID = 32

_CONTENT_TYPES = {
    "user": ("input_text", "input_audio", "input_image"),
    "assistant": ("text",),
    "system": ("input_text",),
}


@dataclass(slots=True)
class Sent:
    """The audio of one assistant item: ms sent so far, and when the first of it went out."""

    ms: float
    since: float


class Conversation:
    """Items in order. Adding returns the item before it, as `previous_item_id` wants it."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        self._items: dict[str, Item] = {}
        self._order: list[str] = []
        self._audio: dict[str, Sent] = {}

    @property
    def last_id(self) -> str | None:
        return self._order[-1] if self._order else None

    @property
    def words(self) -> int:
        """How many words of text the conversation holds; what text tokens are counted by."""
        parts = [part for item in self._items.values() for part in item.get("content", ())]
        outputs = [item.get("output") for item in self._items.values()]
        return sum(len((text or "").split()) for text in (*(part.get("text") for part in parts), *outputs))

    def shown(self) -> list[dict[str, Any]]:
        """The conversation as it stands, in order, without audio."""
        return [_shown(self._items[item_id]) for item_id in self._order]

    def add(self, item: Item, after: object = None) -> str | None:
        """Put `item` after the item `after` (at the end when None, at the start when "root"); the id before it."""
        if item["id"] in self._items:
            raise Refused("invalid_value", f"Item with ID '{item['id']}' already exists.", "item.id")
        at = len(self._order)
        if after == "root":
            at = 0
        elif after is not None:
            at = self._order.index(self.find(after, "previous_item_id")["id"]) + 1
        self._items[item["id"]] = item
        self._order.insert(at, item["id"])
        return self._order[at - 1] if at else None

    def replace(self, item: Item) -> None:
        """Store the finished form of an item that was added in progress, unless the client has deleted it."""
        if item["id"] in self._items:
            self._items[item["id"]] = item

    def find(self, item_id: object, param: str = "item_id") -> Item:
        """The item; raises Refused when there is none."""
        if not isinstance(item_id, str) or item_id not in self._items:
            raise Refused("item_not_found", f"There is no item with this ID: {item_id!r}.", param)
        return self._items[item_id]

    def remove(self, item_id: str) -> None:
        self.find(item_id)
        del self._items[item_id]
        self._order.remove(item_id)
        self._audio.pop(item_id, None)

    def sent_audio(self, item_id: str, ms: float, now: float) -> None:
        """Note that `ms` more of the item's audio went out."""
        self._audio.setdefault(item_id, Sent(0.0, now)).ms += ms

    def playing(self, now: float) -> tuple[str, int] | None:
        """The assistant item a client playing in real time is still playing, and how many ms of it are out by now."""
        for item_id, sent in reversed(self._audio.items()):
            played = (now - sent.since) * 1000
            return (item_id, int(played)) if played < sent.ms else None
        return None

    def truncate(self, item_id: str, audio_end_ms: int) -> None:
        """Cut the item's audio; raises Refused when it has none, or less than that. Its transcript goes with it."""
        item = self.find(item_id)
        sent = self._audio.get(item_id)
        if sent is None:
            raise Refused("invalid_value", "Only assistant items with audio can be truncated.", "item_id")
        if audio_end_ms > sent.ms:
            message = f"Audio content of {int(sent.ms)}ms is already shorter than {audio_end_ms}ms"
            raise Refused("invalid_value", message)
        sent.ms = float(audio_end_ms)
        self._items[item_id] = {**item, "content": [{**part, "transcript": None} for part in item["content"]]}

    def from_client(self, fields: Mapping[str, Any]) -> Item:
        """The item a client asks to create, completed with an id; raises Refused for one the service would refuse."""
        kinds = ("message", "function_call", "function_call_output")
        kind = one_of(fields.get("type"), kinds, "item.type")
        item_id = _chosen_id(fields, "id") if fields.get("id") else self._ids.new("item")
        if kind == "function_call_output":
            call_id, output = _chosen_id(fields, "call_id"), text(fields, "output", "item.output")
            return shapes.function_call_output_item(item_id, call_id, output)
        if kind == "function_call":
            name, arguments = text(fields, "name", "item.name"), text(fields, "arguments", "item.arguments")
            call_id = _chosen_id(fields, "call_id")
            return shapes.function_call_item(item_id, "completed", name, call_id, arguments)
        role = one_of(fields.get("role"), _CONTENT_TYPES, "item.role")
        return shapes.message_item(item_id, role, "completed", _content(fields, role))


def pre_generated_text(params: Mapping[str, Any]) -> str | None:
    """The text of `pre_generated_assistant_message`, None without one; raises Refused unless it is one text part."""
    if params.get("pre_generated_assistant_message") is None:
        return None
    param = "response.pre_generated_assistant_message"
    message = table(params, "pre_generated_assistant_message", param)
    match message.get("content"):
        case [{"type": "text"} as part]:
            return text(part, "text", f"{param}.content[0].text")
        case other:
            raise invalid_value(f"{param}.content", other, "exactly one text part")


def message_text(item: Mapping[str, Any]) -> str:
    """The words of a message, typed or spoken."""
    parts = item.get("content", ())
    return " ".join(words for part in parts if (words := part.get("text") or part.get("transcript")))


def _shown(item: Mapping[str, Any]) -> dict[str, Any]:
    names = ("id", "type", "role", "name", "call_id", "arguments", "output", "status")
    shown = {name: item[name] for name in names if name in item}
    return {**shown, "text": message_text(item)} if item["type"] == "message" else shown


def _chosen_id(fields: Mapping[str, Any], name: str) -> str:
    """An id the client chose; the models behind the service take no more than 32 characters."""
    chosen = text(fields, name, f"item.{name}")
    if len(chosen) > _MAX_ID:
        message = f"Invalid 'item.{name}': string too long. Expected a maximum length of {_MAX_ID}, got {len(chosen)}."
        raise Refused("string_above_max_length", message, f"item.{name}")
    return chosen


def _content(fields: Mapping[str, Any], role: str) -> list[dict[str, Any]]:
    parts = fields.get("content")
    if not isinstance(parts, list) or not parts:
        raise invalid_value("item.content", parts, "a list of content parts")
    for index, part in enumerate(parts):
        kind = part.get("type") if isinstance(part, dict) else part
        if one_of(kind, _CONTENT_TYPES[role], f"item.content[{index}].type") in ("text", "input_text"):
            text(part, "text", f"item.content[{index}].text")
    return parts
