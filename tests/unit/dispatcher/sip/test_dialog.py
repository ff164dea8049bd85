"""Requests inside dialogs: where they go, and where they must not."""

import pytest

from dispatcher.sip.actions import Address
from dispatcher.sip.message import Request, parse
from tests.unit.dispatcher.ladder import CALLER, STRANGER, WORKERS, Stage, header_of, invite, request, response

OTHER_PEER = Address("udp", "192.0.2.77", 5060)
GONE_WORKER = Address("udp", "10.0.9.9", 5099)


def talking(stage: Stage, contact: str = "") -> str:
    """A call is answered by w1; returns the Route both sides have for it."""
    data = invite()
    if contact:
        data = data.replace(b"<sip:alice@192.0.2.10:5060>", contact.encode())
    stage.send(data)
    stage.place("w1")
    answer = response(stage.one("w1"), 200)
    stage.worker_sends("w1", answer)
    stage.take(CALLER)
    return f"Route: {header_of(answer, 'Record-Route')}"


def from_caller(method: str, *headers: str, uri: str = "sip:w1@10.0.1.1:5070", branch: str = "z9hG4bKlater") -> bytes:
    return request(method, uri, branch=branch, to_tag="worker", cseq=2, headers=headers)


def from_worker(method: str, *headers: str, uri: str = "sip:alice@192.0.2.10:5060") -> bytes:
    return request(
        method, uri, branch="z9hG4bKworker1", source=WORKERS["w1"], from_tag="worker", to_tag="caller", headers=headers
    )


def test_the_ack_for_a_2xx_passes_by_route_without_a_transaction() -> None:
    stage = Stage()
    route = talking(stage)
    before = stage.proxy.transactions
    stage.send(from_caller("ACK", route))
    ack = parse(stage.one("w1"))
    assert isinstance(ack, Request)
    assert (ack.method, ack.target, b"route" in ack.first) == (b"ACK", b"sip:w1@10.0.1.1:5070", False)
    assert len(ack.values(b"via")) == 2
    assert stage.proxy.transactions == before


def test_a_retransmitted_ack_passes_with_the_same_branch() -> None:
    stage = Stage()
    route = talking(stage)
    stage.send(from_caller("ACK", route))
    stage.send(from_caller("ACK", route))
    first, second = stage.take("w1")
    assert first == second


def test_an_ack_for_a_2xx_with_the_branch_of_its_invite_passes_too() -> None:
    stage = Stage()
    route = talking(stage)
    stage.send(from_caller("ACK", route, branch="z9hG4bKcaller1"))
    assert stage.got("w1") == ["ACK"]


def test_the_callers_bye_reaches_the_worker_and_its_answer_comes_back() -> None:
    stage = Stage()
    route = talking(stage)
    stage.send(from_caller("BYE", route))
    bye = stage.one("w1")
    stage.worker_sends("w1", response(bye, 200))
    assert stage.got(CALLER) == ["200 BYE"]


def test_the_workers_bye_reaches_the_caller_and_its_answer_comes_back() -> None:
    stage = Stage()
    route = talking(stage)
    stage.worker_sends("w1", from_worker("BYE", route))
    bye = stage.one(CALLER)
    stage.send(response(bye, 200))
    assert stage.got("w1") == ["200 BYE"]


def test_the_workers_bye_reaches_the_caller_although_its_machine_gave_it_another_port() -> None:
    stage = Stage()
    route = talking(stage)
    behind_nat = WORKERS["w1"]._replace(port=40001)
    stage.send(from_worker("BYE", route), behind_nat)
    bye = stage.one(CALLER)
    stage.send(response(bye, 200))
    assert stage.got(behind_nat) == ["200 BYE"]


def test_another_port_of_a_workers_host_is_nobody_without_the_calls_token() -> None:
    stage = Stage()
    stage.send(from_worker("BYE", uri="sip:victim@198.51.100.7"), WORKERS["w1"]._replace(port=40001))
    assert (stage.sent, stage.events()) == ([], ["sip.source_refused"])


