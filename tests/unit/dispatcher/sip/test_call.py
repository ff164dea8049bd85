"""New calls in proxy mode, as ladders: who gets what, and when."""

import pytest

from dispatcher.sip.call import WORKER_MAX_BYTES
from dispatcher.sip.message import Request, parse
from shared.ids import WorkerId
from tests.unit.dispatcher.ladder import CALLER, SDP, WORKERS, Stage, header_of, invite, request, response


def ringing(stage: Stage, worker: str = "w1", *, status: int = 180) -> bytes:
    """A call rings on `worker`; returns the INVITE that it got."""
    stage.send(invite())
    stage.place(worker)
    offered = stage.one(worker)
    stage.worker_sends(worker, response(offered, status))
    stage.take(CALLER)
    return offered


def ack_for(answer: bytes, **changes: str) -> bytes:
    """Returns the ACK for a refusal, as the caller's transaction sends it."""
    return request("ACK", to_tag=header_of(answer, "To").partition("tag=")[2], **changes)  # type: ignore[arg-type]


def test_an_invite_goes_to_the_worker_it_is_placed_on_and_gets_100_when_that_has_it() -> None:
    stage = Stage()
    stage.send(invite())
    stage.place("w1")
    offered = stage.one("w1")
    assert stage.got(CALLER) == []
    stage.worker_sends("w1", response(offered, 100))
    assert stage.got(CALLER) == ["100 INVITE"]
    stage.worker_sends("w1", response(offered, 100))
    stage.wait(1.0)
    assert stage.got(CALLER) == []


def test_a_caller_whose_worker_says_nothing_gets_100_within_200_ms() -> None:
    stage = Stage()
    stage.send(invite())
    stage.wait(0.14)
    assert stage.got(CALLER) == []
    stage.wait(0.06)
    assert stage.got(CALLER) == ["100 INVITE"]
    stage.place("w1")
    stage.worker_sends("w1", response(stage.one("w1"), 100))
    assert stage.got(CALLER) == []


def test_a_quick_answer_makes_a_100_needless() -> None:
    stage = Stage()
    ringing(stage)
    stage.wait(1.0)
    assert stage.got(CALLER) == []


def test_the_worker_gets_the_invite_with_via_record_route_lease_and_one_hop_less() -> None:
    stage = Stage()
    stage.send(invite(headers=("X-Custom:   kept  as is", "Max-Forwards: 41")))
    stage.place("w1")
    data = stage.one("w1")
    message = parse(data)
    assert isinstance(message, Request)
    assert message.target == b"sip:100@10.0.1.1:5070"
    vias = message.values(b"via")
    assert vias[0].startswith(b"SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK")
    assert vias[1] == b"SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bKcaller1;rport=5060;received=192.0.2.10"
    assert message.first[b"record-route"].endswith(b"@10.0.0.1:5060;lr>")
    assert message.first[b"max-forwards"] == b"40"
    assert message.first[b"x-voicepool-lease"] == b"token-w1"
    assert b"\r\nX-Custom:   kept  as is\r\n" in data
    assert message.body == SDP


def test_a_lease_token_from_outside_is_removed() -> None:
    stage = Stage()
    stage.send(invite(headers=("X-Voicepool-Lease: forged", "x-voicepool-LEASE : forged too")))
    stage.place("w1")
    data = stage.one("w1")
    assert b"forged" not in data
    assert header_of(data, "X-Voicepool-Lease") == "token-w1"


def test_a_call_without_max_forwards_gets_70() -> None:
    stage = Stage()
    stage.send(invite().replace(b"Max-Forwards: 70\r\n", b""))
    stage.place("w1")
    assert header_of(stage.one("w1"), "Max-Forwards") == "70"


def test_route_headers_of_a_new_call_end_here() -> None:
    stage = Stage()
    stage.send(invite(headers=("Route: <sip:pool.example.com;lr>", "Route: <sip:198.51.100.7;lr>")))
    stage.place("w1")
    assert header_of(stage.one("w1"), "Route") == ""


def test_responses_pass_to_the_caller_without_our_via() -> None:
    stage = Stage()
    stage.send(invite())
    stage.place("w1")
    offered = stage.one("w1")
    stage.take(CALLER)
    stage.worker_sends("w1", response(offered, 100))
    stage.worker_sends("w1", response(offered, 180))
    stage.worker_sends("w1", response(offered, 200, body=SDP, headers=("X-Kept: yes",)))
    assert stage.got(CALLER) == ["100 INVITE", "180 INVITE", "200 INVITE"]
    assert stage.events()[-1] == "call.answered"


