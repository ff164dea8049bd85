"""From the first connection to the answered call."""

import pytest

from shared.ending import CallEnd
from shared.errors import UpstreamError
from tests.unit.worker.voicelive.driving import LOST, Script, asked, marks, of, sent, spoken
from worker.voicelive import actions as do
from worker.voicelive import events, recovery
from worker.voicelive.configuration import session_update


def test_a_call_opens_a_connection_at_once() -> None:
    assert Script().start() == [do.Connect(1)]


def test_a_new_connection_is_configured_with_everything_at_once() -> None:
    script = Script(tools=["hang_up"])
    script.start()
    tools = script.session.options.tools.definitions()
    update = session_update(script.agent, "Be brief.", "g711_ulaw", 8000, tools)
    assert script.created(1) == [do.Mark("connected"), do.UpdateSession(1, update)]
    assert [tool["name"] for tool in update["tools"]] == ["hang_up"]


def test_an_accepted_configuration_makes_the_call_ready_and_asks_for_the_greeting() -> None:
    script = Script("Hello!")
    script.start()
    actions = script.open()
    assert do.Ready("sess_1") in actions and do.Listen(1) in actions
    assert "session_ready" in marks(actions)
    assert spoken(actions) == ["Hello!"]


def test_without_a_greeting_nothing_is_asked_for() -> None:
    script = Script().begun()
    assert asked(script.done) == []


def test_a_configuration_that_is_confirmed_again_changes_nothing() -> None:
    assert Script("Hello!").begun().updated(1) == []


def test_the_greetings_first_audio_is_marked_once() -> None:
    script = Script("Hello!").begun()
    script.response("r")
    assert marks(script.audio("r")) == ["greeting_audio"]
    assert marks(script.audio("r")) == []
    assert script.audio_done("r") == [do.FinishAnswer()]
    script.over("r")
    script.response("r2")
    assert marks(script.audio("r2")) == []


def test_an_answer_that_ends_in_the_middle_is_finished_all_the_same() -> None:
    script = Script().begun()
    script.response("r")
    script.audio("r")
    assert script.over("r", "incomplete") == [do.FinishAnswer()]


def test_the_ids_of_all_sessions_are_kept() -> None:
    script = Script().begun()
    script.lose()
    script.open(2)
    assert script.session.session_ids == ["sess_1", "sess_2"]


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_before_the_answer_what_will_not_change_fails_at_once(status: int) -> None:
    script = Script()
    script.start()
    error = UpstreamError("refused", status=status)
    assert script.lose(1, error) == [do.Fail(error)]


@pytest.mark.parametrize("status", [429, 500, 503, 1006, None])
def test_before_the_answer_what_may_pass_is_tried_again(status: int | None) -> None:
    script = Script()
    script.start()
    for attempt in range(2, 5):
        [retry] = script.lose(attempt - 1, UpstreamError("busy", status=status))
        assert isinstance(retry, do.Connect) and retry.connection == attempt
    assert do.Ready("sess_4") in script.open(4)


def test_a_configuration_that_is_refused_fails_the_call() -> None:
    script = Script()
    script.start()
    script.created(1)
    [leave, fail] = script.error("invalid_voice", connection=1)
    assert leave == do.Disconnect(1)
    assert isinstance(fail, do.Fail) and fail.error.status == recovery.REFUSED
    assert recovery.ending(fail.error) is CallEnd.SESSION_REFUSED


def test_an_error_in_the_conversation_is_counted_and_nothing_else() -> None:
    script = Script().begun()
    assert script.error("server_error") == []
    assert script.session.errors == 1


def test_events_that_no_call_acts_on_do_nothing() -> None:
    assert Script().begun().receive(events.Other("rate_limits.updated")) == []


def test_events_of_a_connection_that_was_left_do_nothing() -> None:
    script = Script().begun()
    script.lose()
    assert script.receive(events.SpeechStarted("caller_1", 0), 1) == []
    assert script.lose(1, LOST) == []


def test_a_digit_before_the_answer_does_nothing() -> None:
    script = Script()
    script.start()
    assert script.press("1") == []


def test_a_greeting_that_failed_is_made_up_for_by_the_model() -> None:
    script = Script("Hello!").begun()
    script.response("r")
    assert asked(script.over("r", "failed")) == [{}]


def test_a_failure_after_an_answer_is_made_up_for_again() -> None:
    script = Script("Hello!").begun()
    script.response("r1")
    script.over("r1", "failed")
    script.conversed("r2")
    script.response("r3")
    assert asked(script.over("r3", "failed")) == [{}]


def test_a_second_failure_in_a_row_is_left_to_dead_air() -> None:
    script = Script("Hello!").begun()
    script.response("r1")
    script.over("r1", "failed")
    script.response("r2")
    assert sent(script.over("r2", "failed")) == []
    assert of(script.wait(4.0), do.PlayFiller)