def test_a_retransmitted_bye_is_absorbed_and_answered_again() -> None:
    stage = Stage()
    route = talking(stage)
    stage.send(from_caller("BYE", route))
    stage.send(from_caller("BYE", route))
    bye = stage.one("w1")
    stage.worker_sends("w1", response(bye, 200))
    stage.send(from_caller("BYE", route))
    assert stage.got(CALLER) == ["200 BYE", "200 BYE"]
    assert stage.got("w1") == []


def test_another_replica_carries_the_dialog_without_having_seen_it() -> None:
    first, second = Stage(), Stage()
    route = talking(first)
    second.send(from_caller("BYE", route))
    assert second.got("w1") == ["BYE"]
    second.worker_sends("w1", from_worker("INFO", route))
    assert second.got(CALLER) == ["INFO"]


def test_a_contact_that_is_a_name_is_reached_where_the_call_came_from() -> None:
    stage = Stage()
    route = talking(stage, "<sip:alice@pbx.example.com>")
    stage.worker_sends("w1", from_worker("BYE", route, uri="sip:alice@pbx.example.com"))
    bye = parse(stage.one(CALLER))
    assert isinstance(bye, Request)
    assert bye.target == b"sip:alice@pbx.example.com"


@pytest.mark.parametrize("uri", ["sip:alice@172.16.5.5:5060", "sip:alice@192.0.2.10;transport=tcp"])
def test_a_contact_that_cannot_be_reached_is_reached_where_the_call_came_from(uri: str) -> None:
    stage = Stage()
    route = talking(stage)
    stage.worker_sends("w1", from_worker("BYE", route, uri=uri))
    assert stage.got(CALLER) == ["BYE"]


def test_the_workers_request_follows_the_routes_behind_us() -> None:
    stage = Stage()
    route = talking(stage)
    stage.worker_sends("w1", from_worker("BYE", f"{route}, <sip:192.0.2.77;lr>", uri="sip:alice@172.16.5.5"))
    bye = parse(stage.one(OTHER_PEER))
    assert isinstance(bye, Request)
    assert (bye.target, bye.values(b"route")) == (b"sip:alice@172.16.5.5", [b"<sip:192.0.2.77;lr>"])


def test_a_strict_router_behind_us_finds_itself_in_the_request_uri() -> None:
    stage = Stage()
    route = talking(stage)
    stage.worker_sends("w1", from_worker("BYE", f"{route}, <sip:192.0.2.77>", uri="sip:alice@172.16.5.5"))
    bye = parse(stage.one(OTHER_PEER))
    assert isinstance(bye, Request)
    assert (bye.target, bye.values(b"route")) == (b"sip:192.0.2.77", [b"<sip:alice@172.16.5.5>"])


def test_a_strict_router_before_us_put_our_route_into_the_request_uri() -> None:
    stage = Stage()
    own = talking(stage).removeprefix("Route: <").removesuffix(">")
    stage.send(from_caller("BYE", "Route: <sip:w1@10.0.1.1:5070>", uri=own))
    bye = parse(stage.one("w1"))
    assert isinstance(bye, Request)
    assert (bye.target, b"route" in bye.first) == (b"sip:w1@10.0.1.1:5070", False)


def test_a_peer_cannot_reach_anybody_but_workers() -> None:
    stage = Stage()
    for headers in ((), ("Route: <sip:10.0.0.1;lr>",), ("Route: <sip:198.51.100.7;lr>",)):
        stage.send(from_caller("BYE", *headers, uri="sip:victim@198.51.100.7", branch=f"z9hG4bK{len(headers)}"))
        stage.send(from_caller("ACK", *headers, uri="sip:victim@198.51.100.7", branch=f"z9hG4bKa{len(headers)}"))
    assert {send.to for send in stage.sent} == {CALLER}
    assert set(stage.got(CALLER)) == {"481 BYE"}


def test_a_peer_with_a_token_reaches_the_worker_of_that_call_whatever_it_asks_for() -> None:
    stage = Stage()
    route = talking(stage)
    stage.send(from_caller("BYE", route, uri="sip:victim@198.51.100.7"))
    assert stage.got("w1") == ["BYE"]


def test_a_token_of_another_call_leads_nowhere() -> None:
    stage = Stage()
    route = talking(stage)
    stage.send(from_caller("BYE", route, uri="sip:victim@198.51.100.7").replace(b"call-1", b"call-2"))
    assert stage.got(CALLER) == ["481 BYE"]


