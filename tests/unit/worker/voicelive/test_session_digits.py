"""Keys the caller presses while nothing asks for digits."""

from typing import Any

from shared.ending import CallEnd
from tests.unit.worker.voicelive.driving import NO_ALARMS, Script, asked, marks, of, sent, spoken, texts
from worker.voicelive import actions as do
from worker.voicelive.memory import Typed

MENU: dict[str, Any] = {
    "dtmf": {"menu": {"1": {"say": "We are open."}, "2": {"transfer": "desk"}, "3": {"hang_up": True}}},
    "transfers": {"desk": "tel:+49731"},
}


def test_digits_are_told_to_the_model_after_the_pause_that_ends_an_entry() -> None:
    script = Script().begun()
    script.press("42")
    assert texts(script.wait(2.9)) == []
    actions = script.wait(0.2)
    assert texts(actions) == [("user", "[The caller typed 42 on the telephone's keys.]")]
    assert asked(actions) == [{}] and "digits" in marks(actions)


def test_each_key_begins_the_pause_anew() -> None:
    script = Script().begun()
    script.press("4")
    script.wait(2)
    script.press("2")
    assert texts(script.wait(2)) == []
    assert len(texts(script.wait(1.1))) == 1


def test_the_terminator_ends_an_entry_and_does_not_belong_to_it() -> None:
    script = Script().begun()
    assert "typed 42 " in texts(script.press("42#"))[0][1]
    assert texts(script.wait(10)) == []


def test_an_entry_ends_at_the_most_digits_there_can_be() -> None:
    script = Script(dtmf={"max_digits": 3}).begun()
    assert "typed 123 " in texts(script.press("123"))[0][1]


def test_a_terminator_alone_tells_nothing() -> None:
    script = Script().begun()
    assert texts(script.press("#") + script.wait(10)) == []
    assert script.session.memory.entries == []


def test_typed_digits_are_remembered() -> None:
    script = Script().begun()
    script.press("42#")
    assert script.session.memory.entries == [Typed("42", script.now)]


def test_a_key_cancels_the_response_and_flushes() -> None:
    script = Script().begun()
    script.response("r")
    script.audio("r")
    actions = script.press("4")
    assert [event["response_id"] for event in sent(actions, "response.cancel")] == ["r"]
    assert do.FlushPlayout() in actions
    assert of(script.audio("r"), do.Play) == []


def test_a_response_is_cancelled_once() -> None:
    script = Script().begun()
    script.response("r")
    script.audio("r")
    assert len(sent(script.press("42"), "response.cancel")) == 1


def test_a_key_flushes_an_answer_whose_response_is_over() -> None:
    script = Script().begun()
    script.answers("r")
    actions = script.press("4")
    assert sent(actions, "response.cancel") == [] and do.FlushPlayout() in actions
    assert "barge_in" not in marks(actions)


def test_a_key_that_does_not_interrupt_is_only_collected() -> None:
    script = Script(dtmf={"interrupts": False}).begun()
    script.response("r")
    script.audio("r")
    assert script.press("4") == []
    assert of(script.audio("r"), do.Play)


def test_a_key_does_not_cut_off_a_goodbye_that_cannot_be_revoked() -> None:
    script = Script(limits={"max_call_s": 10, "warning_s": 0}).begun()
    script.wait(10)
    script.response("r")
    script.audio("r")
    assert do.FlushPlayout() not in script.press("4")


def test_a_key_of_the_menu_says_its_text() -> None:
    script = Script(**MENU).begun()
    actions = script.press("1")
    assert spoken(actions) == ["We are open."] and "digits" in marks(actions)
    assert script.session.memory.entries == [Typed("1", script.now)]


def test_a_key_of_the_menu_transfers() -> None:
    script = Script(**MENU).begun()
    assert of(script.press("2"), do.Transfer) == [do.Transfer("tel:+49731")]
    assert of(script.transferred(202), do.HangUp) == [do.HangUp(CallEnd.TRANSFERRED)]
    assert script.session.transferred_to == "desk"


def test_of_a_menus_transfer_that_did_not_work_the_model_is_told() -> None:
    script = Script(**MENU).begun()
    script.press("2")
    actions = script.transferred(486)
    [(role, text)] = texts(actions)
    assert role == "user" and "busy" in text and asked(actions) == [{}]


def test_a_key_of_the_menu_hangs_up_after_the_goodbye() -> None:
    script = Script(**MENU).begun()
    assert spoken(script.press("3")) == ["Goodbye."]
    script.answers("r")
    assert of(script.hear_all(), do.HangUp) == [do.HangUp(CallEnd.AGENT_HANGUP)]


def test_a_key_of_the_menu_within_an_entry_belongs_to_the_entry() -> None:
    script = Script(**MENU).begun()
    assert "typed 93 " in texts(script.press("93#"))[0][1]


def test_a_menus_transfer_does_not_disturb_one_that_is_under_way() -> None:
    script = Script(**MENU).begun()
    script.press("2")
    assert of(script.press("2"), do.Transfer) == []
    assert of(script.transferred(200), do.HangUp) == [do.HangUp(CallEnd.TRANSFERRED)]


def test_a_key_that_ends_an_entry_which_is_complete_without_it_does_nothing_else() -> None:
    script = Script(**NO_ALARMS, tools=["collect_digits"], dtmf={"menu": {"#": {"hang_up": True}}}).begun()
    script.calls("r", "c1", "collect_digits", max_digits=4)
    script.press("1234")
    assert script.press("#") == []
    assert of(script.done, do.HangUp) == []
    assert script.press("#") != [], "the next one is a choice again"


def test_during_an_outage_the_menu_transfers_and_hangs_up_at_once() -> None:
    menu = {"0": {"transfer": "desk"}, "9": {"hang_up": True}}
    for key, action in (("0", do.Transfer("sip:desk@pbx.example")), ("9", do.HangUp(CallEnd.AGENT_HANGUP))):
        script = Script(**NO_ALARMS, dtmf={"menu": menu}, transfers={"desk": "sip:desk@pbx.example"}).begun()
        script.lose()
        script.wait(1)
        assert action in script.press(key)


def test_a_key_does_not_silence_the_filler() -> None:
    script = Script(**NO_ALARMS, dtmf={"menu": {"1": {"say": "We are open all day."}}}).begun()
    script.lose()
    assert do.PlayFiller() in script.wait(1)
    assert do.FlushPlayout() not in script.press("1")
