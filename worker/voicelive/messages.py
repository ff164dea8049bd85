"""Client events of the Realtime protocol, as plain values. It sends nothing and decides nothing.

session.update is made in `configuration.py`, caller audio in `frames.py`.
"""

from typing import Any

from worker.voicelive.memory import Role, ToolCall, Typed, Utterance

Event = dict[str, Any]

TRUNCATION = "truncate:"
"""Begins the event ids of truncations, by which an error that answers one is known."""


def truncation(item_id: str, heard_ms: int) -> Event:
    """Returns the conversation.item.truncate that leaves of an item what was heard."""
    return {
        "type": "conversation.item.truncate",
        "event_id": f"{TRUNCATION}{item_id}",
        "item_id": item_id,
        "content_index": 0,
        "audio_end_ms": heard_ms,
    }


def response(params: Event, event_id: str) -> Event:
    """Returns the response.create with these parameters."""
    return {"type": "response.create", "event_id": event_id, "response": params}


def spoken(text: str) -> Event:
    """Returns the parameters of a response that speaks `text` word for word, without asking the model."""
    message = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": text}]}
    return {"pre_generated_assistant_message": message}


def cancellation(response_id: str) -> Event:
    """Returns the response.cancel of a response."""
    return {"type": "response.cancel", "response_id": response_id}


def deletion(item_id: str) -> Event:
    """Returns the conversation.item.delete of an item."""
    return {"type": "conversation.item.delete", "item_id": item_id}


def user_message(text: str, item_id: str) -> Event:
    """Returns the conversation.item.create that tells the model something in the caller's place."""
    return _message(item_id, "user", {"type": "input_text", "text": text})


def function_output(call_id: str, output: str, item_id: str) -> Event:
    """Returns the conversation.item.create that answers a function call."""
    return _item({"type": "function_call_output", "id": item_id, "call_id": call_id, "output": output})


def refused_approval(request_id: str) -> Event:
    """Returns the conversation.item.create that does not let an MCP server's tool run: nobody is there to ask."""
    return _item({"type": "mcp_approval_response", "approval_request_id": request_id, "approve": False})


def typed(digits: str) -> str:
    """Returns what the model is told of digits that the caller typed."""
    return f"[The caller typed {digits} on the telephone's keys.]"


def replayed(entry: Utterance | ToolCall | Typed, item_id: str) -> list[Event]:
    """Returns the events that tell a new session of something that was said or done in the one before."""
    match entry:
        case Utterance(text=""):
            return []
        case Utterance(role=Role.CALLER):
            return [user_message(entry.text, item_id)]
        case Utterance():
            return [_message(item_id, "assistant", {"type": "text", "text": entry.text})]
        case ToolCall():
            call = {"type": "function_call", "call_id": entry.call_id, "name": entry.name, "arguments": entry.arguments}
            told = [_item({**call, "id": item_id})]
            return (
                told if entry.output is None else [*told, function_output(entry.call_id, entry.output, f"{item_id}r")]
            )
        case Typed():
            return [] if entry.sensitive else [user_message(typed(entry.digits), item_id)]


def _message(item_id: str, role: str, part: Event) -> Event:
    return _item({"type": "message", "id": item_id, "role": role, "content": [part]})


def _item(item: Event) -> Event:
    return {"type": "conversation.item.create", "item": item}