def test_the_answer_reaches_the_caller_with_its_own_via_only_and_the_record_route() -> None:
    stage = Stage()
    offered = ringing(stage)
    stage.worker_sends("w1", response(offered, 200, body=SDP))
    answer = parse(stage.one(CALLER))
    assert answer is not None
    assert len(answer.values(b"via")) == 1
    assert answer.via.branch == b"z9hG4bKcaller1"
    assert answer.values(b"record-route") == [header_of(offered, "Record-Route").encode()]
    assert answer.body == SDP


def test_a_retransmitted_invite_gets_the_same_answer_and_makes_no_second_call() -> None:
    stage = Stage()
    stage.send(invite())
    stage.send(invite())
    assert stage.got(CALLER) == []
    stage.wait(0.2)
    stage.send(invite())
    assert stage.got(CALLER) == ["100 INVITE", "100 INVITE"]
    stage.place("w1")
    stage.worker_sends("w1", response(stage.one("w1"), 180))
    stage.take(CALLER)
    stage.send(invite())
    assert stage.got(CALLER) == ["180 INVITE"]
    assert (stage.places, stage.got("w1")) == ([], [])


def test_the_same_invite_over_another_way_is_refused_as_merged() -> None:
    stage = Stage()
    stage.send(invite())
    stage.take(CALLER)
    stage.send(invite(branch="z9hG4bKother"))
    assert stage.got(CALLER) == ["482 INVITE"]
    assert len(stage.places) == 1


def test_after_a_refusal_the_same_invite_may_come_again() -> None:
    stage = Stage()
    stage.send(invite())
    stage.no_room()
    stage.send(invite(branch="z9hG4bKsecond"))
    assert len(stage.places) == 1


def test_2xx_retransmissions_pass_as_often_as_they_come() -> None:
    stage = Stage()
    offered = ringing(stage)
    for _ in range(3):
        stage.worker_sends("w1", response(offered, 200))
    assert stage.got(CALLER) == ["200 INVITE"] * 3


def test_a_refusal_of_the_worker_passes_and_is_acknowledged_hop_by_hop() -> None:
    stage = Stage()
    offered = ringing(stage)
    stage.worker_sends("w1", response(offered, 488))
    assert stage.got("w1") == ["ACK"]
    refusal = stage.one(CALLER)
    assert refusal.startswith(b"SIP/2.0 488")
    stage.send(ack_for(refusal))
    stage.wait(4.0)
    assert (stage.got(CALLER), stage.got("w1"), stage.places) == ([], [], [])
    assert stage.released == ["lease-w1"]


def test_our_ack_matches_the_invite_it_is_for() -> None:
    stage = Stage()
    offered = ringing(stage)
    stage.worker_sends("w1", response(offered, 486, tag="busy"))
    ack = parse(stage.one("w1"))
    sent = parse(offered)
    assert isinstance(ack, Request) and isinstance(sent, Request)
    assert (ack.target, ack.via, ack.cseq, ack.to_tag) == (sent.target, sent.via, sent.cseq, b"busy")
    assert ack.values(b"via") == sent.values(b"via")[:1]


def test_a_refusal_is_repeated_until_the_caller_acknowledges() -> None:
    stage = Stage()
    stage.send(invite())
    stage.take(CALLER)
    stage.no_room()
    refusal = stage.one(CALLER)
    stage.wait(1.0)
    assert stage.take(CALLER) == [refusal]
    stage.send(ack_for(refusal))
    stage.wait(31.0)
    assert stage.take(CALLER) == []


def test_no_room_is_503_without_retry_after() -> None:
    stage = Stage()
    stage.send(invite())
    stage.take(CALLER)
    stage.no_room()
    refusal = stage.one(CALLER)
    assert refusal.startswith(b"SIP/2.0 503 ")
    assert header_of(refusal, "Retry-After") == ""
    assert stage.events() == ["sip.incoming_call", "call.refused"]


