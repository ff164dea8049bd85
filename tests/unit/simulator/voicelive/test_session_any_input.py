"""Whatever a client sends, the session answers or ignores it; it never breaks."""

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulator.voicelive.actions import Send
from simulator.voicelive.behaviour import Behaviour
from simulator.voicelive.session import _HANDLERS
from tests.unit.simulator.voicelive.driving import G711, Drive, silence, voice

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
names = st.sampled_from(
    "type item item_id session response audio_end_ms content_index content role id text voice tools turn_detection "
    "input_audio_format output_audio_format modalities call_id previous_item_id pre_generated_assistant_message "
    "cancel_previous response_id threshold name instructions arguments output server_label server_url "
    "allowed_tools eagerness output_audio_timestamp_types".split()
)
words = st.sampled_from(["message", "user", "server_vad", "pcm16", "g711_ulaw", "function_call_output", "input_text"])
words |= st.sampled_from(["mcp", "function", "assistant", "semantic_vad", "function_call", "word", "azure-standard"])
values: st.SearchStrategy[Any] = st.recursive(
    scalars | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=5),
    max_leaves=12,
)
events = st.dictionaries(names, values, max_size=5).flatmap(
    lambda fields: st.sampled_from([*_HANDLERS, "nonsense"]).map(lambda kind: {**fields, "type": kind})
)
quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@quick
@given(st.lists(events | values, max_size=6))
def test_no_input_breaks_a_session(inputs: list[Any]) -> None:
    drive = Drive(behaviour=Behaviour(pace="instant", reveal=True)).start(**G711)
    for event in inputs:
        for action in drive.session.receive(event, drive.now):
            assert not isinstance(action, Send) or action.event["event_id"]
        drive.hear(voice(300) + silence(300))
    json.dumps(drive.session.shown())


@quick
@given(st.lists(st.binary(max_size=2000), max_size=20), st.sampled_from(["pcm16", "g711_ulaw", "g711_alaw"]))
def test_no_audio_breaks_a_session(pieces: list[bytes], encoding: str) -> None:
    drive = Drive(behaviour=Behaviour(pace="instant")).start(input_audio_format=encoding)
    for piece in pieces:
        drive.append(piece)
    total = sum(map(len, pieces))
    assert drive.session.shown()["appended_audio_ms"] == round(total / (48 if encoding == "pcm16" else 8), 3)
