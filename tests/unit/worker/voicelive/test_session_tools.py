"""What the model calls, and what it is told of it."""

from typing import Any

import pytest

from shared.ending import CallEnd
from tests.unit.worker.voicelive.driving import (
    WEATHER,
    Script,
    asked,
    marks,
    of,
    outputs,
    sent,
    spoken,
    told,
)
from worker.voicelive import actions as do
from worker.voicelive import events
from worker.voicelive.memory import ToolCall, Typed

DESK: dict[str, Any] = {"transfers": {"desk": "sip:desk@pbx.example"}}
TRANSFER: dict[str, Any] = {"tools": ["transfer_call"], **DESK}


def weather() -> Script:
    return Script(tools=[WEATHER]).begun()


def hanging_up() -> Script:
    return Script(tools=["hang_up", "collect_digits", WEATHER]).begun()


def transferring() -> Script:
    return Script(**TRANSFER).begun()


def collecting(**arguments: object) -> Script:
    script = Script(tools=["collect_digits"]).begun()
    script.runs("r", "call", "collect_digits", **{"max_digits": 4, **arguments})
    return script


# ---------------------------------------------------------------------------------------------------- calls and results


def test_a_tool_runs_with_the_arguments_the_model_gave() -> None:
    script = weather()
    script.response("r")
    assert do.RunTool("call", "weather", {"city": "Ulm"}) in script.calls("r", "call", "weather", city="Ulm")


def test_a_result_is_told_and_then_an_answer_asked_for() -> None:
    script = weather()
    script.runs("r", "call", "weather", city="Ulm")
    actions = script.tool_done("call", '{"sky": "clear"}')
    assert outputs(actions) == {"call": {"sky": "clear"}}
    assert [event["type"] for event in sent(actions)] == ["conversation.item.create", "response.create"]


def test_a_result_that_comes_before_the_response_is_over_is_told_but_not_asked_about() -> None:
    script = weather()
    script.response("r")
    script.calls("r", "call", "weather", city="Ulm")
    actions = script.tool_done("call")
    assert outputs(actions) and not asked(actions)
    assert asked(script.over("r")) == [{}]


def test_the_results_of_one_response_are_followed_by_one_answer() -> None:
    script = weather()
    script.response("r")
    for call in ("a", "b", "c"):
        script.calls("r", call, "weather", city="Ulm")
    script.over("r")
    assert asked(script.tool_done("b") + script.tool_done("c")) == []
    assert asked(script.tool_done("a")) == [{}]


def test_the_answer_waits_for_the_one_that_is_under_way() -> None:
    script = weather()
    script.runs("r1", "call", "weather", city="Ulm")
    script.response("r2")
    assert asked(script.tool_done("call")) == []
    assert asked(script.over("r2")) == [{}]


def test_a_second_result_of_a_call_is_not_told() -> None:
    script = weather()
    script.runs("r", "call", "weather", city="Ulm")
    script.tool_done("call")
    assert script.tool_done("call") == []


def test_a_result_of_no_call_is_not_told() -> None:
    assert weather().tool_done("nobody") == []


@pytest.mark.parametrize("arguments", ["{", "[]", "{}", '{"city": 7}'])
def test_arguments_that_do_not_fit_are_answered_as_an_error(arguments: str) -> None:
    script = weather()
    script.response("r")
    actions = script.calls_with("r", "call", "weather", arguments)
    assert of(actions, do.RunTool) == []
    assert set(outputs(actions)["call"]) == {"error"}
    assert asked(script.over("r")) == [{}]


def test_a_tool_that_there_is_not_is_answered_as_an_error() -> None:
    script = weather()
    script.response("r")
    assert "weather" in outputs(script.calls("r", "call", "wether", city="Ulm"))["call"]["error"]


def test_a_tool_call_is_remembered_with_its_result() -> None:
    script = weather()
    script.runs("r", "call", "weather", city="Ulm")
    script.wait(1.5)
    script.tool_done("call", '{"error": "no"}', failed=True)
    [call] = script.session.memory.entries
    assert isinstance(call, ToolCall)
    assert (call.name, call.arguments, call.output, call.failed) == (
        "weather",
        '{"city": "Ulm"}',
        '{"error": "no"}',
        True,
    )
    assert call.done_at == call.at + 1.5


