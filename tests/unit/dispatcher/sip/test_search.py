"""A CANCEL that comes to another replica than its INVITE."""

from dispatcher.sip import search
from dispatcher.sip.actions import Address
from dispatcher.sip.message import Request, parse
from shared.ids import call_id_for
from tests.unit.dispatcher.ladder import (
    CALLER,
    PROXY,
    SECOND,
    STRANGER,
    WORKERS,
    Stage,
    header_of,
    invite,
    request,
    response,
)


def elsewhere() -> tuple[bytes, Stage]:
    """A call rings through one replica; returns the INVITE its worker got, and another replica."""
    first = Stage(address=PROXY)
    first.send(invite())
    first.place("w1")
    return first.one("w1"), Stage(address=SECOND)


def test_a_cancel_reaches_the_worker_with_the_branch_of_its_invite() -> None:
    offered, stage = elsewhere()
    stage.send(request("CANCEL"))
    assert stage.finds[0].call_id == call_id_for("call-1", "caller")
    assert stage.got(CALLER) == []
    stage.found("w1")
    assert stage.got(CALLER) == ["200 CANCEL"]
    cancel, sent = parse(stage.one("w1")), parse(offered)
    assert isinstance(cancel, Request) and isinstance(sent, Request)
    assert (cancel.method, cancel.target, cancel.cseq) == (b"CANCEL", sent.target, sent.cseq)
    assert cancel.via.branch == sent.via.branch
    assert cancel.via.sent_by == b"10.0.0.2:5060"
    assert (cancel.first[b"from"], cancel.first[b"to"]) == (sent.first[b"from"], sent.first[b"to"])


def test_the_487_passes_as_a_copy() -> None:
    offered, stage = elsewhere()
    stage.send(request("CANCEL"))
    stage.found("w1")
    stage.take(CALLER)
    stage.worker_sends("w1", response(stage.one("w1"), 200))
    stage.send(response(offered, 487), Address("udp", WORKERS["w1"].host, 41000))
    assert stage.got(CALLER) == ["487 INVITE"]
    stage.wait(32.0)
    assert (stage.proxy.transactions, stage.proxy.wakes_at()) == (0, None)


def test_the_replica_that_has_the_call_passes_a_487_it_did_not_ask_for() -> None:
    stage = Stage()
    stage.send(invite())
    stage.place("w1")
    stage.worker_sends("w1", response(stage.one("w1"), 487))
    assert stage.got(CALLER) == ["487 INVITE"]
    assert stage.reports[-1].fields["reason"] == "caller_cancelled"


def test_a_cancel_for_a_taken_call_is_looked_for() -> None:
    _, stage = elsewhere()
    stage.send(invite())
    stage.taken()
    stage.send(request("CANCEL"))
    stage.found("w1")
    assert stage.got(CALLER) == ["100 INVITE", "200 CANCEL"]
    assert header_of(stage.one("w1"), "CSeq") == "1 CANCEL"


def test_a_cancel_for_a_call_that_nobody_has_is_answered_481() -> None:
    stage = Stage()
    stage.send(request("CANCEL"))
    stage.not_found()
    assert stage.got(CALLER) == ["481 CANCEL"]
    stage.send(request("CANCEL"))
    assert (stage.got(CALLER), stage.finds) == (["481 CANCEL"], [])


def test_a_cancel_that_comes_again_is_looked_for_once() -> None:
    _, stage = elsewhere()
    for _ in range(3):
        stage.send(request("CANCEL"))
    assert len(stage.finds) == 1
    stage.found("w1")
    stage.send(request("CANCEL"))
    assert stage.got(CALLER) == ["200 CANCEL", "200 CANCEL"]
    assert stage.got("w1") == ["CANCEL"]


def test_an_answer_to_a_search_counts_once() -> None:
    _, stage = elsewhere()
    stage.send(request("CANCEL"))
    stage.finds.append(stage.finds[0])
    stage.not_found()
    stage.found("w1")
    assert (stage.got(CALLER), stage.got("w1")) == (["481 CANCEL"], [])


def test_strangers_do_not_make_anybody_search() -> None:
    stage = Stage()
    stage.send(request("CANCEL"), STRANGER)
    assert (stage.finds, stage.sent) == ([], [])


def test_nothing_is_looked_for_where_callers_are_redirected() -> None:
    stage = Stage(redirect=True)
    stage.send(request("CANCEL"))
    assert (stage.finds, stage.got(CALLER)) == ([], ["481 CANCEL"])


def test_searches_have_a_bound_and_one_too_many_may_come_again() -> None:
    stage = Stage(max_transactions=10_000)
    for number in range(search.MAX_SEARCHES + 5):
        stage.send(request("CANCEL", branch=f"z9hG4bK{number}", call_id=f"call-{number}"))
    assert (len(stage.finds), stage.proxy.transactions) == (search.MAX_SEARCHES, search.MAX_SEARCHES)
    stage.not_found()
    stage.send(request("CANCEL", branch="z9hG4bKlast", call_id="last"))
    assert stage.finds[-1].call_id == call_id_for("last", "caller")


def test_a_full_dispatcher_searches_for_nobody() -> None:
    stage = Stage(max_transactions=4)
    for number in range(8):
        stage.send(request("CANCEL", branch=f"z9hG4bK{number}"))
    assert (len(stage.finds), stage.proxy.transactions) == (5, 5)


def test_a_cancel_of_a_reinvite_goes_by_its_route_without_state() -> None:
    offered, stage = elsewhere()
    first = Stage(address=PROXY)
    dialog = {"uri": "sip:w1@10.0.1.1:5070", "branch": "z9hG4bKre", "to_tag": "worker", "cseq": 2}
    route = (f"Route: {header_of(offered, 'Record-Route')}",)
    first.send(request("INVITE", headers=route, **dialog))  # type: ignore[arg-type]
    reinvite = first.one("w1")
    for _ in range(2):
        stage.send(request("CANCEL", headers=route, **dialog))  # type: ignore[arg-type]
    cancel, again = stage.take("w1")
    assert cancel == again
    assert parse(cancel).via.branch == parse(reinvite).via.branch  # type: ignore[union-attr]
    stage.worker_sends("w1", response(cancel, 200))
    assert stage.got(CALLER) == ["200 CANCEL"]
    assert (stage.finds, stage.proxy.transactions) == ([], 0)


def test_a_cancel_in_a_dialog_that_leads_nowhere_is_answered_481() -> None:
    stage = Stage()
    stage.send(request("CANCEL", "sip:victim@198.51.100.7", to_tag="x"))
    assert (stage.got(CALLER), stage.finds) == (["481 CANCEL"], [])
