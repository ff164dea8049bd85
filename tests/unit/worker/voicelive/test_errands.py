"""Which function calls still run, and when their results can be spoken about."""

from worker.voicelive.errands import Errands


def test_the_model_goes_on_when_the_last_result_of_a_response_is_there() -> None:
    errands = Errands()
    errands.begun("r", "a")
    errands.begun("r", "b")
    assert not errands.response_over("r")
    assert not errands.done("a", answer_wanted=True)
    assert errands.done("b", answer_wanted=False)
    assert not errands


def test_the_model_goes_on_when_the_response_is_over_that_has_all_its_results() -> None:
    errands = Errands()
    errands.begun("r", "a")
    assert not errands.done("a", answer_wanted=True)
    assert errands.belongs("r") and errands.response_over("r")


def test_the_model_does_not_go_on_when_no_result_wants_it_to() -> None:
    errands = Errands()
    errands.begun("r", "a")
    errands.response_over("r")
    assert not errands.done("a", answer_wanted=False)
    assert not errands


def test_responses_do_not_wait_for_each_other() -> None:
    errands = Errands()
    errands.begun("r1", "a")
    errands.response_over("r1")
    errands.begun("r2", "b")
    errands.response_over("r2")
    assert errands.done("b", answer_wanted=True)
    assert errands and errands.belongs("r1")


def test_a_call_that_is_not_known_changes_nothing() -> None:
    errands = Errands()
    errands.begun("r", "a")
    assert not errands.done("z", answer_wanted=True)
    assert not errands.response_over("q")
    assert errands


def test_with_the_connection_its_responses_are_over_and_calls_run_on() -> None:
    errands = Errands()
    errands.begun("r1", "a")
    errands.done("a", answer_wanted=True)
    errands.begun("r2", "b")
    errands.connection_lost()
    assert not errands.belongs("r1")
    assert errands.done("b", answer_wanted=True)


def test_others_run_while_there_are_calls_or_more_may_come() -> None:
    errands = Errands()
    assert not errands.others_run("a")
    errands.begun("r", "a")
    assert errands.others_run("a")
    errands.response_over("r")
    assert not errands.others_run("a")
    errands.begun("r2", "b")
    errands.response_over("r2")
    assert errands.others_run("a")
