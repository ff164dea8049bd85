"""The service ends every session after a while: the next connection is there before that, and takes over unheard."""

import pytest

from tests.unit.worker.voicelive.driving import NO_ALARMS, START, Script, asked, marks, of, sent, texts
from worker.voicelive import actions as do
from worker.voicelive.memory import Utterance


def long_call(expires_in_s: float | None = None) -> Script:
    expires_at = None if expires_in_s is None else START + expires_in_s
    return Script(**NO_ALARMS).begun(expires_at=expires_at)


def said(script: Script) -> list[str]:
    return [entry.text for entry in script.session.memory.entries if isinstance(entry, Utterance)]


@pytest.mark.parametrize(
    ("expires_in_s", "opened_after_s"), [(1800, 1740), (None, 3540), (7200, 3540), (100, 75)], ids=str
)
def test_the_next_connection_is_opened_shortly_before_the_session_ends(
    expires_in_s: float | None, opened_after_s: float
) -> None:
    script = long_call(expires_in_s)
    assert script.wait(opened_after_s - 0.1) == []
    assert script.wait(0.2) == [do.Connect(2)]


def test_it_takes_over_at_once_when_nothing_is_going_on() -> None:
    script = long_call(1800)
    script.conversed("r", "Good day.")
    script.wait(1740)
    actions = script.open(2)
    assert texts(actions) == [("assistant", "Good day.")] and asked(actions) == []
    assert do.Listen(2) in actions and actions[-1] == do.Disconnect(1)
    assert marks(actions) == ["session_resumed"]
    assert do.Hold() not in script.done


def test_it_waits_until_the_answer_under_way_has_been_heard() -> None:
    script = long_call(1800)
    script.response("r")
    script.audio("r")
    script.wait(1740)
    assert of(script.open(2), do.Listen) == []
    script.audio_done("r")
    assert of(script.over("r"), do.Listen) == []
    assert do.Listen(2) in script.hear_all()


def test_it_waits_until_the_caller_has_been_answered() -> None:
    script = long_call(1800)
    script.wait(1740)
    script.speech()
    assert of(script.open(2), do.Listen) == []
    assert of(script.silence() + script.transcript("Hello?"), do.Listen) == []
    assert of(script.answers("r"), do.Listen) == []
    assert do.Listen(2) in script.hear_all()


def test_near_the_end_it_takes_over_as_soon_as_the_answer_has_arrived_and_it_is_heard_to_its_end() -> None:
    script = long_call(1800)
    script.response("r")
    script.audio("r", 9000)
    script.wait(1740)
    script.open(2)
    assert of(script.wait(56), do.Listen) == []
    script.audio_done("r")
    script.over("r")
    actions = script.wait(0.2)
    assert do.Listen(2) in actions and do.FlushPlayout() not in actions
    assert asked(actions) == []


def test_it_takes_over_at_the_end_whatever_is_going_on() -> None:
    script = long_call(1800)
    script.says("Count.")
    script.response("r")
    script.words("r", "One two three four five six seven eight nine ten.")
    script.audio("r", 1633)
    script.wait(1740)
    script.open(2)
    assert of(script.wait(58.9), do.Listen) == []
    actions = script.wait(0.2)
    assert do.Listen(2) in actions and do.Disconnect(1) in actions
    assert do.FlushPlayout() not in actions
    [request] = asked(actions)
    assert '"One two three four five"' in request["instructions"]


def test_an_answer_of_which_only_words_have_arrived_at_the_end_is_given_by_the_next_alone() -> None:
    script = long_call(1800)
    script.wait(1740)
    script.says("Count.")
    script.open(2)
    script.wait(58.8)
    script.response("r")
    script.words("r", "One two three four five.")
    actions = script.wait(0.3)
    assert do.Disconnect(1) in actions
    assert texts(actions) == [("user", "Count.")] and asked(actions) == [{}]
    script.conversed("r2", "One two three.")
    assert said(script) == ["Count.", "One two three."]


