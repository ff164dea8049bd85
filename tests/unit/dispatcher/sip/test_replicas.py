"""Several replicas and one call: whoever is left carries it on, and nobody takes it twice."""

import pytest

from dispatcher.sip.actions import Address
from dispatcher.sip.message import Request, Response, parse
from tests.unit.dispatcher.ladder import (
    CALLER,
    PROXY,
    SECOND,
    SHARED,
    STRANGER,
    WORKERS,
    Stage,
    header_of,
    invite,
    request,
    response,
    summary,
)

COPIER = Address("udp", WORKERS["w1"].host, 41000)
"""Where a worker sends copies from: its host, and another port than its SIP endpoint's."""


def pair(shared: Address | None = None) -> tuple[Stage, Stage]:
    """Two replicas of a pool."""
    return Stage(address=PROXY, shared=shared), Stage(address=SECOND, shared=shared)


def offered(stage: Stage, worker: str = "w1") -> bytes:
    """A call is offered to a worker; returns the INVITE it got."""
    stage.send(invite())
    stage.place(worker)
    return stage.one(worker)


def branch_of(data: bytes) -> bytes:
    message = parse(data)
    assert message
    return message.via.branch


def test_two_replicas_offer_a_call_as_one_invite() -> None:
    first, second = pair()
    one, other = offered(first), offered(second)
    assert branch_of(one) == branch_of(other)
    assert header_of(one, "Via") != header_of(other, "Via")


def test_another_lease_another_worker_and_another_call_make_another_invite() -> None:
    branches = {branch_of(offered(Stage(), worker)) for worker in ("w1", "w2")}
    for change in ({"call_id": "other"}, {"cseq": 2}, {"branch": "z9hG4bKother"}, {"from_tag": "other"}):
        stage = Stage()
        stage.send(invite(**change))
        stage.place("w1")
        branches.add(branch_of(stage.one("w1")))
    assert len(branches) == 6


def test_a_refusal_by_either_replica_is_the_same_to_the_caller() -> None:
    refusals = []
    for stage in pair():
        stage.send(invite())
        stage.no_room()
        refusals.append(stage.one(CALLER))
    assert refusals[0] == refusals[1]


def test_a_copy_reaches_the_caller_through_a_replica_that_has_not_seen_the_call() -> None:
    first, second = pair()
    second.send(response(offered(first), 200), COPIER)
    answer = parse(second.one(CALLER))
    assert isinstance(answer, Response)
    assert (answer.status, answer.via.branch, len(answer.values(b"via"))) == (200, b"z9hG4bKcaller1", 1)
    assert (second.proxy.transactions, second.events()) == (0, [])


def test_after_a_copy_the_dialog_goes_on_through_the_replica_that_lives() -> None:
    first, second = pair()
    second.send(response(offered(first), 200), COPIER)
    route = header_of(second.one(CALLER), "Record-Route")
    assert "@10.0.0.2:5060;lr>" in route
    for method in ("ACK", "BYE"):
        second.send(
            request(method, "sip:w1@10.0.1.1:5070", branch="z9hG4bKx", to_tag="worker", headers=(f"Route: {route}",))
        )
    assert second.got("w1") == ["ACK", "BYE"]


def test_the_record_routes_of_others_stay_in_a_copy_as_they_are() -> None:
    first, second = pair()
    foreign = '"a, b" <sip:192.0.2.77;lr>;x=y, <sip:bogus@10.0.0.1:5060;lr>'
    data = response(offered(first), 200, headers=(f"Record-Route: {foreign}", "Record-Route: <nonsense"))
    second.send(data, COPIER)
    answer = second.one(CALLER)
    assert f"Record-Route: {foreign}\r\nRecord-Route: <nonsense\r\n".encode() in answer


