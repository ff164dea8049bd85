"""Frames to events and back."""

import base64
import json

import pytest

from simulator.voicelive.wire import Append, decode, encode

AUDIO = bytes(range(256))
BASE64 = base64.b64encode(AUDIO).decode()


@pytest.mark.parametrize(
    "event",
    [
        {"type": "input_audio_buffer.append", "audio": BASE64},
        {"audio": BASE64, "type": "input_audio_buffer.append"},
        {"event_id": "e1", "type": "input_audio_buffer.append", "audio": BASE64},
        {"type": "input_audio_buffer.append", "audio": ""},
    ],
)
def test_appended_audio_comes_as_bytes_wherever_the_type_stands(event: dict[str, str]) -> None:
    decoded = decode(json.dumps(event))
    assert isinstance(decoded, Append)
    assert decoded.audio == base64.b64decode(event["audio"])


@pytest.mark.parametrize(
    "event",
    [
        {"type": "input_audio_buffer.append", "audio": "not base64!"},
        {"type": "input_audio_buffer.append", "audio": 5},
        {"type": "input_audio_buffer.append"},
        {"type": "session.update", "session": {"instructions": "say input_audio_buffer.append"}},
        {"type": "input_audio_buffer.commit"},
    ],
)
def test_everything_else_comes_as_it_is(event: dict[str, object]) -> None:
    assert decode(json.dumps(event)) == event


@pytest.mark.parametrize("text", ["", "{", "input_audio_buffer.append", "\x00"])
def test_what_is_not_json_is_nothing(text: str) -> None:
    assert decode(text) is None


def test_audio_goes_out_as_base64() -> None:
    assert json.loads(encode({"type": "x", "delta": AUDIO})) == {"type": "x", "delta": BASE64}