def test_the_caller_is_heard_again_by_the_next_when_the_end_comes_before_her_words_and_any_audio() -> None:
    script = long_call(1800)
    script.wait(1740)
    script.speech()
    script.open(2)
    script.wait(54.9)
    script.silence()
    script.wait(3.9)
    script.response("r")
    script.words("r", "One two three four five.")
    actions = script.wait(0.3)
    assert do.Listen(2) in actions and texts(actions) == [] and asked(actions) == []
    script.says("Count.", "caller_2")
    script.conversed("r2", "One two three.")
    assert said(script) == ["Count.", "One two three."]
    assert len(script.session.memory.turns) == 1


def test_the_connection_that_took_over_is_followed_by_another() -> None:
    script = long_call(1800)
    script.wait(1740)
    script.open(2, expires_at=script.now + 1800)
    assert script.wait(1739.9) == []
    assert script.wait(0.2) == [do.Connect(3)]


def test_a_next_connection_that_fails_is_tried_again() -> None:
    script = long_call(1800)
    script.wait(1740)
    assert of(script.lose(2), do.Connect) == []
    assert script.wait(1.1) == [do.Connect(3)]
    assert do.Listen(3) in script.open(3)


def test_a_next_connection_that_is_refused_leaves_the_live_one_alone() -> None:
    script = long_call(1800)
    script.wait(1740)
    script.created(2)
    assert script.error("invalid_voice", connection=2) == [do.Disconnect(2)]
    assert do.FlushPlayout() in script.speech()


def test_what_the_next_connection_says_before_it_takes_over_does_nothing() -> None:
    script = long_call(1800)
    script.response("r")
    script.wait(1740)
    script.open(2)
    script.live = 2
    assert script.speech() == []


def test_a_live_connection_that_is_lost_is_replaced_by_the_next_at_once() -> None:
    script = long_call(1800)
    script.says("Hello?")
    script.wait(1740)
    script.open(2)
    actions = script.lose(1)
    assert do.Listen(2) in actions and do.Hold() not in actions
    assert of(actions, do.Connect) == [] and asked(actions) == [{}]


def test_a_live_connection_that_is_lost_is_replaced_by_the_next_as_soon_as_that_is_ready() -> None:
    script = long_call(1800)
    script.says("Hello?")
    script.wait(1740)
    actions = script.lose(1)
    assert do.Hold() in actions and of(actions, do.Connect) == []
    assert do.Listen(2) in script.open(2)


def test_a_barge_in_on_an_answer_of_the_connection_before_corrects_what_the_next_was_told() -> None:
    script = long_call()
    script.answers("r", "One two three four.", ms=1000)
    script.lose()
    assert texts(script.open(2)) == [("assistant", "One two three four.")]
    script.hear(500)
    actions = script.speech()
    [deletion] = sent(actions, "conversation.item.delete")
    assert deletion["item_id"].startswith("retold_")
    assert texts(actions) == [("assistant", "One two")]
    assert sent(actions, "conversation.item.truncate") == []


def test_an_answer_of_the_connection_before_that_was_not_heard_at_all_is_forgotten() -> None:
    script = long_call()
    script.answers("r", "One two three four.", ms=1000)
    script.lose()
    script.open(2)
    actions = script.speech()
    assert sent(actions, "conversation.item.delete") and texts(actions) == []


def test_an_answer_that_was_cut_off_between_two_connections_is_told_as_it_was_heard() -> None:
    script = long_call()
    script.answers("r", "One two three four.", ms=1000)
    script.lose()
    script.hear(500)
    script.press("1")
    assert texts(script.open(2)) == [("assistant", "One two")]


def test_a_session_that_claims_to_be_over_already_is_taken_for_one_of_full_length() -> None:
    script = long_call(-3600)
    assert script.wait(3539.9) == []
    assert script.wait(0.2) == [do.Connect(2)]
