"""The connection is lost: another one is opened and told the conversation, or the caller is told that it is over."""

import json

import pytest

from shared.ending import CallEnd
from shared.errors import UpstreamError
from tests.unit.worker.voicelive.driving import (
    NO_ALARMS,
    WEATHER,
    Script,
    asked,
    marks,
    of,
    outputs,
    sent,
    spoken,
    texts,
    told,
)
from worker.voicelive import actions as do
from worker.voicelive.rules.links import REPLAY_MAX


def busy(status: int = 503, retry_after_s: float | None = None) -> UpstreamError:
    return UpstreamError("busy", status=status, retry_after_s=retry_after_s)


# --------------------------------------------------------------------------------------------------------- trying again


def test_a_lost_connection_is_replaced_and_the_callers_audio_kept_meanwhile() -> None:
    script = Script().begun()
    actions = script.lose()
    assert do.Hold() in actions
    assert [connect.connection for connect in of(actions, do.Connect)] == [2]
    assert "connection_lost" in marks(actions)


def test_the_new_connection_is_configured_as_the_first_was_and_gets_the_callers_audio() -> None:
    script = Script("Hello!").begun()
    script.conversed("r", "Hello!")
    script.lose()
    actions = script.open(2)
    first, second = of(script.done, do.UpdateSession)
    assert second.session == first.session and second.connection == 2
    assert do.Listen(2) in actions
    assert of(actions, do.Ready) == [] and spoken(actions) == []
    assert marks(actions) == ["session_resumed"]


def test_attempts_go_on_with_growing_delays_until_one_succeeds() -> None:
    script = Script(reconnect={"give_up_after_s": 600, "first_delay_s": 1, "max_delay_s": 8}).begun()
    script.lose()
    delays = []
    for number in range(2, 8):
        [connect] = of(script.lose(number, busy()), do.Connect)
        delays.append(connect.after_s)
    for delay, longest in zip(delays, (1, 2, 4, 8, 8, 8), strict=True):
        assert longest / 2 <= delay <= longest
    assert "session_resumed" in marks(script.open(8))


def test_each_loss_begins_with_a_short_delay() -> None:
    script = Script(reconnect={"give_up_after_s": 600, "first_delay_s": 0.1, "max_delay_s": 60}).begun()
    script.lose()
    for number in range(2, 9):
        script.lose(number, busy())
    script.open(9)
    [connect] = of(script.lose(), do.Connect)
    assert connect.after_s <= 0.1


def test_attempts_are_not_made_before_the_service_wants_them() -> None:
    script = Script().begun()
    script.lose()
    [connect] = of(script.lose(2, busy(429, retry_after_s=7)), do.Connect)
    assert connect.after_s >= 7


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_refusal_that_will_not_change_ends_the_attempts(status: int) -> None:
    script = Script().begun()
    script.lose()
    actions = script.lose(2, UpstreamError("no", status=status))
    assert of(actions, do.Connect) == []
    assert of(actions, do.HangUp) == [do.HangUp(CallEnd.SESSION_LOST)]


def test_a_caller_who_waits_for_the_connection_hears_the_filler() -> None:
    script = Script(reconnect={"filler_after_s": 0.5}).begun()
    script.lose()
    assert of(script.wait(0.4), do.PlayFiller) == []
    assert of(script.wait(0.2), do.PlayFiller) == [do.PlayFiller()]


def test_a_caller_who_was_speaking_is_not_interrupted_by_the_filler_so_soon() -> None:
    script = Script(reconnect={"filler_after_s": 0.5}).begun()
    script.speech()
    script.lose()
    assert of(script.wait(2.4), do.PlayFiller) == []
    assert of(script.wait(0.2), do.PlayFiller) == [do.PlayFiller()]


def test_the_filler_stops_with_the_new_connection_when_nothing_is_owed() -> None:
    script = Script().begun()
    script.lose()
    script.wait(1)
    assert do.FlushPlayout() in script.open(2)


def test_the_filler_goes_on_until_the_answer_that_is_owed() -> None:
    script = Script(**NO_ALARMS).begun()
    script.says("Hello?")
    script.lose()
    script.wait(1)
    assert do.FlushPlayout() not in script.open(2)
    script.response("r")
    assert do.FlushPlayout() in script.audio("r")


# ------------------------------------------------------------------------------------------------- what it is told


