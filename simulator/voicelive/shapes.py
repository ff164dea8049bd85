"""Builds every event and object the simulator sends, key for key as recorded. Does not decide what to send, or when.

Explicit nulls are part of the shapes. Events come without `event_id`; the session puts it first, as on the wire.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from simulator.voicelive.profiles import NATIVE, Profile

Event = dict[str, Any]
Item = dict[str, Any]


def server_vad(*, prefix_padding_ms: int, silence_duration_ms: int) -> dict[str, Any]:
    """`turn_detection` of type `server_vad`."""
    return {
        "type": "server_vad",
        "threshold": 0.5,
        "prefix_padding_ms": prefix_padding_ms,
        "silence_duration_ms": silence_duration_ms,
        "create_response": True,
        "interrupt_response": True,
        "idle_timeout_ms": None,
        "speech_duration_ms": None,
        "end_of_utterance_detection": None,
        "auto_truncate": False,
        "appended_text_after_truncation": None,
    }


def azure_semantic_vad(kind: str) -> dict[str, Any]:
    """`turn_detection` of one of the `azure_semantic_vad` types (no recording: documented defaults)."""
    detection: dict[str, Any] = {
        "type": kind,
        "threshold": 0.5,
        "prefix_padding_ms": 420,
        "silence_duration_ms": 500,
        "speech_duration_ms": 80,
        "end_of_utterance_detection": None,
        "remove_filler_words": False,
        "create_response": True,
        "interrupt_response": True,
        "auto_truncate": False,
        "appended_text_after_truncation": None,
    }
    return detection if kind.endswith("_en") else {**detection, "languages": None}


def semantic_vad() -> dict[str, Any]:
    """`turn_detection` of type `semantic_vad`, a native model's own (no recording: documented defaults)."""
    return {"type": "semantic_vad", "eagerness": "auto", "create_response": True, "interrupt_response": True}


def session(session_id: str, profile: Profile, model: str, expires_at: int) -> dict[str, Any]:
    """The session as `session.created` shows it, before any `session.update`; `expires_at` in unix seconds."""
    created: dict[str, Any] = {
        "id": session_id,
        "model": model,
        "modalities": ["audio"] if profile is NATIVE else ["text", "audio"],
        "instructions": "You are a helpful assistant on the telephone.",
        "voice": dict(profile.voice),
        "input_audio_format": "pcm16",
        "output_audio_format": None,
        "input_audio_transcription": None,
        "input_audio_noise_reduction": None,
        "turn_detection": server_vad(prefix_padding_ms=300, silence_duration_ms=200),
        "tools": [],
        "tool_choice": "auto",
        "max_response_output_tokens": "inf",
        "expires_at": expires_at,
        "object": "realtime.session",
        "input_audio_sampling_rate": 24000,
        "animation": None,
        "input_audio_echo_cancellation": None,
        "avatar": None,
        "output_audio_timestamp_types": None,
        "truncation_strategy": None,
        "include": None,
    }
    return created if profile is NATIVE else {**created, "temperature": None}


def agent(name: str, agent_id: str, thread_id: str) -> dict[str, Any]:
    """The `agent` of a session that runs a Foundry agent."""
    return {"type": "agent", "name": name, "description": None, "agent_id": agent_id, "thread_id": thread_id}


def session_event(kind: str, session_object: Mapping[str, Any]) -> Event:
    """`session.created` or `session.updated`."""
    return {"type": kind, "session": dict(session_object)}


def error(code: str, message: str, *, param: str | None, event_id: str | None, kind: str) -> Event:
    """`error`; `event_id` is the client's, `kind` is `invalid_request_error` or `server_error`."""
    details = {"type": kind, "code": code, "message": message, "param": param, "event_id": event_id}
    return {"type": "error", "error": details}


def warning(message: str) -> Event:
    return {"type": "warning", "warning": {"message": message, "code": None, "param": None}}


def speech_started(item_id: str, audio_start_ms: int) -> Event:
    return {"type": "input_audio_buffer.speech_started", "audio_start_ms": audio_start_ms, "item_id": item_id}


def speech_stopped(item_id: str, audio_end_ms: int) -> Event:
    return {"type": "input_audio_buffer.speech_stopped", "audio_end_ms": audio_end_ms, "item_id": item_id}


def committed(item_id: str, previous_item_id: str | None) -> Event:
    return {"type": "input_audio_buffer.committed", "previous_item_id": previous_item_id, "item_id": item_id}


def item_created(item: Item, previous_item_id: str | None) -> Event:
    return {"type": "conversation.item.created", "previous_item_id": previous_item_id, "item": item}


def item_done(item: Item, previous_item_id: str | None) -> Event:
    """`conversation.item.done`: on the wire, but unknown to the SDK."""
    return {"type": "conversation.item.done", "previous_item_id": previous_item_id, "item": item}


def item_retrieved(item: Item) -> Event:
    return {"type": "conversation.item.retrieved", "item": item}


def item_deleted(item_id: str) -> Event:
    return {"type": "conversation.item.deleted", "item_id": item_id}


def item_truncated(item_id: str, content_index: int, audio_end_ms: int) -> Event:
    return {
        "type": "conversation.item.truncated",
        "item_id": item_id,
        "content_index": content_index,
        "audio_end_ms": audio_end_ms,
    }