def test_a_shared_address_stays_in_a_copy() -> None:
    first, second = pair(SHARED)
    invited = offered(first)
    assert "@10.0.0.100:5060;lr>" in header_of(invited, "Record-Route")
    assert header_of(invited, "Via").startswith("SIP/2.0/UDP 10.0.0.1:5060;")
    second.send(response(invited, 200), COPIER)
    assert header_of(second.one(CALLER), "Record-Route") == header_of(invited, "Record-Route")


def test_a_copy_is_taken_by_the_call_that_offered_the_same_invite() -> None:
    first, second = pair()
    invited = offered(first)
    offered(second)
    second.send(response(invited, 486), COPIER)
    assert second.got(CALLER) == ["486 INVITE"]
    assert second.got("w1") == ["ACK"]
    second.wait(0.6)
    assert second.got(CALLER) == ["486 INVITE"]


def test_a_copy_of_100_goes_nowhere() -> None:
    first, second = pair()
    second.send(response(offered(first), 100), COPIER)
    assert (second.sent, second.events()) == ([], ["sip.stray_response"])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"call-1", b"call-2"),
        (b"branch=z9hG4bK", b"branch=z9hG4bK0"),
        (b"rport=5060;received=192.0.2.10", b"rport=5060;received=203.0.113.66"),
        (b"rport=5060;received=192.0.2.10", b"rport=5060;received=caller.example.com"),
        (b"rport=5060;received=192.0.2.10", b"rport=0;received=192.0.2.10"),
        (b"rport=5060;received=192.0.2.10", b"rport=99999;received=192.0.2.10"),
        (b"SIP/2.0/UDP 192.0.2.10:5060;", b"SIP/2.0/UDP [;"),
    ],
)
def test_a_forged_copy_goes_nowhere(old: bytes, new: bytes) -> None:
    first, second = pair()
    data = response(offered(first), 200)
    assert old in data
    second.send(data.replace(old, new), COPIER)
    assert (second.sent, second.events()) == ([], ["sip.stray_response"])


def test_a_copy_without_a_second_via_goes_nowhere() -> None:
    first, second = pair()
    lines = response(offered(first), 200).split(b"\r\n")
    second.send(b"\r\n".join(line for line in lines if b"caller1" not in line), COPIER)
    assert second.sent == []


def test_a_copy_from_a_host_without_workers_goes_nowhere() -> None:
    first, second = pair()
    data = response(offered(first), 200)
    second.send(data, STRANGER)
    second.send(data, CALLER)
    assert (second.sent, second.events()) == ([], ["sip.source_refused", "sip.stray_response"])


def test_a_workers_host_may_send_copies_and_nothing_else() -> None:
    stage = Stage()
    for data in (invite(), request("OPTIONS"), request("CANCEL"), invite(headers=("Max-Forwards: x",)), b"garbage"):
        stage.send(data, COPIER)
    assert (stage.sent, stage.places, stage.finds) == ([], [], [])


def test_a_2xx_that_comes_after_everything_was_forgotten_still_passes() -> None:
    stage = Stage()
    invited = offered(stage)
    stage.worker_sends("w1", response(invited, 200))
    stage.wait(40.0)
    stage.take(CALLER)
    assert stage.proxy.transactions == 0
    stage.worker_sends("w1", response(invited, 200))
    assert stage.got(CALLER) == ["200 INVITE"]
    stage.worker_sends("w1", response(invited, 486))
    assert stage.got(CALLER) == ["486 INVITE"], "who was restarted in the middle of the call could not know, either"


def test_an_answer_to_a_worker_passes_through_the_replica_it_happens_to_come_to() -> None:
    first, second = pair(SHARED)
    route = header_of(response(offered(first), 200), "Record-Route")
    bye = request(
        "BYE",
        "sip:alice@192.0.2.10:5060",
        branch="z9hG4bKw",
        source=WORKERS["w1"],
        to_tag="caller",
        headers=(f"Route: {route}",),
    )
    first.worker_sends("w1", bye)
    second.send(response(first.one(CALLER), 200))
    assert second.got("w1") == ["200 BYE"]


# Place, answered with: another replica has the call


