"""What a session does when nothing happens: silence, the longest call, dead air."""

from typing import Any

from shared.ending import CallEnd
from tests.unit.worker.voicelive.driving import WEATHER, Script, asked, marks, of, outputs, sent, spoken
from worker.voicelive import actions as do

PROMPT = "Are you still there?"
SILENT_GOODBYE = "I cannot hear you, so I will hang up now. Goodbye."


def silence(**fields: Any) -> Script:
    return Script(silence={"after_s": 12, **fields}).begun()


def limited(**fields: Any) -> Script:
    limits = {"max_call_s": 100, "warning_s": 60, "warning": "One minute.", "goodbye": "Time is up."}
    return Script(silence={"after_s": 0}, limits={**limits, **fields}).begun()


def dead_air(filler: str = "soft", **agent: Any) -> Script:
    return Script(dead_air={"after_s": 4, "filler": filler}, **agent).begun()


# ------------------------------------------------------------------------------------------------------------- silence


def test_a_silent_caller_is_asked() -> None:
    script = silence()
    assert spoken(script.wait(11.9)) == []
    assert spoken(script.wait(0.2)) == [PROMPT]


def test_a_caller_who_stays_silent_hears_a_goodbye_and_is_let_go() -> None:
    script = silence()
    script.wait(12)
    script.conversed("r1", PROMPT)
    assert spoken(script.wait(11.9)) == []
    assert spoken(script.wait(0.2)) == [SILENT_GOODBYE]
    assert of(script.answers("r2"), do.HangUp) == []
    assert of(script.hear_all(), do.HangUp) == [do.HangUp(CallEnd.CALLER_SILENT)]


def test_a_silent_caller_is_asked_as_often_as_the_agent_wants() -> None:
    script = silence(prompts=2)
    said = []
    for name in ("r1", "r2", "r3"):
        said += spoken(script.wait(12))
        script.conversed(name)
    assert said == [PROMPT, PROMPT, SILENT_GOODBYE]


def test_without_prompts_a_silent_caller_is_let_go_at_once() -> None:
    assert spoken(silence(prompts=0).wait(12)) == [SILENT_GOODBYE]


def test_silence_can_be_switched_off() -> None:
    assert asked(silence(after_s=0).wait(600)) == []


def test_speech_begins_the_silence_and_the_prompts_anew() -> None:
    script = silence()
    script.wait(12)
    script.conversed("r1", PROMPT)
    script.says("Yes.")
    script.conversed("r2")
    assert spoken(script.wait(11.9)) == []
    assert spoken(script.wait(0.2)) == [PROMPT]


def test_a_key_begins_the_silence_and_the_prompts_anew() -> None:
    script = silence()
    script.wait(12)
    script.conversed("r1", PROMPT)
    script.wait(6)
    script.press("#")
    assert spoken(script.wait(11.9)) == []
    assert spoken(script.wait(0.2)) == [PROMPT]


def test_a_prompt_that_was_not_asked_for_yet_is_not_said_to_a_caller_who_speaks() -> None:
    script = silence()
    script.response("r")  # the service speaks up by itself in the same moment
    script.wait(1)
    [*_] = script.over("r")
    script.wait(12)
    [request] = sent(script.done, "response.create")
    script.response("r2")
    script.error("conversation_already_has_active_response", request["event_id"])
    assert spoken(script.over("r2")) == []


def test_a_caller_who_speaks_during_the_goodbye_is_kept() -> None:
    script = silence(prompts=0)
    script.wait(12)
    script.response("r1")
    script.audio("r1")
    script.says("Wait!")
    script.over("r1", "cancelled")
    assert of(script.conversed("r2") + script.wait(11), do.HangUp) == []


def test_while_an_answer_is_heard_the_caller_is_not_silent() -> None:
    script = silence()
    script.answers("r", ms=30_000)
    assert asked(script.wait(30)) == []
    script.hear_all()
    assert spoken(script.wait(12)) == [PROMPT]


def test_while_the_caller_speaks_they_are_not_silent() -> None:
    script = silence()
    script.speech()
    assert asked(script.wait(60)) == []


def test_while_an_answer_is_owed_the_caller_is_not_silent() -> None:
    script = Script(silence={"after_s": 5}, dead_air={"after_s": 0}).begun()
    script.says("Hello?")
    assert asked(script.wait(60)) == []


def test_while_a_tool_runs_the_caller_is_not_silent() -> None:
    script = Script(silence={"after_s": 5}, dead_air={"after_s": 0}, tools=[WEATHER]).begun()
    script.speaks("r", "One moment.")
    script.calls("r", "call", "weather", city="Ulm")
    script.over("r")
    script.hear_all()
    assert asked(script.wait(60)) == []