def test_a_worker_that_answers_503_is_followed_by_the_next() -> None:
    stage = Stage()
    stage.send(invite())
    stage.place("w1")
    stage.take(CALLER)
    stage.worker_sends("w1", response(stage.one("w1"), 503, headers=("Retry-After: 60",)))
    (place,) = stage.places
    assert (place.attempt, set(place.exclude)) == (2, {"w1"})
    assert place.replacing and place.replacing.lease_id == "lease-w1"
    stage.place("w2")
    assert stage.got("w1") == ["ACK"]
    stage.worker_sends("w2", response(stage.one("w2"), 200))
    assert stage.got(CALLER) == ["200 INVITE"]
    assert stage.released == []


def test_a_silent_worker_is_given_up_after_two_retransmissions() -> None:
    stage = Stage()
    stage.send(invite())
    stage.place("w1")
    stage.wait(2.4)
    assert (stage.got("w1"), stage.places) == (["INVITE"] * 3, [])
    stage.wait(0.2)
    assert stage.places[0].attempt == 2
    stage.place("w2")
    stage.wait(1.0)
    assert stage.got("w1") == []
    assert stage.got("w2") == ["INVITE", "INVITE"]


def test_an_unreachable_worker_is_followed_by_the_next_at_once() -> None:
    stage = Stage()
    stage.send(invite())
    stage.place("w1")
    stage.unreachable(WORKERS["w1"])
    stage.place("w2")
    assert stage.got("w2") == ["INVITE"]


def test_a_provisional_lease_that_its_worker_cannot_enter_is_followed_by_a_real_one_for_any_worker() -> None:
    stage = Stage()
    stage.send(invite())
    stage.place("w1", provisional=True)
    stage.take(CALLER)
    stage.worker_sends("w1", response(stage.one("w1"), 403))
    (place,) = stage.places
    assert (place.attempt, place.exclude) == (2, frozenset())
    stage.place("w1")
    stage.worker_sends("w1", response(stage.take("w1")[-1], 200))
    assert stage.got(CALLER) == ["200 INVITE"]


def test_a_real_lease_that_is_refused_at_its_workers_address_is_followed_by_one_for_another_worker() -> None:
    stage = Stage()
    stage.send(invite())
    stage.place("w1")
    stage.take(CALLER)
    stage.worker_sends("w1", response(stage.one("w1"), 403))
    (place,) = stage.places
    assert (stage.got(CALLER), place.attempt, place.exclude, place.silent) == (
        [],
        2,
        frozenset([WorkerId("w1")]),
        False,
    )
    stage.place("w2")
    stage.worker_sends("w2", response(stage.take("w2")[-1], 200))
    assert stage.got(CALLER) == ["200 INVITE"]


def test_a_ringing_call_whose_worker_is_replaced_at_its_address_goes_on_and_others_notice_nothing() -> None:
    stage = Stage()
    ringing(stage)
    stage.lost("w2")
    assert stage.places == []
    stage.lost("w1")
    stage.lost("w1")
    (place,) = stage.places
    assert (stage.got("w1"), stage.got(CALLER), place.exclude, place.silent) == ([], [], frozenset(), True)
    stage.place("w1")
    stage.worker_sends("w1", response(stage.one("w1"), 200))
    assert stage.got(CALLER) == ["200 INVITE"]


def test_three_workers_are_tried_then_the_caller_gets_503() -> None:
    stage = Stage()
    stage.send(invite())
    for worker in ("w1", "w2", "w3"):
        stage.place(worker)
        stage.take(CALLER)
        stage.worker_sends(worker, response(stage.take(worker)[0], 503))
    assert stage.places == []
    assert stage.got(CALLER) == ["503 INVITE"]
    assert stage.released == ["lease-w3"]


def test_no_room_for_the_second_try_gives_the_first_offer_back() -> None:
    stage = Stage()
    stage.send(invite())
    stage.place("w1")
    stage.wait(2.5)
    stage.take(CALLER)
    stage.no_room()
    assert stage.got(CALLER) == ["503 INVITE"]
    assert stage.released == ["lease-w1"]


def test_a_worker_that_rings_has_time() -> None:
    stage = Stage()
    ringing(stage)
    stage.wait(60.0)
    assert stage.places == []
    assert stage.got(CALLER) == []


def test_a_ringing_worker_whose_process_died_is_followed_by_the_next() -> None:
    stage = Stage()
    ringing(stage)
    stage.wait(2.0)
    assert stage.got("w1") == [""]
    stage.unreachable(WORKERS["w1"])
    assert stage.places[0].attempt == 2


