"""Decoding Voice Live's messages from the wire."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.voicelive import events


def wire(**fields: Any) -> str:
    return json.dumps({"event_id": "event_1", **fields})


def test_audio_arrives_as_bytes() -> None:
    audio = bytes(range(256))
    text = wire(
        type="response.audio.delta",
        response_id="resp_1",
        item_id="item_1",
        output_index=0,
        content_index=0,
        delta=base64.b64encode(audio).decode(),
    )
    assert events.decode(text) == events.AudioDelta(response_id="resp_1", item_id="item_1", delta=audio)


def test_explicit_nulls_of_a_session_are_accepted() -> None:
    text = wire(type="session.created", session={"id": "sess_1", "turn_detection": None, "expires_at": None})
    assert events.decode(text) == events.SessionCreated(events.SessionInfo("sess_1"))


def test_an_error_without_a_code_is_an_error() -> None:
    text = wire(type="error", error={"type": "server_error", "code": None, "message": "secret", "param": None})
    assert events.decode(text) == events.Error(events.ErrorInfo("server_error"))


def test_an_unknown_event_keeps_its_type() -> None:
    assert events.decode(wire(type="response.video.delta", delta="x")) == events.Other("response.video.delta")


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", "nonsense", wire(type="response.audio.delta"), wire(type="input_audio_buffer.speech_started")],
)
def test_what_is_no_event_is_malformed(text: str) -> None:
    with pytest.raises(events.MalformedEvent):
        events.decode(text)


def test_audio_that_is_no_base64_is_malformed() -> None:
    with pytest.raises(events.MalformedEvent):
        events.decode(wire(type="response.audio.delta", response_id="r", item_id="i", delta="*"))


@given(st.binary())
def test_arbitrary_bytes_never_raise_anything_else(data: bytes) -> None:
    try:
        events.decode(data)
    except events.MalformedEvent:
        pass
