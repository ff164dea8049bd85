"""What barge-ins, breaks and rollovers look like in what was sent and heard."""

import base64
import json
from pathlib import Path

import numpy as np
import pytest

from bench import dialogue, figures
from bench.bargein import Interrupted, interruptions
from bench.dialogue import Answer
from bench.load.clips import encode_ulaw
from bench.positions import Recordings
from bench.reconnect import longest_silence_ms, waited
from bench.rollover import compared, hears
from bench.talk import Played, Sound, played

MS = 1_000_000


def answer(
    begun_ms: int, *, samples: int = 8000, completed_ms: int | None = None, told: list[int] | None = None
) -> Answer:
    completed_ns = None if completed_ms is None else completed_ms * MS
    return Answer(f"resp_{begun_ms}", f"item_{begun_ms}", begun_ms * MS, bytearray(samples), completed_ns, told or [])


def sound(begin: int, end: int, first_ms: int, *, recording: int = 0) -> Sound:
    return Sound(recording, begin, end, first_ms * MS, (first_ms + (end - begin) // 8) * MS)


# Barge-in


def test_the_error_is_between_what_was_told_and_the_last_sample_heard() -> None:
    cut = Played(answer(1000, told=[520]), 0, [sound(0, 4000, 1010)])
    assert interruptions([cut], [1400 * MS]) == ([Interrupted(error_ms=20.0, flush_ms=110.0)], 0)


def test_an_answer_that_was_silent_at_once_was_flushed_in_no_time() -> None:
    cut = Played(answer(1000, told=[500]), 0, [sound(0, 4000, 1010)])
    assert interruptions([cut], [1600 * MS]) == ([Interrupted(error_ms=0.0, flush_ms=0.0)], 0)


def test_an_answer_that_was_cut_without_the_model_being_told_is_counted() -> None:
    cut = Played(answer(1000), 0, [sound(0, 4000, 1010)])
    assert interruptions([cut], [1600 * MS]) == ([], 1)


def test_an_answer_heard_to_its_end_and_one_at_the_end_of_the_call_were_not_spoken_over() -> None:
    whole = Played(answer(1000), 0, [sound(0, 8000, 1010)])
    last = Played(answer(3000), 1, [sound(0, 800, 3010, recording=1)])
    assert interruptions([whole, last], [2500 * MS]) == ([], 0)


# Reconnect

SAID = [(1000 * MS, 1600 * MS), (9000 * MS, 9600 * MS)]


def after_break(begun_ms: int, heard_ms: int) -> Played:
    return Played(answer(begun_ms, completed_ms=begun_ms + 500), 1, [sound(0, 8000, heard_ms, recording=1)])


def test_a_caller_who_has_finished_speaking_waits_from_the_break_on() -> None:
    assert waited(SAID, [after_break(3000, 3020)], 2000 * MS) == (2000 * MS, 3020 * MS)


def test_a_caller_who_is_speaking_waits_from_their_last_word_on() -> None:
    assert waited(SAID, [after_break(3000, 3020)], 1200 * MS) == (1600 * MS, 3020 * MS)


def test_an_answer_that_is_still_arriving_is_waited_for() -> None:
    broken = Played(answer(2500), 0, [sound(0, 4000, 2510)])
    assert waited(SAID, [broken, after_break(3700, 3720)], 2800 * MS) == (2800 * MS, 3720 * MS)


def test_nobody_waits_before_the_first_word_or_after_a_whole_answer() -> None:
    whole = Played(answer(2500, completed_ms=2900), 0, [sound(0, 8000, 2510)])
    assert waited(SAID, [whole], 3000 * MS) is None
    assert waited(SAID, [], 500 * MS) is None


@pytest.mark.parametrize("later", [[], [after_break(9900, 9950)]], ids=["never", "only to what was said next"])
def test_a_turn_that_nothing_is_said_to_is_unanswered(later: list[Played]) -> None:
    assert waited(SAID, later, 2000 * MS) == (2000 * MS, None)


def test_the_longest_silence_counts_both_ends_and_any_sound_between_them() -> None:
    audible = np.array([100, 900, 1000, 5000]) * MS
    assert longest_silence_ms(audible, 200 * MS, 1300 * MS) == 700.0
    assert longest_silence_ms(audible, 950 * MS, 1900 * MS) == 900.0
    assert longest_silence_ms(audible, 2000 * MS, 2500 * MS) == 500.0


# Rollover


def test_an_answer_heard_whole_and_once_has_nothing_missing_and_nothing_repeated() -> None:
    assert compared(Played(answer(0), 0, [sound(0, 3000, 10), sound(3000, 8000, 400)])) == (0, 0)


def test_what_was_never_heard_and_what_was_heard_twice_is_counted_in_samples() -> None:
    assert compared(Played(answer(0), 0, [sound(0, 3000, 10), sound(3160, 8000, 400)])) == (160, 0)
    assert compared(Played(answer(0), 0, [sound(0, 3000, 10), sound(2840, 8000, 400)])) == (0, 160)
    assert compared(Played(answer(0), 0, [])) == (8000, 0)


def test_of_an_answer_that_was_spoken_over_nothing_after_that_is_missing() -> None:
    assert compared(Played(answer(0, told=[500]), 0, [sound(0, 4000, 10)])) == (0, 0)
    assert compared(Played(answer(0, told=[500]), 0, [sound(0, 3840, 10)])) == (160, 0)


def test_a_moment_is_during_an_answer_only_while_it_is_heard() -> None:
    heard = [Played(answer(0), 0, [sound(0, 8000, 1000)])]
    assert hears(heard, 1500 * MS)
    assert not hears(heard, 2100 * MS)


# What was sent and what was heard, together


def test_a_recording_that_comes_again_is_another_answer(tmp_path: Path) -> None:
    recordings = Recordings([1.0, 1.0], seed=3)
    wav = [np.frombuffer(file.read_bytes()[44:], np.int16) for file in recordings.write(tmp_path)]
    sent = [bytearray(encode_ulaw(wav[number])) for number in (0, 1, 0)]
    answers = [Answer(f"r{at}", f"i{at}", at * MS, audio) for at, audio in zip((0, 2000, 4000), sent, strict=True)]
    answers.append(Answer("spoken", "spoken", 5000 * MS, bytearray(b"\xff" * 800)))
    sounds = [sound(0, 8000, 20), sound(0, 400, 2010, recording=1), sound(0, 8000, 4020)]

    found = played(answers, sounds, recordings)

    assert [(each.answer.response_id, each.recording, each.sounds) for each in found] == [
        ("r0", 0, sounds[:1]),
        ("r2000", 1, sounds[1:2]),
        ("r4000", 0, sounds[2:]),
    ]


def test_a_trace_tells_answers_truncations_and_errors_of_each_session(tmp_path: Path) -> None:
    def delta(response: str, audio: bytes) -> dict[str, object]:
        coded = base64.b64encode(audio).decode()
        return {"type": "response.audio.delta", "response_id": response, "item_id": f"{response}-item", "delta": coded}

    lines = [
        (1, "s1", "out", {"type": "session.updated"}),
        (2, "s1", "in", {"type": "input_audio_buffer.append", "audio": "AAAA"}),
        (3, "s1", "out", delta("a", b"one")),
        (4, "s2", "out", delta("b", b"other")),
        (5, "s1", "out", delta("a", b"two")),
        (6, "s1", "out", {"type": "response.done", "response": {"id": "a", "status": "completed"}}),
        (7, "s2", "out", {"type": "response.done", "response": {"id": "b", "status": "cancelled"}}),
        (8, "s1", "out", {"type": "input_audio_buffer.speech_started"}),
        (9, "s1", "in", {"type": "conversation.item.truncate", "item_id": "a-item", "audio_end_ms": 40}),
        (10, "s1", "out", {"type": "error", "error": {"code": "session_expired"}}),
    ]
    file = tmp_path / "trace"
    file.write_text("".join(f"{at} {session} {way} {json.dumps(message)}\n" for at, session, way, message in lines))

    found = dialogue.read(file)

    first = found["s1"]
    assert (first.ready_ns, first.speech_started_ns, first.errors) == (1, [8], ["session_expired"])
    assert first.answers == [Answer("a", "a-item", 3, bytearray(b"onetwo"), 6, [40])]
    assert found["s2"].answers == [Answer("b", "b-item", 4, bytearray(b"other"), None, [])]


def test_values_are_spread_from_nothing_to_the_greatest() -> None:
    assert figures.spread([0.0, 1.0, 79.0, 80.0], at_least=40.0) == {"step": 2.0, "counts": [2, *[0] * 37, 0, 2]}
    assert figures.spread([0.0], at_least=40.0) == {"step": 1.0, "counts": [1, *[0] * 39]}
