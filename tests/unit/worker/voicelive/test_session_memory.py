"""What remains of a conversation: who said what and when, the turns' times, the tokens."""

import pytest

from tests.unit.worker.voicelive.driving import NO_ALARMS, START, Script
from worker.voicelive import events
from worker.voicelive.events import InputTokens, OutputTokens, UsageInfo
from worker.voicelive.memory import Role, Turn, Typed, Usage, Utterance


def utterance(script: Script, item: str) -> Utterance:
    found = script.session.memory.utterance(item)
    assert found is not None
    return found


def said(script: Script) -> list[tuple[Role, str]]:
    entries = [entry for entry in script.session.memory.entries if isinstance(entry, Utterance)]
    return [(entry.role, entry.text) for entry in entries]


def test_both_sides_are_remembered_in_order() -> None:
    script = Script().begun()
    script.conversed("r1", "Good day.")
    script.says("Hello.")
    script.conversed("r2", "Hello Ada.")
    assert said(script) == [(Role.AGENT, "Good day."), (Role.CALLER, "Hello."), (Role.AGENT, "Hello Ada.")]


def test_a_transcript_belongs_to_the_item_it_names() -> None:
    script = Script().begun()
    for item in ("caller_1", "caller_2"):
        script.speech(item)
        script.silence(item)
    script.transcript("Second.", "caller_2")
    script.transcript("First.", "caller_1")
    assert said(script) == [(Role.CALLER, "First."), (Role.CALLER, "Second.")]


def test_a_second_transcript_that_is_empty_is_ignored() -> None:
    script = Script().begun()
    script.says("Hello.")
    script.transcript("")
    assert said(script) == [(Role.CALLER, "Hello.")]


def test_a_transcript_of_nothing_known_is_ignored() -> None:
    script = Script().begun()
    assert script.transcript("Hello.", "item_9") == []
    assert said(script) == []


def test_words_that_could_not_be_transcribed_leave_an_empty_utterance() -> None:
    script = Script().begun()
    script.speech()
    script.silence()
    script.receive(events.CallerTranscriptFailed("caller_1"))
    assert said(script) == [(Role.CALLER, "")]
    assert utterance(script, "caller_1").settled


def test_an_answers_words_add_up_until_all_of_them_are_known() -> None:
    script = Script().begun()
    script.response("r")
    script.words("r", "Good ")
    script.audio("r")
    script.words("r", "dey.")
    assert said(script) == [(Role.AGENT, "Good dey.")]
    script.all_words("r", "Good day.")
    assert said(script) == [(Role.AGENT, "Good day.")]


@pytest.mark.parametrize(
    ("heard_ms", "left"),
    [
        (0, ""),
        (150, ""),
        (250, "One"),
        (500, "One two"),
        (510, "One two"),
        (700, "One two"),
        (750, "One two three"),
        (999, "One two three"),
    ],
)
def test_an_answer_that_was_cut_off_ends_at_a_word(heard_ms: int, left: str) -> None:
    script = Script().begun()
    script.answers("r", "One two three four", ms=1000)
    script.hear(heard_ms)
    script.speech()
    entry = utterance(script, "item_r")
    assert (entry.text, entry.heard_ms) == (left, heard_ms)


def test_words_that_came_long_before_their_audio_are_cut_by_how_fast_one_speaks() -> None:
    script = Script().begun()
    script.response("r")
    script.words("r", "One two three four five six seven eight nine ten.")  # some 3.3 s
    script.audio("r", 1000)
    script.hear(900)
    script.speech()
    assert utterance(script, "item_r").text == "One two three"


def test_words_that_no_audio_came_of_were_not_said() -> None:
    script = Script().begun()
    script.says("Hello.")
    script.response("r1")
    script.words("r1", "Good day.")
    script.says("Are you there?", "caller_2")
    script.over("r1", "cancelled")
    script.conversed("r2", "I am.")
    assert said(script) == [(Role.CALLER, "Hello."), (Role.CALLER, "Are you there?"), (Role.AGENT, "I am.")]


def test_words_of_a_response_that_failed_before_its_audio_were_not_said() -> None:
    script = Script().begun()
    script.says("Hello.")
    script.response("r1")
    script.words("r1", "Good ")
    script.over("r1", "failed")
    script.conversed("r2", "Good day.")
    assert said(script) == [(Role.CALLER, "Hello."), (Role.AGENT, "Good day.")]


def test_audio_with_nothing_in_it_is_no_answer() -> None:
    script = Script().begun()
    script.says("Hello.")
    script.response("r")
    assert script.audio("r", 0) == []
    script.audio("r")
    assert len(said(script)) == 2


def test_words_that_came_before_their_audio_are_the_answers() -> None:
    script = Script().begun()
    script.response("r")
    script.all_words("r", "Good day.")
    script.wait(0.5)
    script.audio("r")
    entry = utterance(script, "item_r")
    assert (entry.text, entry.at) == ("Good day.", START + 0.5)