def test_a_worker_cannot_reach_anybody_outside_without_a_token() -> None:
    stage = Stage()
    stage.worker_sends("w1", from_worker("BYE", uri="sip:victim@198.51.100.7"))
    assert stage.got("w1") == ["481 BYE"]


def test_a_worker_that_left_the_table_long_ago_is_still_reached_by_the_token() -> None:
    stage = Stage()
    route = talking(stage)
    stage.proxy.workers.update([], stage.now + 3600)
    stage.send(from_caller("BYE", route))
    assert stage.got("w1") == ["BYE"]
    stage.worker_sends("w1", response(request("BYE", branch="z9hG4bKx"), 200))
    assert stage.events()[-1] == "sip.source_refused"


def test_a_worker_that_left_the_table_lately_is_still_known() -> None:
    stage = Stage()
    talking(stage)
    stage.proxy.workers.update([], stage.now + 60)
    stage.send(from_caller("BYE"))
    assert stage.got("w1") == ["BYE"]


@pytest.mark.parametrize(("method", "status"), [("BYE", 481), ("INFO", 500), ("INVITE", 500)])
def test_a_request_to_a_dead_worker_is_answered_at_once_and_once(method: str, status: int) -> None:
    stage = Stage()
    route = talking(stage)
    stage.send(from_caller(method, route))
    stage.unreachable(WORKERS["w1"])
    stage.unreachable(WORKERS["w1"])
    assert stage.got(CALLER) == [f"{status} {method}"]


def test_a_bye_that_nobody_answers_ends_without_a_word() -> None:
    stage = Stage()
    route = talking(stage)
    stage.send(from_caller("BYE", route))
    stage.wait(35.0)
    assert stage.got(CALLER) == []
    assert (stage.proxy.transactions, stage.proxy.wakes_at()) == (0, None)


def test_a_reinvite_gets_100_within_200_ms_and_408_when_nobody_answers() -> None:
    stage = Stage()
    route = talking(stage)
    stage.send(from_caller("INVITE", route))
    stage.wait(0.2)
    assert stage.got(CALLER) == ["100 INVITE"]
    assert stage.places == []
    stage.wait(32.0)
    assert stage.take(CALLER)[0].startswith(b"SIP/2.0 408 ")


def test_a_reinvite_of_the_worker_reaches_the_caller() -> None:
    stage = Stage()
    route = talking(stage)
    stage.worker_sends("w1", from_worker("INVITE", route))
    reinvite = stage.one(CALLER)
    assert "X-Voicepool-Lease" not in reinvite.decode()
    stage.send(response(reinvite, 100))
    stage.send(response(reinvite, 200))
    assert stage.got("w1") == ["100 INVITE", "200 INVITE"]


def test_a_reinvite_can_be_cancelled() -> None:
    stage = Stage()
    route = talking(stage)
    stage.send(from_caller("INVITE", route))
    reinvite = stage.one("w1")
    stage.worker_sends("w1", response(reinvite, 180))
    stage.send(from_caller("CANCEL", route))
    assert stage.got("w1") == ["CANCEL"]
    stage.worker_sends("w1", response(reinvite, 487))
    assert stage.got(CALLER) == ["180 INVITE", "200 CANCEL", "487 INVITE"]


def test_a_reinvite_that_rings_forever_leaves_nothing_behind() -> None:
    stage = Stage()
    route = talking(stage)
    stage.send(from_caller("INVITE", route))
    stage.worker_sends("w1", response(stage.one("w1"), 180))
    stage.wait(400.0)
    assert stage.proxy.transactions == 0
    assert stage.proxy.wakes_at() is None


def test_a_503_inside_a_dialog_passes() -> None:
    stage = Stage()
    route = talking(stage)
    stage.send(from_caller("INVITE", route))
    stage.worker_sends("w1", response(stage.one("w1"), 503))
    assert stage.got(CALLER) == ["503 INVITE"]


def test_strangers_reach_nobody_even_with_a_token() -> None:
    stage = Stage()
    route = talking(stage)
    stage.send(from_caller("BYE", route), STRANGER)
    assert stage.sent == []
    assert stage.events()[-1] == "sip.source_refused"