def test_a_taken_call_gets_100_and_nothing_final() -> None:
    stage = Stage()
    stage.send(invite())
    stage.taken()
    assert stage.got(CALLER) == ["100 INVITE"]
    stage.send(invite())
    assert stage.got(CALLER) == ["100 INVITE"]
    assert stage.proxy.unanswered() == 0
    stage.send(invite(branch="z9hG4bKother"))
    assert stage.got(CALLER) == ["482 INVITE"]
    stage.wait(32.0)
    assert (stage.got(CALLER), stage.proxy.transactions, stage.proxy.wakes_at()) == ([], 0, None)
    assert (stage.released, stage.given_up) == ([], [1])
    stage.send(invite())
    assert len(stage.places) == 1


def test_a_taken_call_is_offered_after_all_when_its_worker_turns_out_to_be_dead() -> None:
    stage = Stage()
    stage.send(invite())
    still_open = stage.places[0]
    stage.taken()
    stage.take(CALLER)
    stage.places.append(still_open)
    stage.place("w2")
    invited = stage.one("w2")
    stage.worker_sends("w2", response(invited, 200))
    assert stage.got(CALLER) == ["200 INVITE"]
    stage.wait(40.0)
    assert stage.got(CALLER) == []


def test_a_caller_who_came_to_another_replica_with_a_new_branch_is_answered_there() -> None:
    first, second = pair()
    invited = offered(first)
    answer = response(invited, 200)
    second.send(invite(branch="z9hG4bKsecond"))
    second.place("w1")
    again = second.one("w1")
    assert branch_of(again) != branch_of(invited)
    second.worker_sends("w1", response(again, 482))
    assert second.got(CALLER) == ["100 INVITE"]
    assert second.places[0].silent, "if that worker dies, the call is offered after all"
    second.send(answer, COPIER)
    passed = second.one(CALLER)
    assert summary(passed) == "200 INVITE"
    assert "z9hG4bKsecond" in header_of(passed, "Via")
    assert second.given_up == [second.places[0].number]


def test_the_answer_to_a_taken_call_passes_as_a_copy() -> None:
    first, second = pair()
    second.send(invite())
    second.taken()
    second.take(CALLER)
    second.send(response(offered(first), 200), COPIER)
    assert second.got(CALLER) == ["200 INVITE"]


def test_the_ack_of_an_old_caller_passes_although_its_invite_is_answered_elsewhere() -> None:
    first, second = pair()
    route = header_of(offered(first), "Record-Route")
    second.send(invite())
    second.taken()
    second.send(request("ACK", "sip:w1@10.0.1.1:5070", to_tag="worker", headers=(f"Route: {route}",)))
    assert second.got("w1") == ["ACK"]
    second.send(request("ACK", to_tag="worker"))
    assert second.got("w1") == []


# A worker that says nothing here may have claimed the lease, and answer another replica


def silent(stage: Stage) -> bytes:
    """A worker has been silent for too long; returns the INVITE that it got."""
    invited = offered(stage)
    stage.wait(2.5)
    stage.take("w1")
    stage.take(CALLER)
    assert stage.places[0].silent
    return invited


def test_a_place_says_whether_the_worker_refused_or_says_nothing() -> None:
    stage = Stage()
    stage.send(invite())
    assert not stage.places[0].silent
    stage.place("w1")
    stage.worker_sends("w1", response(stage.one("w1"), 503))
    assert not stage.places[0].silent
    stage.place("w2")
    stage.unreachable(WORKERS["w2"])
    assert stage.places[0].silent


def test_a_silent_worker_that_rings_while_another_is_looked_for_keeps_the_call() -> None:
    stage = Stage()
    invited = silent(stage)
    number = stage.places[0].number
    stage.worker_sends("w1", response(invited, 100))
    assert stage.given_up == []
    stage.worker_sends("w1", response(invited, 180))
    assert (stage.got(CALLER), stage.given_up) == (["180 INVITE"], [number])
    stage.place("w2")
    assert (stage.got("w2"), stage.released) == ([], ["lease-w2"])
    stage.worker_sends("w1", response(invited, 200))
    assert stage.got(CALLER) == ["200 INVITE"]