def test_the_new_connection_is_told_what_both_sides_said() -> None:
    script = Script().begun()
    script.conversed("r1", "Good day.")
    script.says("Hello. I am Ada.")
    script.conversed("r2", "Hello Ada.")
    script.lose()
    assert texts(script.open(2)) == [
        ("assistant", "Good day."),
        ("user", "Hello. I am Ada."),
        ("assistant", "Hello Ada."),
    ]


def test_it_is_told_before_it_gets_the_callers_audio() -> None:
    script = Script().begun()
    script.conversed("r1", "Good day.")
    script.lose()
    actions = script.open(2)
    assert actions.index(do.Listen(2)) > actions.index(of(actions, do.Send)[-1])


def test_of_a_long_conversation_the_end_is_told() -> None:
    script = Script().begun()
    for number in range(REPLAY_MAX + 5):
        script.conversed(f"r{number}", f"Text {number}.")
    script.lose()
    said = texts(script.open(2))
    assert len(said) == REPLAY_MAX and said[0] == ("assistant", "Text 5.")


def test_what_nobody_understood_is_not_told() -> None:
    script = Script().begun()
    script.speech()
    script.silence()
    script.transcript("")
    script.lose()
    assert told(script.open(2)) == []


def test_of_a_cut_off_answer_it_is_told_what_was_heard() -> None:
    script = Script().begun()
    script.answers("r", "One two three four.", ms=1000)
    script.hear(500)
    script.says("Stop.")
    script.conversed("r2", "Fine.")
    script.lose()
    assert texts(script.open(2))[0] == ("assistant", "One two")


def test_it_is_told_of_tool_calls_and_their_results() -> None:
    script = Script(tools=[WEATHER]).begun()
    script.runs("r1", "call", "weather", city="Ulm")
    script.tool_done("call", '{"sky": "clear"}')
    script.conversed("r2")
    script.lose()
    call, result, _ = told(script.open(2))
    assert (call["type"], call["call_id"], call["name"]) == ("function_call", "call", "weather")
    assert json.loads(call["arguments"]) == {"city": "Ulm"}
    assert (result["type"], result["call_id"]) == ("function_call_output", "call")
    assert json.loads(result["output"]) == {"sky": "clear"}


def test_the_result_of_a_tool_that_still_runs_is_told_when_it_is_there() -> None:
    script = Script(tools=[WEATHER]).begun()
    script.runs("r1", "call", "weather", city="Ulm")
    script.lose()
    assert outputs(script.open(2)) == {} and asked(script.done) == []
    actions = script.tool_done("call")
    assert outputs(actions) == {"call": {"ok": True}} and asked(actions) == [{}]


def test_a_result_that_comes_without_a_connection_is_told_to_the_next() -> None:
    script = Script(tools=[WEATHER]).begun()
    script.runs("r1", "call", "weather", city="Ulm")
    script.lose()
    assert sent(script.tool_done("call")) == []
    actions = script.open(2)
    assert outputs(actions) == {"call": {"ok": True}} and asked(actions) == [{}]


def test_after_a_result_that_was_told_before_its_response_was_lost_the_caller_counts_as_silent_again() -> None:
    script = Script(tools=[WEATHER]).begun()
    script.response("r1")
    script.calls("r1", "call", "weather", city="Ulm")
    script.tool_done("call")
    script.lose()
    assert asked(script.open(2)) == [{}]
    script.conversed("r2")
    assert spoken(script.wait(12)) == ["Are you still there?"]


def test_it_is_told_what_was_typed_unless_that_is_secret() -> None:
    script = Script(tools=["collect_digits"]).begun()
    script.press("42#")
    script.conversed("r1", "Thanks.")
    script.runs("r2", "call", "collect_digits", max_digits=4, sensitive=True)
    script.press("1234")
    script.conversed("r3", "Thanks again.")
    script.lose()
    actions = script.open(2)
    assert texts(actions)[0] == ("user", "[The caller typed 42 on the telephone's keys.]")
    assert "1234" not in str(sent(actions))
    assert outputs(actions) == {"call": {"digits": "<digits-1>", "count": 4}}


def test_what_is_typed_without_a_connection_is_told_to_the_next() -> None:
    script = Script().begun()
    script.lose()
    assert sent(script.press("42#")) == []
    actions = script.open(2)
    assert texts(actions) == [("user", "[The caller typed 42 on the telephone's keys.]")] and asked(actions) == [{}]


# --------------------------------------------------------------------------------------------------- what was under way


def test_an_answer_that_was_owed_is_asked_for() -> None:
    script = Script().begun()
    script.says("Hello?")
    script.lose()
    assert asked(script.open(2)) == [{}]