def test_a_worker_that_rings_forever_is_cancelled_by_timer_c_and_the_caller_gets_408() -> None:
    stage = Stage()
    ringing(stage)
    stage.wait(180.0)
    assert "CANCEL" not in stage.got("w1")
    stage.wait(1.0)
    assert "CANCEL" in stage.got("w1")
    stage.wait(32.0)
    assert stage.take(CALLER)[0].startswith(b"SIP/2.0 408 ")
    assert stage.released == ["lease-w1"]


def test_a_new_provisional_response_starts_timer_c_anew() -> None:
    stage = Stage()
    offered = ringing(stage)
    stage.wait(100.0)
    stage.worker_sends("w1", response(offered, 183))
    stage.wait(150.0)
    assert "CANCEL" not in stage.got("w1")


def test_cancel_while_the_worker_rings_is_answered_and_forwarded() -> None:
    stage = Stage()
    offered = ringing(stage)
    stage.send(request("CANCEL"))
    assert stage.got(CALLER) == ["200 CANCEL"]
    cancel = stage.one("w1")
    assert parse(cancel).via == parse(offered).via  # type: ignore[union-attr]
    stage.worker_sends("w1", response(cancel, 200))
    stage.worker_sends("w1", response(offered, 487))
    assert stage.got("w1") == ["ACK"]
    assert stage.got(CALLER) == ["487 INVITE"]


def test_a_retransmitted_cancel_is_answered_again_and_forwarded_once() -> None:
    stage = Stage()
    ringing(stage)
    stage.send(request("CANCEL"))
    stage.send(request("CANCEL"))
    assert stage.got(CALLER) == ["200 CANCEL", "200 CANCEL"]
    assert stage.got("w1") == ["CANCEL"]


def test_cancel_waits_for_the_first_provisional_response() -> None:
    stage = Stage()
    stage.send(invite())
    stage.place("w1")
    offered = stage.one("w1")
    stage.send(request("CANCEL"))
    assert stage.got("w1") == []
    stage.worker_sends("w1", response(offered, 100))
    assert stage.got("w1") == ["CANCEL"]


def test_cancel_while_the_call_is_being_placed_ends_it_here_and_gives_the_lease_back() -> None:
    stage = Stage()
    stage.send(invite())
    stage.take(CALLER)
    stage.send(request("CANCEL"))
    assert stage.got(CALLER) == ["200 CANCEL", "487 INVITE"]
    stage.place("w1")
    assert stage.got("w1") == []
    assert stage.released == ["lease-w1"]


def test_cancel_while_the_call_is_being_placed_may_be_followed_by_no_room() -> None:
    stage = Stage()
    stage.send(invite())
    stage.send(request("CANCEL"))
    stage.take(CALLER)
    stage.no_room()
    assert stage.got(CALLER) == []


def test_cancel_of_a_call_at_a_silent_worker_ends_here_when_the_silence_is_over() -> None:
    stage = Stage()
    stage.send(invite())
    stage.place("w1")
    stage.send(request("CANCEL"))
    stage.take(CALLER)
    stage.wait(2.5)
    assert stage.got(CALLER) == ["100 INVITE", "487 INVITE"]
    assert (stage.places, stage.released) == ([], ["lease-w1"])


def test_a_cancelled_call_is_not_offered_to_another_worker() -> None:
    stage = Stage()
    offered = ringing(stage)
    stage.send(request("CANCEL"))
    stage.worker_sends("w1", response(offered, 503))
    assert stage.got(CALLER) == ["200 CANCEL", "487 INVITE"]
    assert stage.places == []


def test_cancel_that_the_worker_never_answers_ends_after_64_t1() -> None:
    stage = Stage()
    ringing(stage)
    stage.send(request("CANCEL"))
    stage.take(CALLER)
    stage.wait(32.0)
    assert stage.take(CALLER)[0].startswith(b"SIP/2.0 487 ")


def test_a_200_that_crosses_a_cancel_reaches_the_caller() -> None:
    stage = Stage()
    offered = ringing(stage)
    stage.send(request("CANCEL"))
    stage.take(CALLER)
    stage.worker_sends("w1", response(offered, 200))
    assert stage.got(CALLER) == ["200 INVITE"]