@pytest.mark.parametrize("status", [403, 503])
def test_a_silent_worker_that_lost_the_lease_does_not_end_the_call(status: int) -> None:
    stage = Stage()
    stage.worker_sends("w1", response(silent(stage), status))
    assert (stage.got(CALLER), stage.got("w1"), stage.given_up) == ([], ["ACK"], [])
    stage.place("w2")
    assert stage.got("w2") == ["INVITE"]


def test_a_silent_worker_that_refuses_the_call_itself_ends_it() -> None:
    stage = Stage()
    stage.worker_sends("w1", response(silent(stage), 488))
    assert stage.got(CALLER) == ["488 INVITE"]
    assert (len(stage.given_up), stage.released) == (1, ["lease-w1"])


def test_a_silent_worker_with_the_call_is_heard_when_it_answers_here_after_all() -> None:
    stage = Stage()
    invited = silent(stage)
    stage.taken()
    stage.wait(20.0)
    assert stage.got(CALLER) == []
    stage.worker_sends("w1", response(invited, 180))
    stage.wait(30.0)
    stage.worker_sends("w1", response(invited, 200))
    assert stage.got(CALLER) == ["180 INVITE", "200 INVITE"]


def test_a_silent_worker_with_the_call_is_never_cancelled_for_it() -> None:
    stage = Stage()
    invited = silent(stage)
    stage.taken()
    stage.wait(20.0)
    stage.take("w1")
    stage.worker_sends("w1", response(invited, 100))
    stage.wait(20.0)
    assert (stage.got("w1"), stage.got(CALLER)) == ([], [])
    assert stage.proxy.transactions == 0
    assert stage.proxy.wakes_at() is None


def test_cancel_while_a_silent_worker_may_answer_another_replica_reaches_it_at_once() -> None:
    stage = Stage()
    invited = silent(stage)
    stage.send(request("CANCEL"))
    assert stage.got(CALLER) == ["200 CANCEL", "487 INVITE"]
    assert branch_of(stage.one("w1")) == branch_of(invited)
    assert (len(stage.given_up), stage.released) == (1, ["lease-w1"])


def test_a_silent_worker_that_is_dead_leaves_the_question_open() -> None:
    stage = Stage()
    silent(stage)
    for _ in range(3):
        stage.unreachable(WORKERS["w1"])
    stage.place("w2")
    assert (stage.got("w2"), stage.places, stage.given_up) == (["INVITE"], [], [])


def test_a_heartbeat_that_stopped_sends_ringing_calls_to_the_next_worker_once() -> None:
    stage = Stage()
    stage.worker_sends("w1", response(offered(stage), 180))
    for _ in range(3):
        stage.unreachable(WORKERS["w1"])
    (place,) = stage.places
    assert (place.attempt, place.silent, set(place.exclude)) == (2, True, {"w1"})


# Place, answered with: the call has to wait


def test_a_waiting_caller_hears_it_ring_until_a_worker_has_the_call() -> None:
    stage = Stage()
    stage.send(invite())
    stage.waiting()
    ringing = stage.one(CALLER)
    assert ringing.startswith(b"SIP/2.0 180 Ringing\r\n")
    assert "tag=" in header_of(ringing, "To")
    assert header_of(ringing, "Contact") == "<sip:10.0.0.1:5060>"
    stage.send(invite())
    assert stage.take(CALLER) == [ringing]
    stage.place("w1")
    stage.worker_sends("w1", response(stage.one("w1"), 100))
    assert (stage.got(CALLER), stage.given_up) == ([], [])


def test_a_waiting_call_that_finds_no_room_is_refused() -> None:
    stage = Stage()
    stage.send(invite())
    stage.waiting()
    stage.no_room()
    assert stage.got(CALLER) == ["180 INVITE", "503 INVITE"]
    assert stage.given_up == []