def test_when_nothing_is_owed_nothing_is_asked_for() -> None:
    script = Script().begun()
    script.says("Hello?")
    script.conversed("r")
    script.lose()
    assert asked(script.open(2)) == []


def test_an_unfinished_answer_is_played_to_its_end_and_gone_on_with() -> None:
    script = Script(**NO_ALARMS).begun()
    script.says("Count.")
    script.response("r")
    script.words("r", "One two three four five six seven eight nine ten.")
    script.audio("r", 1633)
    actions = script.lose()
    assert do.FinishAnswer() in actions and do.FlushPlayout() not in actions
    [request] = asked(script.open(2))
    assert request["instructions"].startswith("Be brief.")
    assert '"One two three four five"' in request["instructions"]


def test_what_was_received_of_an_unfinished_answer_is_what_the_model_is_told_it_said() -> None:
    script = Script().begun()
    script.response("r")
    script.words("r", "One two three four five six seven eight nine ten.")
    script.audio("r", 1633)
    script.lose()
    assert texts(script.open(2)) == [("assistant", "One two three four five")]


def test_an_answer_is_gone_on_with_once() -> None:
    script = Script(**NO_ALARMS).begun()
    script.response("r")
    script.words("r", "One two three.")
    script.audio("r", 500)
    script.lose()
    script.open(2)
    script.conversed("r2")
    script.says("And four?")
    script.lose()
    assert asked(script.open(3)) == [{}]


def test_a_response_that_was_lost_after_its_words_may_have_had_more_to_do() -> None:
    script = Script().begun()
    script.speaks("r", "I will look.")
    script.lose()
    assert asked(script.open(2)) == [{}]


def test_an_answer_that_was_cut_off_is_not_gone_on_with() -> None:
    script = Script().begun()
    script.response("r")
    script.words("r", "One two three.")
    script.audio("r", 300)
    script.says("Stop.")
    script.conversed("r2")
    script.lose()
    assert asked(script.open(2)) == []


def test_a_request_that_was_not_answered_is_made_again() -> None:
    script = Script("Hello!").begun()
    script.lose()
    assert "Hello!" in [message["content"][0]["text"] for message in ready_made(script.open(2))]


def ready_made(actions: list[do.Action]) -> list[dict[str, list[dict[str, str]]]]:
    return [p["pre_generated_assistant_message"] for p in asked(actions) if "pre_generated_assistant_message" in p]


def test_while_the_callers_words_are_unknown_their_audio_is_retained() -> None:
    script = Script().begun()
    assert do.Retain(True) in script.speech()
    assert of(script.silence(), do.Retain) == []
    assert do.Retain(False) in script.transcript("Hello.")


def test_words_that_never_become_text_are_retained_until_they_were_answered() -> None:
    script = Script().begun()
    script.speech()
    script.silence()
    assert do.Retain(False) not in script.speaks("r")
    assert do.Retain(False) in script.over("r")


def test_unknown_words_are_sent_again_as_audio_and_not_asked_about() -> None:
    script = Script(**NO_ALARMS).begun()
    script.speech()
    script.silence()
    script.lose()
    actions = script.open(2)
    assert do.Listen(2) in actions
    assert asked(actions) == [] and told(actions) == []


def test_what_we_want_said_waits_until_the_words_sent_again_were_answered() -> None:
    script = Script(**NO_ALARMS | {"limits": {"max_call_s": 120, "warning_s": 110}}).begun()
    script.speech()
    script.silence()
    script.lose()
    script.open(2)
    assert asked(script.wait(10)) == [], "the warning is due, but the service will answer by itself"
    assert spoken(script.answers("r")) == ["We have one minute left."]


def test_a_caller_who_was_speaking_is_heard_out_by_the_new_connection() -> None:
    script = Script(**NO_ALARMS).begun()
    script.says("Hello.")
    script.conversed("r1")
    script.speech("caller_2")
    script.lose()
    assert asked(script.open(2)) == []
    script.says("Hello again.", "caller_3")
    assert of(script.answers("r2"), do.Play)


# ------------------------------------------------------------------------------------------------------------ giving up


def test_after_too_long_without_a_connection_the_call_is_given_up() -> None:
    script = Script(reconnect={"give_up_after_s": 20}).begun()
    script.lose()
    assert of(script.wait(19.9), do.HangUp) == []
    actions = script.wait(0.2)
    assert "gave_up" in marks(actions) and of(actions, do.Disconnect) == [do.Disconnect(2)]
    assert of(actions, do.HangUp) == [do.HangUp(CallEnd.SESSION_LOST)]