def test_an_answer_that_was_heard_whole_is_left_alone() -> None:
    script = Script().begun()
    script.conversed("r", "One two three four")
    script.speech()
    entry = utterance(script, "item_r")
    assert (entry.text, entry.heard_ms) == ("One two three four", None)


def test_speech_is_placed_where_it_was_in_the_callers_audio() -> None:
    script = Script().begun()
    script.sent_ms = 10_000
    script.speech(at_ms=9_400)
    assert utterance(script, "caller_1").at == START - 0.6


def test_an_answer_is_placed_where_its_first_packet_went_out() -> None:
    script = Script().begun()
    script.response("r")
    script.audio("r")
    script.session.playout_started(START + 0.25)
    assert utterance(script, "item_r").at == START + 0.25


def test_a_packet_that_goes_out_does_not_move_what_the_caller_said() -> None:
    script = Script().begun()
    script.says("Hello.")
    script.session.playout_started(START + 5)
    assert utterance(script, "caller_1").at == START


def test_a_turns_first_packet_is_that_of_its_first_answer() -> None:
    script = Script().begun()
    script.says("Hello.")
    script.session.playout_started(START + 0.5)  # the filler
    script.answers("r")
    script.session.playout_started(START + 1)
    script.session.playout_started(START + 2)
    [turn] = script.session.memory.turns
    assert turn.first_packet == START + 1


def test_a_turn_has_its_four_moments() -> None:
    script = Script().begun(silence_ms=500)
    script.wait(10)
    script.sent_ms = 10_000
    script.speech(at_ms=8_000)
    script.silence(at_ms=9_900)
    script.wait(0.75)
    script.response("r")
    script.audio("r")
    script.session.playout_started(START + 10.8)
    [turn] = script.session.memory.turns
    assert turn == Turn(START + 10, START + 9.4, START + 10.75, START + 10.8, barged_in=False)


def test_a_turns_first_audio_is_that_of_its_first_answer() -> None:
    script = Script().begun()
    script.says("Hello.")
    script.wait(1)
    script.conversed("r1")
    script.wait(5)
    script.conversed("r2")
    [turn] = script.session.memory.turns
    assert turn.first_audio == START + 1


def test_the_greeting_is_no_turn() -> None:
    script = Script("Hello!").begun()
    script.conversed("r", "Hello!")
    script.session.playout_started(START)
    assert script.session.memory.turns == []


def test_a_responses_tokens_are_remembered() -> None:
    script = Script(**NO_ALARMS).begun()
    details = InputTokens(text_tokens=60, audio_tokens=30)
    given = InputTokens(text_tokens=100, audio_tokens=50, cached_tokens=90, cached_tokens_details=details)
    script.response("r")
    script.over("r", usage=UsageInfo(given, OutputTokens(text_tokens=20, audio_tokens=80)))
    expected = Usage(
        response_id="r",
        at=START,
        model="gpt-4.1-mini",
        input_text=100,
        input_audio=50,
        cached_text=60,
        cached_audio=30,
        output_text=20,
        output_audio=80,
    )
    assert script.session.memory.usage == [expected]


def test_cached_tokens_without_their_kinds_count_as_text() -> None:
    script = Script().begun()
    script.response("r")
    script.over("r", usage=UsageInfo(InputTokens(text_tokens=100, cached_tokens=90)))
    [usage] = script.session.memory.usage
    assert (usage.cached_text, usage.cached_audio, usage.output_text) == (90, 0, 0)


def test_a_response_without_a_count_is_not_remembered() -> None:
    script = Script().begun()
    script.answers("r")
    assert script.session.memory.usage == []


def test_what_a_foundry_agent_costs_is_noted_under_its_name() -> None:
    script = Script(model="", foundry_agent={"name": "helpdesk", "project": "telephony"}).begun()
    script.response("r")
    script.over("r", usage=UsageInfo(InputTokens(text_tokens=1)))
    assert script.session.memory.usage[0].model == "helpdesk"


def test_what_was_being_typed_when_the_call_ended_is_remembered() -> None:
    script = Script().begun()
    script.press("42")
    script.session.ended([], START)
    script.session.ended([], START)
    assert script.session.memory.entries == [Typed("42", START)]


def test_what_was_being_typed_in_secret_when_the_call_ended_stays_secret() -> None:
    script = Script(tools=["collect_digits"]).begun()
    script.runs("r", "call", "collect_digits", max_digits=4, sensitive=True)
    script.press("12")
    script.session.ended([], START)
    assert Typed("12", START, sensitive=True) in script.session.memory.entries


def test_of_an_answer_what_was_heard_when_the_call_ended_is_remembered() -> None:
    script = Script().begun()
    script.answers("r", "One two three four", ms=1000)
    script.session.ended([("item_r", 500)], START)
    assert utterance(script, "item_r").text == "One two"