def test_a_cough_that_nobody_answers_leaves_the_caller_silent() -> None:
    script = silence()
    script.speech()
    script.silence()
    script.transcript("")
    assert spoken(script.wait(12.1)) == [PROMPT]


# ------------------------------------------------------------------------------------------------------- longest call


def test_a_caller_is_warned_before_the_longest_call_is_over() -> None:
    script = limited()
    assert spoken(script.wait(39.9)) == []
    assert spoken(script.wait(0.2)) == ["One minute."]


def test_a_call_without_a_warning_has_none() -> None:
    assert spoken(limited(warning_s=0).wait(99)) == []


def test_at_its_longest_a_call_ends_after_a_goodbye() -> None:
    script = limited(warning_s=0)
    assert spoken(script.wait(100)) == ["Time is up."]
    assert of(script.answers("r"), do.HangUp) == []
    assert of(script.hear_all(), do.HangUp) == [do.HangUp(CallEnd.LENGTH_LIMIT)]


def test_the_goodbye_of_the_longest_call_waits_for_the_answer_under_way() -> None:
    script = limited(warning_s=0)
    script.response("r")
    assert spoken(script.wait(100)) == []
    assert spoken(script.over("r")) == ["Time is up."]


def test_speech_does_not_revoke_the_end_of_the_longest_call() -> None:
    script = limited(warning_s=0)
    script.wait(100)
    script.response("r1")
    script.audio("r1")
    script.says("But...")
    script.over("r1", "cancelled")
    script.answers("r2")
    assert of(script.hear_all(), do.HangUp) == [do.HangUp(CallEnd.LENGTH_LIMIT)]


def test_the_longest_call_ends_in_any_case_when_nothing_comes() -> None:
    script = limited(warning_s=0)
    script.wait(100)
    assert of(script.wait(29.9), do.HangUp) == []
    assert of(script.wait(0.2), do.HangUp) == [do.HangUp(CallEnd.LENGTH_LIMIT)]


def test_a_model_that_hangs_up_at_the_longest_does_not_make_it_revocable() -> None:
    script = Script(limits={"max_call_s": 100, "warning_s": 0}, silence={"after_s": 0}, tools=["hang_up"]).begun()
    script.response("r")
    script.wait(100)
    script.calls("r", "call", "hang_up")
    script.over("r")
    script.says("Wait!")
    script.answers("r2")
    assert of(script.hear_all(), do.HangUp) == [do.HangUp(CallEnd.LENGTH_LIMIT)]


def test_the_longest_call_ends_although_the_model_was_about_to_hang_up() -> None:
    script = Script(limits={"max_call_s": 100, "warning_s": 0}, silence={"after_s": 0}, tools=["hang_up"]).begun()
    script.speaks("r", "Goodbye!")
    script.calls("r", "call", "hang_up")
    script.over("r")
    script.wait(100)
    script.answers("r2")
    assert of(script.hear_all(), do.HangUp) == [do.HangUp(CallEnd.LENGTH_LIMIT)]


def test_the_longest_call_does_not_break_a_transfer_that_is_under_way() -> None:
    limits = {"max_call_s": 100, "warning_s": 0}
    script = Script(limits=limits, tools=["transfer_call"], transfers={"desk": "sip:desk@pbx.example"}).begun()
    script.runs("r", "call", "transfer_call", target="desk")
    assert of(script.wait(140), do.HangUp) == []
    assert of(script.transferred(200), do.HangUp) == [do.HangUp(CallEnd.TRANSFERRED)]


def test_the_longest_call_ends_when_the_transfer_under_way_fails() -> None:
    limits = {"max_call_s": 100, "warning_s": 0}
    script = Script(limits=limits, tools=["transfer_call"], transfers={"desk": "sip:desk@pbx.example"}).begun()
    script.runs("r", "call", "transfer_call", target="desk")
    script.wait(110)
    assert of(script.transferred(486), do.HangUp) == [do.HangUp(CallEnd.LENGTH_LIMIT)]


def test_the_longest_call_overrules_a_transfer_that_has_not_begun() -> None:
    limits = {"max_call_s": 100, "warning_s": 0}
    script = Script(limits=limits, tools=["transfer_call"], transfers={"desk": "sip:desk@pbx.example"}).begun()
    script.speaks("r", "One moment.")
    script.calls("r", "call", "transfer_call", target="desk")
    script.over("r")
    assert "error" in outputs(script.wait(100))["call"]
    script.answers("r2", "Time is up.")
    actions = script.hear_all()
    assert of(actions, do.Transfer) == [] and of(actions, do.HangUp) == [do.HangUp(CallEnd.LENGTH_LIMIT)]


# ------------------------------------------------------------------------------------------------------------ dead air