def test_an_agent_that_does_not_try_again_gives_up_at_once() -> None:
    script = Script(reconnect={"give_up_after_s": 0}).begun()
    actions = script.lose()
    assert of(actions, do.Connect) == [] and of(actions, do.HangUp) == [do.HangUp(CallEnd.SESSION_LOST)]


def test_the_caller_hears_the_apology_before_the_call_is_ended() -> None:
    script = Script(reconnect={"give_up_after_s": 0}, fallback={"say": "Sorry."}).begun()
    actions = script.lose()
    assert do.PlayApology() in actions and of(actions, do.HangUp) == []
    assert of(script.hear_all(), do.HangUp) == [do.HangUp(CallEnd.SESSION_LOST)]


def test_the_caller_is_transferred_after_the_apology() -> None:
    transfers = {"desk": "sip:desk@pbx.example"}
    fallback = {"say": "Sorry.", "transfer": "desk"}
    script = Script(reconnect={"give_up_after_s": 0}, fallback=fallback, transfers=transfers).begun()
    assert of(script.lose(), do.Transfer) == []
    assert of(script.hear_all(), do.Transfer) == [do.Transfer("sip:desk@pbx.example")]
    assert of(script.transferred(200), do.HangUp) == [do.HangUp(CallEnd.TRANSFERRED)]


def test_when_that_transfer_fails_too_the_call_is_ended() -> None:
    transfers = {"desk": "sip:desk@pbx.example"}
    script = Script(reconnect={"give_up_after_s": 0}, fallback={"transfer": "desk"}, transfers=transfers).begun()
    assert of(script.lose(), do.Transfer)
    assert of(script.transferred(503), do.HangUp) == [do.HangUp(CallEnd.SESSION_LOST)]


def test_the_apology_takes_the_fillers_place() -> None:
    script = Script(reconnect={"give_up_after_s": 5}, fallback={"say": "Sorry."}).begun()
    script.lose()
    actions = script.wait(5)
    kinds = [type(a) for a in actions if isinstance(a, do.PlayFiller | do.FlushPlayout | do.PlayApology)]
    assert kinds == [do.PlayFiller, do.FlushPlayout, do.PlayApology]


def test_a_tool_that_still_runs_does_not_hold_up_the_end() -> None:
    script = Script(reconnect={"give_up_after_s": 0}, fallback={"say": "Sorry."}, tools=[WEATHER]).begun()
    script.runs("r", "call", "weather", city="Ulm")
    script.lose()
    assert of(script.hear_all(), do.HangUp) == [do.HangUp(CallEnd.SESSION_LOST)]
    assert sent(script.tool_done("call")) == []


def test_an_apology_that_is_never_over_holds_the_end_up_for_so_long_only() -> None:
    script = Script(reconnect={"give_up_after_s": 0}, fallback={"say": "Sorry."}).begun()
    script.lose()
    assert of(script.wait(61), do.HangUp) == [do.HangUp(CallEnd.SESSION_LOST)]


def test_a_transfer_that_is_under_way_outlives_the_session() -> None:
    transfers = {"desk": "sip:desk@pbx.example"}
    script = Script(reconnect={"give_up_after_s": 0}, tools=["transfer_call"], transfers=transfers).begun()
    script.runs("r", "call", "transfer_call", target="desk")
    assert of(script.lose(), do.HangUp) == []
    assert of(script.transferred(200), do.HangUp) == [do.HangUp(CallEnd.TRANSFERRED)]


def test_a_call_without_a_session_whose_transfer_fails_is_ended() -> None:
    transfers = {"desk": "sip:desk@pbx.example"}
    script = Script(reconnect={"give_up_after_s": 0}, tools=["transfer_call"], transfers=transfers).begun()
    script.runs("r", "call", "transfer_call", target="desk")
    script.lose()
    assert of(script.transferred(486), do.HangUp) == [do.HangUp(CallEnd.SESSION_LOST)]


def test_without_a_session_a_transfer_is_waited_for_and_nothing_else() -> None:
    transfers = {"desk": "sip:desk@pbx.example"}
    script = Script(reconnect={"give_up_after_s": 0}, fallback={"transfer": "desk"}, transfers=transfers).begun()
    script.lose()
    assert script.wait(7200) == []


def test_after_giving_up_keys_do_nothing() -> None:
    script = Script(reconnect={"give_up_after_s": 0}, fallback={"say": "Sorry."}).begun()
    script.lose()
    assert script.press("1#") == []