def test_an_mcp_server_gets_no_approval() -> None:
    script = Script(tools=[{"type": "mcp", "label": "docs", "url": "https://mcp.example"}]).begun()
    script.response("r")
    item = events.OutputItem("mcpr_1", "mcp_approval_request")
    [refusal] = told(script.receive(events.OutputItemDone("r", item)))
    assert refusal == {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": False}


# ------------------------------------------------------------------------------------ while others speak or were faster


def test_while_the_caller_speaks_a_result_is_told_but_not_asked_about() -> None:
    script = weather()
    script.runs("r", "call", "weather", city="Ulm")
    script.speech()
    actions = script.tool_done("call")
    assert outputs(actions) and not asked(actions)


def test_after_the_caller_has_spoken_the_services_own_response_comes_first() -> None:
    script = weather()
    script.runs("r", "call", "weather", city="Ulm")
    script.speech()
    script.tool_done("call")
    assert asked(script.silence() + script.transcript("And tomorrow?")) == []


def test_a_response_of_the_services_own_that_has_seen_the_result_is_the_answer_to_it() -> None:
    script = weather()
    script.runs("r1", "call", "weather", city="Ulm")
    script.speech()
    script.takes_in(script.tool_done("call"))
    script.silence()
    assert asked(script.conversed("r2")) == []


def test_a_response_of_the_services_own_that_has_not_seen_the_result_is_followed_by_an_answer_to_it() -> None:
    script = weather()
    script.runs("r1", "call", "weather", city="Ulm")
    script.says("And tomorrow?")
    result = script.tool_done("call")
    assert asked(script.response("r2")) == []
    script.takes_in(result)
    assert asked(script.over("r2")) == [{}]


def test_when_nothing_was_understood_the_result_is_asked_about() -> None:
    script = weather()
    script.runs("r", "call", "weather", city="Ulm")
    script.speech()
    script.tool_done("call")
    assert asked(script.silence()) == []
    assert asked(script.transcript("")) == [{}]


def test_a_request_that_met_a_response_of_the_services_own_is_made_again_after_it() -> None:
    script = weather()
    script.runs("r1", "call", "weather", city="Ulm")
    [request] = sent(script.tool_done("call"), "response.create")
    script.response("r2")
    assert sent(script.error("conversation_already_has_active_response", request["event_id"])) == []
    [again] = sent(script.over("r2"), "response.create")
    assert again["response"] == request["response"] and again["event_id"] != request["event_id"]
    assert script.session.errors == 0


def test_a_request_that_met_a_response_that_has_seen_everything_is_not_made_again() -> None:
    script = weather()
    script.runs("r1", "call", "weather", city="Ulm")
    actions = script.tool_done("call")
    script.takes_in(actions)
    [request] = sent(actions, "response.create")
    script.response("r2")
    script.error("conversation_already_has_active_response", request["event_id"])
    assert sent(script.over("r2")) == []


def test_a_request_that_is_refused_for_what_it_says_is_not_made_again() -> None:
    script = Script("Hello!").begun()
    [request] = sent(script.done, "response.create")
    assert sent(script.error("invalid_value", request["event_id"])) == []
    assert script.session.errors == 1


def test_an_old_request_that_is_refused_late_is_not_made_again() -> None:
    script = weather()
    script.runs("r1", "call", "weather", city="Ulm")
    [request] = sent(script.tool_done("call"), "response.create")
    script.conversed("r2")
    script.runs("r3", "other", "weather", city="Ulm")
    script.tool_done("other")
    assert script.error("conversation_already_has_active_response", request["event_id"]) == []


# --------------------------------------------------------------------------------------------------------- hanging up


def test_the_call_is_ended_once_the_goodbye_of_the_same_response_has_been_heard() -> None:
    script = hanging_up()
    script.speaks("r", "Goodbye!")
    assert of(script.calls("r", "call", "hang_up") + script.over("r"), do.HangUp) == []
    actions = script.hear_all()
    assert of(actions, do.HangUp) == [do.HangUp(CallEnd.AGENT_HANGUP)]
    assert outputs(actions) == {"call": {"result": "hung up"}} and asked(actions) == []


def test_a_response_without_words_is_followed_by_the_agents_goodbye() -> None:
    script = hanging_up()
    actions = script.runs("r", "call", "hang_up")
    assert spoken(actions) == ["Goodbye."] and of(actions, do.HangUp) == []
    script.answers("r2")
    assert of(script.hear_all(), do.HangUp) == [do.HangUp(CallEnd.AGENT_HANGUP)]


def test_a_farewell_is_said_before_the_call_is_ended() -> None:
    script = hanging_up()
    script.speaks("r", "Fine.")
    script.calls("r", "call", "hang_up", farewell="Bye, Ada!")
    assert spoken(script.over("r")) == ["Bye, Ada!"]
    assert of(script.hear_all(), do.HangUp) == []
    script.answers("r2", "Bye, Ada!")
    assert of(script.hear_all(), do.HangUp) == [do.HangUp(CallEnd.AGENT_HANGUP)]


def test_a_caller_who_goes_on_talking_is_not_hung_up_on() -> None:
    script = hanging_up()
    script.speaks("r", "Goodbye!")
    script.calls("r", "call", "hang_up")
    script.over("r")
    actions = script.speech()
    assert "error" in outputs(actions)["call"]
    script.silence()
    script.transcript("Wait!")
    script.conversed("r2", "Yes?")
    assert of(script.wait(8), do.HangUp) == []


def test_a_farewell_that_was_not_asked_for_yet_is_not_said_to_a_caller_who_goes_on_talking() -> None:
    script = hanging_up()
    script.response("r")
    script.calls("r", "call", "hang_up", farewell="Bye!")
    script.speech()
    assert spoken(script.over("r", "cancelled") + script.silence() + script.transcript("")) == []


def test_a_key_keeps_the_call_as_speech_does() -> None:
    script = hanging_up()
    script.speaks("r", "Goodbye!")
    script.calls("r", "call", "hang_up")
    script.over("r")
    assert "error" in outputs(script.press("5"))["call"]


def test_the_call_is_not_ended_before_the_other_tools_of_the_response_are_done() -> None:
    script = hanging_up()
    script.speaks("r", "I note that. Goodbye!")
    script.calls("r", "work", "weather", city="Ulm")
    script.calls("r", "call", "hang_up")
    script.over("r")
    assert of(script.hear_all(), do.HangUp) == []
    assert of(script.tool_done("work"), do.HangUp) == [do.HangUp(CallEnd.AGENT_HANGUP)]


def test_a_goodbye_that_does_not_come_holds_the_call_up_for_so_long_only() -> None:
    script = hanging_up()
    script.runs("r", "call", "hang_up")
    assert of(script.wait(29), do.HangUp) == []
    assert of(script.wait(2), do.HangUp) == [do.HangUp(CallEnd.AGENT_HANGUP)]


def test_hanging_up_twice_hangs_up_once() -> None:
    script = hanging_up()
    script.speaks("r", "Goodbye!")
    script.calls("r", "first", "hang_up")
    script.calls("r", "second", "hang_up")
    script.over("r")
    assert of(script.hear_all(), do.HangUp) == [do.HangUp(CallEnd.AGENT_HANGUP)]


# -------------------------------------------------------------------------------------------------------- transferring


def test_a_transfer_waits_until_what_is_said_has_been_heard() -> None:
    script = transferring()
    script.speaks("r", "I put you through.")
    assert of(script.calls("r", "call", "transfer_call", target="desk") + script.over("r"), do.Transfer) == []
    assert of(script.hear_all(), do.Transfer) == [do.Transfer("sip:desk@pbx.example")]


def test_a_transfer_is_announced_in_the_models_words() -> None:
    script = transferring()
    actions = script.runs("r", "call", "transfer_call", target="desk", announcement="One moment.")
    assert spoken(actions) == ["One moment."] and of(actions, do.Transfer) == []
    script.answers("r2", "One moment.")
    assert of(script.hear_all(), do.Transfer)


def test_a_caller_who_was_transferred_is_let_go() -> None:
    script = transferring()
    script.runs("r", "call", "transfer_call", target="desk")
    actions = script.transferred(200)
    assert of(actions, do.HangUp) == [do.HangUp(CallEnd.TRANSFERRED)]
    assert outputs(actions) == {"call": {"result": "transferred"}} and asked(actions) == []
    assert script.session.transferred_to == "desk"


@pytest.mark.parametrize(("status", "why"), [(486, "busy"), (480, "not available"), (408, "nobody"), (500, "500")])
def test_a_transfer_that_did_not_work_is_told_to_the_model_and_the_conversation_goes_on(status: int, why: str) -> None:
    script = transferring()
    script.runs("r", "call", "transfer_call", target="desk")
    actions = script.transferred(status)
    assert why in outputs(actions)["call"]["error"] and asked(actions) == [{}]
    assert of(actions, do.HangUp) == [] and script.session.transferred_to == ""
    assert of(script.conversed("r2"), do.Transfer) == []


def test_a_target_that_there_is_not_is_answered_as_an_error() -> None:
    script = transferring()
    script.response("r")
    assert "desk" in outputs(script.calls("r", "call", "transfer_call", target="moon"))["call"]["error"]


def test_a_second_transfer_does_not_disturb_the_first() -> None:
    script = transferring()
    script.runs("r", "first", "transfer_call", target="desk")
    script.response("r2")
    actions = script.calls("r2", "second", "transfer_call", target="desk") + script.over("r2")
    assert "error" in outputs(actions)["second"] and of(actions, do.Transfer) == []
    assert outputs(script.transferred(200)) == {"first": {"result": "transferred"}}


def test_a_model_that_transfers_and_hangs_up_at_once_transfers() -> None:
    script = Script(tools=["hang_up", "transfer_call"], **DESK).begun()
    script.response("r")
    script.calls("r", "transfer", "transfer_call", target="desk")
    script.calls("r", "bye", "hang_up")
    actions = script.over("r")
    assert of(actions, do.Transfer) and not of(actions, do.HangUp)


def test_an_outcome_of_no_transfer_does_nothing() -> None:
    assert transferring().transferred(200) == []


# ------------------------------------------------------------------------------------------------------- sending digits


def test_digits_are_sent_to_the_callers_side_and_the_model_is_told() -> None:
    script = Script(tools=["send_dtmf"]).begun()
    assert do.SendDigits("call", "12#") in script.runs("r", "call", "send_dtmf", digits="12#")
    assert outputs(script.tool_done("call", '{"result": "sent"}')) == {"call": {"result": "sent"}}


# ---------------------------------------------------------------------------------------------------- collecting digits


def test_collecting_ends_at_the_number_of_digits_that_was_asked_for() -> None:
    script = collecting()
    assert outputs(script.press("123")) == {}
    actions = script.press("4")
    assert outputs(actions) == {"call": {"digits": "1234", "count": 4}} and asked(actions) == [{}]
    assert "digits" in marks(actions)


def test_collecting_ends_at_the_terminator() -> None:
    assert outputs(collecting().press("12#")) == {"call": {"digits": "12", "count": 2}}


def test_collecting_ends_at_the_models_own_terminator() -> None:
    assert outputs(collecting(terminator="*").press("1#*")) == {"call": {"digits": "1#", "count": 2}}


def test_collecting_ends_after_a_pause_between_digits() -> None:
    script = collecting()
    script.press("12")
    assert outputs(script.wait(2.9)) == {}
    assert outputs(script.wait(0.2)) == {"call": {"digits": "12", "count": 2}}


def test_collecting_ends_when_nothing_is_typed() -> None:
    script = collecting(timeout_s=5)
    assert outputs(script.wait(4.9)) == {}
    assert "error" in outputs(script.wait(0.2))["call"]


def test_the_wait_for_the_first_digit_begins_when_the_question_has_been_heard() -> None:
    script = Script(tools=["collect_digits"]).begun()
    script.speaks("r", "Please type your number.")
    script.calls("r", "call", "collect_digits", max_digits=4, timeout_s=5)
    script.over("r")
    assert outputs(script.wait(30)) == {}
    script.hear_all()
    assert outputs(script.wait(4.9)) == {}
    assert "error" in outputs(script.wait(0.2))["call"]


def test_the_wait_for_the_first_digit_begins_when_the_response_is_over() -> None:
    script = Script(tools=["collect_digits"]).begun()
    script.response("r")
    script.calls("r", "call", "collect_digits", max_digits=4, timeout_s=5)
    assert outputs(script.wait(30)) == {}
    script.over("r")
    assert "error" in outputs(script.wait(5))["call"]


def test_sensitive_digits_are_kept_from_the_model() -> None:
    script = collecting(sensitive=True)
    assert outputs(script.press("1234")) == {"call": {"digits": "<digits-1>", "count": 4}}
    assert script.session.hidden_digits == {"<digits-1>": "1234"}
    assert Typed("1234", script.now, sensitive=True) in script.session.memory.entries


def test_each_sensitive_entry_has_a_placeholder_of_its_own() -> None:
    script = collecting(sensitive=True)
    script.press("1234")
    script.runs("r2", "other", "collect_digits", max_digits=2, sensitive=True)
    script.press("56")
    assert script.session.hidden_digits == {"<digits-1>": "1234", "<digits-2>": "56"}


def test_digits_typed_ahead_count() -> None:
    script = Script(tools=["collect_digits"]).begun()
    script.press("12")
    assert outputs(script.runs("r", "call", "collect_digits", max_digits=4)) == {}
    assert outputs(script.press("34")) == {"call": {"digits": "1234", "count": 4}}


def test_digits_typed_ahead_may_be_all() -> None:
    script = Script(tools=["collect_digits"]).begun()
    script.press("12")
    actions = script.runs("r", "call", "collect_digits", max_digits=2)
    assert outputs(actions) == {"call": {"digits": "12", "count": 2}} and asked(actions) == [{}]


def test_a_key_of_the_menu_is_a_digit_while_digits_are_collected() -> None:
    script = Script(tools=["collect_digits"], dtmf={"menu": {"1": {"hang_up": True}}}).begun()
    script.runs("r", "call", "collect_digits", max_digits=1)
    assert outputs(script.press("1")) == {"call": {"digits": "1", "count": 1}}


def test_digits_are_collected_for_one_call_at_a_time() -> None:
    script = collecting()
    script.response("r2")
    assert "error" in outputs(script.calls("r2", "other", "collect_digits", max_digits=1))["other"]
    assert outputs(script.press("1234")).keys() == {"call"}
