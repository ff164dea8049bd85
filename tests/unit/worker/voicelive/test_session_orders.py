"""What operators have a session do: say something, transfer the caller; and what tokens it says were taken."""

from typing import Any

import pytest

from shared.ending import CallEnd
from tests.unit.worker.voicelive.driving import NO_ALARMS, Script, asked, marks, of, spoken, texts
from worker.voicelive import actions as do
from worker.voicelive.events import InputTokens, OutputTokens, UsageInfo

URI = "sip:anna@pbx.example"
HANG_UP: dict[str, Any] = {"tools": ["hang_up"]}


def begun(**agent: Any) -> Script:
    return Script(**NO_ALARMS, **agent).begun()


def test_a_text_is_said_word_for_word() -> None:
    assert spoken(begun().ordered_to_say("We close now.")) == ["We close now."]


def test_a_text_waits_until_nobody_speaks() -> None:
    script = begun()
    script.speech()
    assert spoken(script.ordered_to_say("We close now.")) == []
    script.silence()
    assert spoken(script.answers("r")) == ["We close now."]


def test_a_text_is_said_by_the_next_connection_if_there_is_none() -> None:
    script = begun()
    script.lose()
    assert spoken(script.ordered_to_say("We close now.")) == []
    assert spoken(script.open(2)) == ["We close now."]


def test_a_transfer_waits_until_what_is_said_has_been_heard() -> None:
    script = begun()
    script.says("Hello")
    script.answers("r")
    assert of(script.ordered_to_transfer("anna", URI), do.Transfer) == []
    assert of(script.hear_all(), do.Transfer) == [do.Transfer(URI)]


def test_a_caller_who_was_transferred_is_let_go_and_the_operator_told() -> None:
    script = begun()
    assert of(script.ordered_to_transfer("anna", URI), do.Transfer) == [do.Transfer(URI)]
    assert script.transferred(200) == [do.OrderOver(""), do.HangUp(CallEnd.TRANSFERRED)]
    assert script.session.transferred_to == "anna"


def test_after_a_transfer_that_fails_the_conversation_goes_on() -> None:
    script = begun()
    script.ordered_to_transfer("anna", URI)
    actions = script.transferred(486)
    assert of(actions, do.OrderOver) == [do.OrderOver("busy")]
    assert (marks(actions), len(texts(actions)), asked(actions)) == (["transfer_failed"], 1, [{}])
    assert script.session.refusal == ""


def test_an_agents_own_transfer_has_nobody_waiting() -> None:
    script = begun(transfers={"desk": URI}, dtmf={"menu": {"2": {"transfer": "desk"}}})
    script.press("2")
    assert of(script.transferred(486), do.OrderOver) == []


def test_an_operator_is_told_when_the_call_ends_instead() -> None:
    script = Script(**{**NO_ALARMS, "limits": {"max_call_s": 60, "warning_s": 0}}).begun()
    script.says("Hello")
    script.answers("r")
    script.ordered_to_transfer("anna", URI)
    assert of(script.wait(60), do.OrderOver) == [do.OrderOver("the call is being ended")]


def test_nothing_is_done_for_an_operator_who_comes_too_late() -> None:
    script = begun(**HANG_UP)
    assert script.session.refusal == ""
    script.ordered_to_transfer("anna", URI)
    assert "transferred" in script.session.refusal
    script.transferred(486)
    script.response("r")
    script.calls("r", "call", "hang_up", farewell="Goodbye.")
    assert "ended" in script.session.refusal


def test_nothing_is_said_when_there_is_no_session_any_more() -> None:
    script = begun(reconnect={"give_up_after_s": 0})
    script.lose()
    assert script.session.refusal


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        (UsageInfo(InputTokens(text_tokens=100, audio_tokens=50, cached_tokens=90), OutputTokens(20, 80)), 250),
        (UsageInfo(), 0),
    ],
)
def test_tokens_are_counted_as_responses_take_them(usage: UsageInfo, tokens: int) -> None:
    script = begun()
    script.response("r")
    assert of(script.over("r", usage=usage), do.Spend) == [do.Spend(tokens)]


def test_a_response_without_usage_takes_nothing() -> None:
    script = begun()
    script.response("r")
    assert of(script.over("r"), do.Spend) == []
