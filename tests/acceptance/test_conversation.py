"""What a caller says is what the caller hears back: through dispatcher, worker, Voice Live simulator and back."""

from itertools import pairwise
from pathlib import Path

import pytest

from shared.ending import CallEnd, CallResult
from simulator.phone.analysis import RATE, align, speech_segments
from tests.acceptance.pool import Pool, running_pool
from tests.acceptance.telephone import PhoneCall, assert_heard_back, ring_undisturbed

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
"""About seven seconds without a pause."""

CALLERS = {
    "PCMU": ["--codec", "PCMU", "--say", "the quick brown fox jumps over the lazy dog"],
    "PCMA": ["--codec", "PCMA", "--say", "seven green bottles are standing on the wall"],
    "two turns": ["--turns", "2"],
    "barge-in": ["--say", LONG, "--say", "please stop now because there is more to say", "--talk-over-after", "1.5"],
    "hang-up": ["--say", LONG, "--hangup-after", "4"],
}
"""Who calls at the same time, to save the suite a minute; each test looks at one of them."""


@pytest.fixture(scope="module")
def calls(shared_pool: Pool) -> dict[str, PhoneCall]:
    """Returns what came of the calls of all CALLERS."""
    return {name: calls[0] for name, calls in ring_undisturbed(shared_pool, CALLERS).items()}


def assert_completed(pool: Pool, call: PhoneCall) -> None:
    """Fails unless the call left one record, completed by the caller's BYE, and what happened stands in it in order."""
    record = pool.record(call.call_id)
    assert (record.result, record.reason) == (CallResult.COMPLETED, CallEnd.CALLER_HANGUP)
    names = [name for name, _ in record.marks]
    wanted = ["invite", "lease", "claimed", "connected", "session_ready", "answered", "greeting_audio",
              "greeting_playout", "speech_started", "speech_stopped", "answer_audio", "answer_playout", "hangup",
              "ended"]  # fmt: skip
    assert [name for name in names if name in wanted] == wanted, names
    assert all(earlier <= later for (_, earlier), (_, later) in pairwise(record.marks)), record.marks


@pytest.mark.parametrize("codec", ["PCMU", "PCMA"])
def test_a_sentence_comes_back_as_it_was_said(pool: Pool, calls: dict[str, PhoneCall], codec: str) -> None:
    call = calls[codec]
    assert_heard_back(pool, call)
    assert call.report["status"] == 200
    assert call.report["ended_by"] == "caller"
    marks = call.marks
    assert marks["answered"] <= marks["greeting_first_packet"] < marks["greeting_end"] < marks["speech_start"]
    assert marks["speech_end"] < marks["answer_first_packet"] < marks["answer_end"] < marks["bye"]
    assert_completed(pool, call)


def test_a_sentence_comes_back_through_24_khz_pcm(tmp_path: Path) -> None:
    with running_pool(tmp_path, workers=1, VOICE_LIVE_AUDIO_FORMAT="pcm16") as pool:
        options = ["--say", "the quick brown fox jumps over the lazy dog"]
        (call,) = ring_undisturbed(pool, {"pcm16": options})["pcm16"]
        assert_heard_back(pool, call, correlation=0.9)
        assert_completed(pool, call)


def test_every_turn_of_a_call_is_answered(pool: Pool, calls: dict[str, PhoneCall]) -> None:
    call = calls["two turns"]
    assert_heard_back(pool, call)
    assert len(call.report["turns"]) == 2
    assert pool.record(call.call_id).counters["turns"] == 2


def test_twenty_calls_at_once_hear_their_own_words_and_nobody_elses(pool: Pool) -> None:
    calls = ring_undisturbed(pool, {"all": ["--calls", "20", "--stagger-ms", "50"]})["all"]
    assert len({call.call_id for call in calls}) == 20
    for call in calls:
        assert_heard_back(pool, call)
    said = [call.said() for call in calls]
    for number, call in enumerate(calls):
        others = max(align(other, call.answer()).correlation for other in [*said[:number], *said[number + 1 :]])
        assert others < 0.6, f"call {number} hears another call ({others:.2f})"
    records = [pool.record(call.call_id) for call in calls]
    assert {record.reason for record in records} == {CallEnd.CALLER_HANGUP}
    assert len({record.worker_id for record in records}) == 2, "both workers carry calls"
    assert len({record.session_id for record in records}) == 20


def test_a_caller_who_talks_over_the_answer_is_heard_and_answered(pool: Pool, calls: dict[str, PhoneCall]) -> None:
    call = calls["barge-in"]
    assert call.report["ok"], f"{call.report}\n{pool.tails()}"
    first, second = call.report["turns"]
    assert first["talked_over"]
    begin, end = call.sample(second["speech_start"]), call.sample(second["speech_end"])
    # The answer would have gone on for longer than the interruption; it stopped well within it.
    left = len(call.said(0)) - (begin - call.sample(first["answer_first_packet"]))
    assert left > end - begin, "the test itself: the first answer has to be longer"
    assert speech_segments(call.tracks()[1][end - RATE : end]) == [], "the old answer goes on"
    assert second["correlation"] >= 0.95, second
    assert "barge_in" in [name for name, _ in pool.record(call.call_id).marks]


def test_the_model_learns_what_the_caller_heard_before_talking_over_it(pool: Pool, calls: dict[str, PhoneCall]) -> None:
    record = pool.record(calls["barge-in"].call_id)
    barged_in = dict(record.marks)["barge_in"]
    began = max(at for name, at in record.marks if name == "answer_playout" and at < barged_in)
    [session] = [session for session in pool.sessions() if session["id"] == record.session_id]
    [truncated] = [mark["audio_ms"] for mark in session["marks"] if mark["kind"] == "truncated"]
    # Counted in samples against measured by the clock: a frame, and what the event loop took to note the moment.
    assert abs(truncated - (barged_in - began)) <= 60
    assert "error" not in session["sent"]


def test_a_caller_who_hangs_up_in_the_middle_ends_the_call(pool: Pool, calls: dict[str, PhoneCall]) -> None:
    call = calls["hang-up"]
    assert call.report["ok"], f"{call.report}\n{pool.tails()}"
    assert call.report["ended_by"] == "caller"
    record = pool.record(call.call_id)
    assert (record.result, record.reason) == (CallResult.COMPLETED, CallEnd.CALLER_HANGUP)