def test_when_an_answer_is_long_in_coming_the_filler_is_played() -> None:
    script = dead_air()
    script.says("Hello?")
    assert of(script.wait(3.9), do.PlayFiller) == []
    assert of(script.wait(0.2), do.PlayFiller) == [do.PlayFiller()]


def test_a_sound_goes_on_for_as_long_as_the_caller_waits() -> None:
    script = dead_air()
    script.says("Hello?")
    script.wait(4)
    assert script.hear_all() == [do.PlayFiller()]
    assert script.hear_all() == [do.PlayFiller()]


def test_a_sentence_is_said_again_after_a_while() -> None:
    script = dead_air("One moment, please.", tools=[WEATHER])
    script.runs("r", "call", "weather", city="Ulm")
    script.says("Well?")
    script.wait(4)
    assert of(script.hear_all() + script.wait(3.9), do.PlayFiller) == []
    assert of(script.wait(0.2), do.PlayFiller) == [do.PlayFiller()]


def test_the_filler_stops_at_the_answers_first_audio() -> None:
    script = dead_air()
    script.says("Hello?")
    script.wait(4)
    script.response("r")
    actions = script.audio("r")
    kinds = [type(action) for action in actions if isinstance(action, do.FlushPlayout | do.Play)]
    assert kinds == [do.FlushPlayout, do.Play]
    assert sent(actions) == []


def test_the_filler_waits_until_what_is_being_heard_is_over() -> None:
    script = dead_air(turn_detection={"interrupt_response": False})
    script.answers("r", ms=8_000)
    script.says("And?")
    assert of(script.wait(5), do.PlayFiller) == []
    assert of(script.hear_all(), do.PlayFiller) == [do.PlayFiller()]


def test_no_filler_is_played_over_the_caller() -> None:
    script = dead_air()
    script.says("Hello?")
    script.wait(3)
    script.speech("caller_2")
    assert of(script.wait(30), do.PlayFiller) == []


def test_an_answer_in_time_needs_no_filler() -> None:
    script = dead_air()
    script.says("Hello?")
    script.conversed("r")
    assert of(script.wait(10), do.PlayFiller) == []


def test_dead_air_can_be_switched_off() -> None:
    script = Script(dead_air={"after_s": 0}).begun()
    script.says("Hello?")
    assert script.wait(600) == []


def test_an_answer_that_does_not_come_at_all_is_sought_on_another_connection() -> None:
    script = dead_air()
    script.says("Hello?")
    assert of(script.wait(11.9), do.Disconnect) == []
    actions = script.wait(0.2)
    assert of(actions, do.Disconnect) == [do.Disconnect(1)]
    assert [connect.connection for connect in of(actions, do.Connect)] == [2]
    assert marks(actions)[:2] == ["stuck", "connection_lost"]
    assert asked(script.open(2)) == [{}]


def test_a_slow_tool_gets_a_filler_and_no_new_connection() -> None:
    script = dead_air(tools=[WEATHER])
    script.says("The weather?")
    script.runs("r", "call", "weather", city="Ulm")
    actions = script.wait(60)
    assert of(actions, do.PlayFiller) and not of(actions, do.Disconnect)


def test_after_a_slow_tool_the_answer_has_its_time() -> None:
    script = dead_air(tools=[WEATHER])
    script.says("The weather?")
    script.runs("r", "call", "weather", city="Ulm")
    script.wait(15.9)
    assert asked(script.tool_done("call"))
    assert of(script.wait(11.9), do.Disconnect) == []
    assert of(script.wait(0.2), do.Disconnect) == [do.Disconnect(1)]


def test_a_cough_that_nobody_answers_needs_no_filler_and_no_other_connection() -> None:
    script = dead_air(silence={"after_s": 0})
    script.speech()
    assert marks(script.silence()) == ["speech_stopped"]
    script.transcript("")
    assert script.wait(60) == []


def test_a_caller_who_is_waited_for_hears_no_filler() -> None:
    script = dead_air(tools=["collect_digits"])
    script.says("My number is...")
    script.runs("r", "call", "collect_digits", max_digits=4, timeout_s=30)
    assert of(script.wait(20), do.PlayFiller) == []


def test_a_cancelled_answer_is_owed_no_more() -> None:
    script = dead_air()
    script.says("Hello?")
    script.response("r")
    script.press("1")
    script.over("r", "cancelled")
    assert of(script.wait(2.9), do.PlayFiller) == []


def test_when_the_service_does_not_begin_the_response_it_owes_others_are_asked_for() -> None:
    script = Script(tools=[WEATHER]).begun()
    script.runs("r", "call", "weather", city="Ulm")
    script.says("And tomorrow?")
    assert asked(script.tool_done("call")) == []
    assert asked(script.wait(4)) == [{}]