def test_cancel_after_the_answer_changes_nothing() -> None:
    stage = Stage()
    offered = ringing(stage)
    stage.worker_sends("w1", response(offered, 200))
    stage.take(CALLER)
    stage.send(request("CANCEL"))
    assert stage.got(CALLER) == ["200 CANCEL"]
    assert stage.got("w1") == []


def test_a_silent_worker_that_rings_too_late_is_cancelled() -> None:
    stage = Stage()
    stage.send(invite())
    stage.place("w1")
    late = stage.take("w1")[0]
    stage.wait(2.5)
    stage.place("w2")
    stage.take("w1")
    stage.take(CALLER)
    stage.worker_sends("w1", response(late, 180))
    assert stage.got("w1") == ["CANCEL"]
    assert stage.got(CALLER) == []


def test_a_silent_worker_that_answers_late_gets_the_call_and_the_other_is_cancelled() -> None:
    stage = Stage()
    stage.send(invite())
    stage.place("w1")
    late = stage.take("w1")[0]
    stage.wait(2.5)
    stage.place("w2")
    stage.worker_sends("w2", response(stage.one("w2"), 180))
    stage.take(CALLER)
    stage.worker_sends("w1", response(late, 200))
    assert stage.got(CALLER) == ["200 INVITE"]
    assert stage.got("w2") == ["CANCEL"]


def test_a_late_answer_while_the_next_worker_is_looked_for_wins() -> None:
    stage = Stage()
    stage.send(invite())
    stage.place("w1")
    late = stage.take("w1")[0]
    stage.wait(2.5)
    stage.take(CALLER)
    stage.worker_sends("w1", response(late, 200))
    assert stage.got(CALLER) == ["200 INVITE"]
    stage.place("w2")
    assert stage.got("w2") == []
    assert stage.released == ["lease-w2"]


def test_an_answer_after_the_refusal_goes_nowhere() -> None:
    stage = Stage()
    stage.send(invite())
    stage.place("w1")
    late = stage.take("w1")[0]
    stage.wait(2.5)
    stage.no_room()
    stage.take(CALLER)
    stage.worker_sends("w1", response(late, 200))
    assert stage.got(CALLER) == []


@pytest.mark.parametrize("branch", [b"z9hG4bKx", b"z9hG4bK", b"x"])
def test_a_stray_response_goes_nowhere(branch: bytes) -> None:
    stage = Stage()
    offered = ringing(stage)
    stage.worker_sends("w1", response(offered, 200).replace(b"z9hG4bK", branch + b"0", 1))
    assert stage.sent == []
    assert "sip.stray_response" in stage.events()


@pytest.mark.parametrize("ending", ["answered", "refused", "cancelled", "ringing", "silent", "unplaced"])
def test_nothing_is_left_of_a_call_when_its_timers_have_run_out(ending: str) -> None:
    stage = Stage()
    if ending in ("silent", "unplaced"):
        stage.send(invite())
        if ending == "silent":
            stage.place("w1")
            stage.wait(2.5)
        stage.no_room()
    else:
        offered = ringing(stage)
        if ending == "cancelled":
            stage.send(request("CANCEL"))
        elif ending != "ringing":
            stage.worker_sends("w1", response(offered, 200 if ending == "answered" else 486))
    stage.wait(400.0)
    assert stage.proxy.transactions == 0
    assert stage.proxy.wakes_at() is None
    assert stage.proxy.unanswered() == 0


def test_reports_tell_a_call_without_numbers_or_tokens() -> None:
    stage = Stage()
    offered = ringing(stage)
    stage.worker_sends("w1", response(offered, 200))
    assert [report.event for report in stage.reports] == ["sip.incoming_call", "call.placed", "call.answered"]
    said = " ".join(str(report.fields) for report in stage.reports)
    for secret in ("alice", "100@", "token-w1", "A Caller", "call-1"):
        assert secret not in said


def test_an_invite_that_no_worker_takes_is_told_so_and_its_offer_given_back() -> None:
    stage = Stage()
    stage.send(invite(headers=("X-Long: " + "y" * WORKER_MAX_BYTES,)))
    stage.place("w1")
    assert stage.got("w1") == []
    assert stage.take(CALLER)[0].startswith(b"SIP/2.0 513 ")
    assert stage.released == ["lease-w1"]