def test_a_waiting_caller_that_hangs_up_waits_no_more() -> None:
    stage = Stage()
    stage.send(invite())
    stage.waiting()
    place = stage.places[0]
    stage.send(request("CANCEL"))
    assert stage.got(CALLER) == ["180 INVITE", "200 CANCEL", "487 INVITE"]
    assert stage.given_up == [place.number]
    stage.waiting()
    assert (stage.got(CALLER), stage.given_up) == ([], [place.number, place.number])
    stage.place("w1")
    assert (stage.got("w1"), stage.released) == ([], ["lease-w1"])


def test_a_place_has_the_invite_it_is_for() -> None:
    stage = Stage()
    stage.send(invite(headers=("X-Line: 7",)))
    assert stage.places[0].request.first[b"x-line"] == b"7"


# Routes


def test_a_route_that_names_another_replica_is_served_with_its_token_only() -> None:
    first, second = pair()
    route = header_of(offered(first), "Record-Route")
    second.send(request("BYE", "sip:victim@198.51.100.7", to_tag="worker", headers=(f"Route: {route}",)))
    bye = parse(second.one("w1"))
    assert isinstance(bye, Request)
    assert b"route" not in bye.first
    forged = route.replace("<sip:", "<sip:A")
    second.send(request("BYE", "sip:w1@10.0.1.1", branch="z9hG4bKf", to_tag="worker", headers=(f"Route: {forged}",)))
    assert (second.got("w1"), second.got(CALLER)) == ([], ["481 BYE"])


def bye_of_a_dead_replica() -> tuple[Stage, bytes]:
    """A BYE comes again after the replica that forwarded it has died; returns what the worker gets the second time."""
    first, second = pair()
    route = header_of(offered(first), "Record-Route")
    bye = request("BYE", "sip:w1@10.0.1.1:5070", branch="z9hG4bKbye", to_tag="worker", headers=(f"Route: {route}",))
    first.send(bye)
    second.send(bye)
    copy = second.one("w1")
    assert branch_of(copy) == branch_of(first.one("w1"))
    return second, copy


def test_a_bye_whose_answer_went_to_a_dead_replica_is_sent_anew() -> None:
    stage, copy = bye_of_a_dead_replica()
    stage.wait(1.9)
    assert {branch_of(data) for data in stage.take("w1")} == {branch_of(copy)}
    stage.wait(0.1)
    anew = stage.one("w1")
    assert branch_of(anew) != branch_of(copy)
    stage.worker_sends("w1", response(anew, 481))
    assert stage.got(CALLER) == ["481 BYE"]
    stage.wait(40.0)
    assert (stage.got("w1"), stage.proxy.transactions, stage.proxy.wakes_at()) == ([], 0, None)


@pytest.mark.parametrize("seconds", [1.0, 3.0])
def test_a_late_answer_to_a_bye_passes_whether_it_was_sent_anew_or_not(seconds: float) -> None:
    stage, copy = bye_of_a_dead_replica()
    stage.wait(seconds)
    stage.worker_sends("w1", response(copy, 200))
    assert stage.got(CALLER) == ["200 BYE"]


def test_a_strict_router_may_name_another_replica_too() -> None:
    first, second = pair()
    own = header_of(offered(first), "Record-Route").strip("<>")
    second.send(request("BYE", own, to_tag="worker", headers=("Route: <sip:w1@10.0.1.1:5070>",)))
    bye = parse(second.one("w1"))
    assert isinstance(bye, Request)
    assert bye.target == b"sip:w1@10.0.1.1:5070"


def test_own_and_shared_address_are_both_ours() -> None:
    for host in ("10.0.0.1", "10.0.0.100"):
        stage = Stage(shared=SHARED)
        headers = (f"Route: <sip:{host};lr>",)
        stage.send(request("BYE", "sip:w1@10.0.1.1:5070", to_tag="worker", headers=headers))
        assert stage.got("w1") == ["BYE"]