def transcription_delta(item_id: str, delta: str) -> Event:
    kind = "conversation.item.input_audio_transcription.delta"
    return {"type": kind, "item_id": item_id, "content_index": 0, "delta": delta}


def transcription_completed(item_id: str, transcript: str) -> Event:
    kind = "conversation.item.input_audio_transcription.completed"
    return {"type": kind, "item_id": item_id, "content_index": 0, "transcript": transcript}


def message_item(item_id: str, role: str, status: str, content: Sequence[Mapping[str, Any]]) -> Item:
    return {
        "id": item_id,
        "object": "realtime.item",
        "type": "message",
        "status": status,
        "role": role,
        "content": [dict(part) for part in content],
    }


def function_call_item(item_id: str, status: str, name: str, call_id: str, arguments: str) -> Item:
    return {
        "id": item_id,
        "object": "realtime.item",
        "type": "function_call",
        "status": status,
        "name": name,
        "call_id": call_id,
        "arguments": arguments,
    }


def function_call_output_item(item_id: str, call_id: str, output: str) -> Item:
    """The acknowledged output of a function call; it has no status."""
    return {
        "id": item_id,
        "object": "realtime.item",
        "type": "function_call_output",
        "call_id": call_id,
        "output": output,
    }


def mcp_call_item(item_id: str, server: str, name: str, arguments: str, output: str | None) -> Item:
    """A call the service made to an MCP server; `output` None while it runs (no recording: the SDK's fields)."""
    return {
        "id": item_id,
        "object": "realtime.item",
        "type": "mcp_call",
        "approval_request_id": None,
        "arguments": arguments,
        "server_label": server,
        "name": name,
        "output": output,
        "error": None,
    }


def mcp_list_tools_item(item_id: str, server: str, names: Sequence[str]) -> Item:
    """The tools the service found on an MCP server (no recording: the SDK's fields)."""
    blank: dict[str, Any] = {"description": None, "input_schema": {}, "annotations": None}
    return {
        "id": item_id,
        "object": "realtime.item",
        "type": "mcp_list_tools",
        "server_label": server,
        "tools": [{"name": name, **blank} for name in names],
    }


def response(response_id: str, profile: Profile, options: Mapping[str, Any], conversation_id: str) -> dict[str, Any]:
    """A response in progress. Cascaded responses name neither conversation, output format nor token limit."""
    native = profile is NATIVE
    return {
        "object": "realtime.response",
        "id": response_id,
        "status": "in_progress",
        "status_details": None,
        "output": [],
        "usage": None,
        "conversation_id": conversation_id if native else "",
        "modalities": list(options["modalities"]),
        "voice": options["voice"],
        "output_audio_format": (options["output_audio_format"] or "pcm16") if native else None,
        "temperature": options["temperature"],
        "max_output_tokens": options["max_output_tokens"] if native else None,
        "metadata": options["metadata"],
    }


def response_event(kind: str, response_object: Mapping[str, Any]) -> Event:
    """`response.created` or `response.done`."""
    return {"type": kind, "response": dict(response_object)}


def output_item(kind: str, response_id: str, index: int, item: Item) -> Event:
    """`response.output_item.added` or `response.output_item.done`."""
    return {"type": kind, "response_id": response_id, "output_index": index, "item": item}


def content(kind: str, response_id: str, item_id: str, index: int, **fields: object) -> Event:
    """An event about content 0 of an output.

    `response.content_part.*`, `.audio.*`, `.audio_transcript.*`, `.audio_timestamp.*`, `.text.*`.
    """
    return {
        "type": kind,
        "response_id": response_id,
        "item_id": item_id,
        "output_index": index,
        "content_index": 0,
        **fields,
    }


def arguments(kind: str, response_id: str, item_id: str, index: int, **fields: object) -> Event:
    """`response.function_call_arguments.*` (with call_id) or `response.mcp_call_arguments.*` (without)."""
    return {"type": kind, "response_id": response_id, "item_id": item_id, "output_index": index, **fields}


def mcp_call(kind: str, item_id: str, index: int) -> Event:
    """`response.mcp_call.in_progress` or `.completed`."""
    return {"type": kind, "item_id": item_id, "output_index": index}


def mcp_list_tools(kind: str, item_id: str) -> Event:
    """`mcp_list_tools.in_progress` or `.completed`."""
    return {"type": kind, "item_id": item_id}


def usage(
    *, input_text: int, input_audio: int, output_text: int, output_audio: int, cached_text: int = 0
) -> dict[str, Any]:
    """Token counts of one response, with the detail objects; `cached_text` is a part of `input_text`."""
    return {
        "total_tokens": input_text + input_audio + output_text + output_audio,
        "input_tokens": input_text + input_audio,
        "output_tokens": output_text + output_audio,
        "input_token_details": {
            "cached_tokens": cached_text,
            "text_tokens": input_text,
            "audio_tokens": input_audio,
            "image_tokens": 0,
            "cached_tokens_details": {"text_tokens": cached_text, "audio_tokens": 0, "image_tokens": 0},
        },
        "output_token_details": {"text_tokens": output_text, "audio_tokens": output_audio, "reasoning_tokens": 0},
    }
