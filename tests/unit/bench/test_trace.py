"""What a simulator's trace says about when which audio went by."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest

from bench import trace
from bench.load.clips import encode_ulaw, tone

LOUD = np.full(160, 5000, np.int16)
QUIET = np.zeros(160, np.int16)


def append(samples: np.ndarray, audio_format: str) -> str:
    audio = samples.tobytes() if audio_format == "pcm16" else encode_ulaw(samples)
    return json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(audio).decode()})


@pytest.mark.parametrize("audio_format", ["g711", "pcm16"])
def test_an_utterance_begins_with_the_first_voiced_append_after_silence(tmp_path: Path, audio_format: str) -> None:
    file = tmp_path / "trace"
    sounds = [QUIET, LOUD, LOUD, QUIET, LOUD]
    file.write_text("".join(f"{at} s1 in {append(sound, audio_format)}\n" for at, sound in enumerate(sounds, 100)))
    assert trace.read(file, audio_format)["s1"].voiced_ns == [101, 104]


def test_sessions_are_told_apart_and_answers_counted_by_their_first_delta(tmp_path: Path) -> None:
    file = tmp_path / "trace"
    delta = '{{"type":"response.audio.delta","response_id":"{}","delta":"AAAA"}}'.format
    lines = [
        (1, "s1", "in", '{"type":"response.create"}'),
        (2, "s1", "out", delta("a")),
        (3, "s2", "out", delta("b")),
        (4, "s1", "out", delta("a")),
        (5, "s1", "out", '{"type":"input_audio_buffer.speech_started"}'),
        (6, "s1", "out", delta("c")),
    ]
    file.write_text("".join(f"{at} {session} {way} {text}\n" for at, session, way, text in lines))
    one, two = (trace.read(file, "g711")[session] for session in ("s1", "s2"))
    assert (one.requests_ns, one.answers_ns, one.speech_started_ns) == ([1], [2, 6], [5])
    assert (two.requests_ns, two.answers_ns, two.speech_started_ns) == ([], [3], [])


def test_a_tone_is_voiced_and_both_zeros_are_silence() -> None:
    assert trace.is_voiced(tone(440, 0.02, -10.0), pcm16=False)
    assert not trace.is_voiced(b"\xff" * 80 + b"\x7f" * 80, pcm16=False)
