"""The BYE on behalf of a dead worker."""

from dataclasses import replace

import pytest

from dispatcher.sip.actions import Address, Orphan
from dispatcher.sip.message import Request, parse
from shared.ids import CallId, call_id_for
from shared.messages import Dialog
from tests.unit.dispatcher.ladder import CALLER, PROXY, SECOND, WORKERS, Stage, header_of, invite, response

OTHER_PEER = Address("udp", "192.0.2.77", 5070)
CALL_ID = call_id_for("call-1", "caller")


def orphan(*routes: bytes, target: bytes = b"sip:alice@192.0.2.10:5060", peer: str = CALLER.host) -> Orphan:
    """Returns a call as its worker saw it, answered with a Record-Route of ours in front of `routes`."""
    stage = Stage(address=PROXY)
    stage.send(invite())
    stage.place("w1")
    offered = parse(stage.one("w1"))
    assert offered
    return Orphan(
        CALL_ID,
        Dialog(
            call_id=offered.call_id,
            local=offered.first[b"to"] + b";tag=worker",
            remote=offered.first[b"from"],
            target=target,
            routes=[*offered.values(b"record-route"), *routes],
        ),
        peer,
    )


def changed(lost: Orphan, **changes: object) -> Orphan:
    return replace(lost, dialog=replace(lost.dialog, **changes))  # type: ignore[arg-type]


def bye_to(stage: Stage, address: Address) -> Request:
    message = parse(stage.one(address))
    assert isinstance(message, Request)
    return message


def test_the_caller_gets_the_bye_its_worker_would_have_sent() -> None:
    stage = Stage(address=SECOND)
    stage.hang_up(orphan())
    bye = bye_to(stage, CALLER)
    assert (bye.method, bye.target, bye.routes) == (b"BYE", b"sip:alice@192.0.2.10:5060", [])
    assert bye.first[b"from"] == b"<sip:100@10.0.0.1>;tag=worker"
    assert bye.first[b"to"] == b'"A Caller" <sip:alice@192.0.2.10>;tag=caller'
    assert (bye.call_id, bye.cseq, bye.max_forwards) == (b"call-1", 2**30, 70)
    assert bye.first[b"reason"] == b'SIP;cause=503;text="worker lost"'
    assert [via.partition(b";")[0] for via in bye.values(b"via")] == [b"SIP/2.0/UDP 10.0.0.2:5060"]


def test_it_is_settled_by_any_final_answer_and_once() -> None:
    stage = Stage()
    stage.hang_up(orphan())
    bye = stage.one(CALLER)
    stage.send(response(bye, 100))
    assert stage.settled == []
    for _ in range(2):
        stage.send(response(bye, 481))
    assert stage.settled == [CALL_ID]
    assert stage.reports[-1].fields == {"call_id": CALL_ID, "outcome": "answered 481"}
    stage.wait(10.0)
    assert (stage.proxy.transactions, stage.proxy.wakes_at()) == (0, None)


def test_a_caller_that_says_nothing_is_asked_for_64_t1() -> None:
    stage = Stage()
    stage.hang_up(orphan())
    stage.wait(31.9)
    assert (len(stage.take(CALLER)), stage.settled) == (11, [])
    stage.wait(0.2)
    assert (stage.settled, stage.proxy.transactions) == ([CALL_ID], 0)


def test_a_caller_that_is_gone_settles_it_at_once() -> None:
    stage = Stage()
    stage.hang_up(orphan())
    stage.unreachable(CALLER)
    assert stage.settled == [CALL_ID]


def test_asked_twice_the_caller_is_told_again_and_the_call_settled_once() -> None:
    stage = Stage()
    lost = orphan()
    stage.hang_up(lost)
    stage.hang_up(lost)
    first, second = stage.take(CALLER)
    assert first == second
    stage.send(response(first, 200))
    assert stage.settled == [CALL_ID]


def test_the_routes_behind_us_are_followed() -> None:
    stage = Stage()
    stage.hang_up(orphan(b"<sip:192.0.2.77:5070;lr>", b"<sip:192.0.2.78;lr>", target=b"sip:alice@172.16.5.5"))
    bye = bye_to(stage, OTHER_PEER)
    assert bye.target == b"sip:alice@172.16.5.5"
    assert bye.values(b"route") == [b"<sip:192.0.2.77:5070;lr>", b"<sip:192.0.2.78;lr>"]


def test_a_strict_router_behind_us_finds_itself_in_the_request_uri() -> None:
    stage = Stage()
    stage.hang_up(orphan(b"<sip:192.0.2.77:5070>"))
    bye = bye_to(stage, OTHER_PEER)
    assert (bye.target, bye.values(b"route")) == (b"sip:192.0.2.77:5070", [b"<sip:alice@192.0.2.10:5060>"])


@pytest.mark.parametrize("target", [b"sip:alice@pbx.example.com", b"sip:alice@198.51.100.7", b"tel:+4930123456"])
def test_a_caller_whose_contact_may_not_be_reached_is_reached_where_the_call_came_from(target: bytes) -> None:
    stage = Stage()
    stage.hang_up(orphan(target=target, peer="192.0.2.99"))
    assert bye_to(stage, CALLER).target == target


def test_without_record_route_it_goes_straight_to_the_target() -> None:
    stage = Stage()
    stage.hang_up(changed(orphan(target=b"sip:alice@192.0.2.77:5070"), routes=[]))
    assert bye_to(stage, OTHER_PEER).routes == []


def test_without_anything_else_it_goes_to_where_the_invite_came_from() -> None:
    stage = Stage()
    stage.hang_up(changed(orphan(target=b"sip:alice@pbx.example.com:5070", peer="192.0.2.77"), routes=[]))
    assert bye_to(stage, OTHER_PEER).target == b"sip:alice@pbx.example.com:5070"


@pytest.mark.parametrize("peer", ["198.51.100.7", "pbx.example.com", "", WORKERS["w1"].host])
def test_nobody_but_allowed_peers_is_told(peer: str) -> None:
    stage = Stage()
    stage.hang_up(changed(orphan(target=b"sip:victim@198.51.100.7", peer=peer), routes=[]))
    assert (stage.sent, stage.settled) == ([], [CALL_ID])


@pytest.mark.parametrize(
    "changes",
    [
        {"target": b""},
        {"target": b"no uri"},
        {"target": b"sip:a@192.0.2.10\r\nX-Smuggled: yes"},
        {"routes": [b"<sip:unclosed"]},
        {"routes": [b'"never ends']},
        {"local": b"<sip:a@b"},
        {"remote": b"<sip:a@b>\nX-Smuggled: yes"},
        {"call_id": b"a\0b"},
    ],
)
def test_a_dialog_that_makes_no_bye_is_settled_without_one(changes: dict[str, object]) -> None:
    stage = Stage()
    stage.hang_up(changed(orphan(), **changes))
    assert (stage.sent, stage.settled) == ([], [CALL_ID])


def test_many_orphans_at_once_are_kept_apart() -> None:
    stage = Stage()
    for number in range(3):
        lost = changed(orphan(), call_id=b"call-%d" % number, routes=[])
        stage.hang_up(replace(lost, call_id=CallId(f"c{number}")))
    for bye in reversed(stage.take(CALLER)):
        assert header_of(bye, "CSeq") == "1073741824 BYE"
        stage.send(response(bye, 200))
    assert stage.settled == ["c2", "c1", "c0"]
