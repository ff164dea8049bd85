"""One response at a time, and those still to be asked for."""

from typing import Any

from worker.voicelive.floor import ANSWER, Floor, Purpose, Request

SAY = Request(Purpose.SAY, {"say": 1})
ASK = Request(Purpose.ASK, {"ask": 1})


def next_params(floor: Floor) -> Any:
    event = floor.next()
    return None if event is None else event["response"]


def refuse(floor: Floor, event: Any, *, met_another: bool = True) -> bool:
    return floor.refused(event["event_id"], met_another=met_another)


def test_requests_are_sent_in_turn_each_when_the_one_before_is_over() -> None:
    floor = Floor()
    floor.want(SAY)
    floor.want(ASK)
    assert next_params(floor) == {"say": 1}
    assert floor.next() is None
    floor.began("r1", knows_all=True)
    assert floor.next() is None
    floor.ended("r1")
    assert next_params(floor) == {"ask": 1}


def test_each_request_has_an_event_id_of_its_own() -> None:
    floor = Floor()
    ids = set()
    for number in range(3):
        floor.want(ANSWER)
        event = floor.next()
        assert event is not None
        ids.add(event["event_id"])
        floor.began(f"r{number}", knows_all=True)
        floor.ended(f"r{number}")
    assert len(ids) == 3


def test_two_answers_in_a_row_are_one_and_two_sayings_are_two() -> None:
    floor = Floor()
    for request in (ANSWER, ANSWER, SAY, SAY):
        floor.want(request)
    sent = []
    while (params := next_params(floor)) is not None:
        sent.append(params)
        floor.began("r", knows_all=False)
        floor.ended("r")
    assert sent == [{}, {"say": 1}, {"say": 1}]


def test_nothing_is_sent_while_the_service_is_about_to_begin_a_response() -> None:
    floor = Floor()
    floor.expect(True)
    floor.want(SAY)
    assert floor.busy and floor.next() is None
    floor.expect(False)
    assert next_params(floor) == {"say": 1}


def test_a_response_that_knows_everything_makes_an_answer_needless_and_nothing_else() -> None:
    floor = Floor()
    floor.want(ANSWER)
    floor.want(SAY)
    floor.began("own", knows_all=True)
    floor.ended("own")
    assert next_params(floor) == {"say": 1}


def test_a_response_that_does_not_know_everything_makes_nothing_needless() -> None:
    floor = Floor()
    floor.want(ANSWER)
    floor.began("own", knows_all=False)
    floor.ended("own")
    assert next_params(floor) == {}


def test_a_request_that_met_another_response_is_made_again_before_all_others() -> None:
    floor = Floor()
    floor.want(SAY)
    request = floor.next()
    floor.want(ANSWER)
    floor.began("own", knows_all=False)
    assert refuse(floor, request)
    assert floor.next() is None
    floor.ended("own")
    assert next_params(floor) == {"say": 1}


def test_a_question_that_met_another_response_is_not_made_again() -> None:
    floor = Floor()
    floor.want(ASK)
    assert refuse(floor, floor.next())
    assert floor.free


def test_a_request_that_was_refused_for_anything_else_is_not_made_again() -> None:
    floor = Floor()
    floor.want(SAY)
    assert refuse(floor, floor.next(), met_another=False)
    assert floor.free


def test_only_the_latest_request_can_be_refused() -> None:
    floor = Floor()
    assert not floor.refused("", met_another=True)
    assert not floor.refused("truncate:item", met_another=True)
    floor.want(SAY)
    floor.next()
    assert not floor.refused("response:7", met_another=True)
    assert floor.busy


def test_the_end_of_another_response_ends_nothing() -> None:
    floor = Floor()
    floor.began("r1", knows_all=True)
    floor.ended("r0")
    assert floor.busy and floor.response == "r1"


def test_a_caller_who_speaks_drops_questions_only() -> None:
    floor = Floor()
    for request in (ASK, SAY, ANSWER):
        floor.want(request)
    floor.caller_spoke()
    assert next_params(floor) == {"say": 1}
    floor.began("r", knows_all=False)
    floor.ended("r")
    assert next_params(floor) == {}


def test_on_another_connection_a_request_on_its_way_is_made_again_and_one_that_began_is_not() -> None:
    floor = Floor()
    floor.want(SAY)
    floor.next()
    assert floor.moved()
    assert next_params(floor) == {"say": 1}
    floor.began("r", knows_all=True)
    assert floor.moved()
    assert floor.free and not floor.moved()


def test_a_response_that_was_to_come_counts_as_one_under_way_when_the_connection_changes() -> None:
    floor = Floor()
    floor.expect(True)
    assert floor.moved()
    assert floor.free


def test_a_cleared_floor_wants_nothing() -> None:
    floor = Floor()
    floor.want(SAY)
    floor.next()
    floor.want(ANSWER)
    floor.clear()
    assert floor.free and floor.next() is None
