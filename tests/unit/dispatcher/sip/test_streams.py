"""Callers on TCP and TLS: their connections, the two Record-Routes, and what is sent again and what is not."""

import pytest

from dispatcher.sip.actions import Address, Orphan
from dispatcher.sip.message import MAX_BYTES, Request, parse
from shared.ids import call_id_for
from shared.messages import Dialog
from tests.unit.dispatcher.ladder import (
    CALLER,
    PROXY,
    SECOND,
    SHARED,
    WORKERS,
    Stage,
    contact_of,
    header_of,
    invite,
    request,
    response,
)

STREAMS = (Address("tcp", "10.0.0.1", 5060), Address("tls", "10.0.0.1", 5061))
OVER_TCP = Address("tcp", "192.0.2.10", 40_001, 5060)
"""A connection from port 40001, of a peer that listens on 5060."""
OVER_TLS = Address("tls", "192.0.2.10", 40_002, 5061)
OTHER_PEER = "192.0.2.77"

both = pytest.mark.parametrize("caller", [OVER_TCP, OVER_TLS])


def stage() -> Stage:
    return Stage(streams=STREAMS)


def ring(scene: Stage, caller: Address, **changes: object) -> bytes:
    """The caller's INVITE gets to w1; returns it as it got there."""
    scene.send(invite(source=caller, **changes), caller.connection)
    scene.place("w1")
    return scene.one("w1")


def answered(scene: Stage, caller: Address, **changes: object) -> list[str]:
    """A call is answered by w1; returns the Record-Routes that both sides have, the worker's first."""
    answer = response(ring(scene, caller, **changes), 200)
    scene.worker_sends("w1", answer)
    scene.take(caller)
    return record_routes(answer)


def record_routes(data: bytes) -> list[str]:
    message = parse(data)
    assert message
    return [value.decode() for value in message.values(b"record-route")]


def from_caller(method: str, caller: Address, routes: list[str], branch: str = "z9hG4bKlater") -> bytes:
    headers = (f"Route: {', '.join(reversed(routes))}",)
    uri = "sip:w1@10.0.1.1:5070"
    return request(method, uri, source=caller, branch=branch, to_tag="worker", cseq=2, headers=headers)


def from_worker(method: str, uri: str, routes: list[str]) -> bytes:
    headers = (f"Route: {', '.join(routes)}",)
    return request(
        method, uri, branch="z9hG4bKw", source=WORKERS["w1"], from_tag="worker", to_tag="caller", headers=headers
    )


@both
def test_a_call_is_answered_over_the_connection_it_came_on(caller: Address) -> None:
    scene = stage()
    offered = ring(scene, caller)
    for status in (180, 200):
        scene.worker_sends("w1", response(offered, status))
    assert scene.got(caller) == ["180 INVITE", "200 INVITE"]


@both
def test_without_that_connection_answers_go_to_the_port_of_the_via(caller: Address) -> None:
    scene = stage()
    scene.worker_sends("w1", response(ring(scene, caller), 200))
    (sent,) = scene.sent
    assert sent.to == caller
    assert sent.to.listener == Address(caller.transport, caller.host, caller.listens)


def test_a_via_without_a_port_means_that_of_its_transport() -> None:
    scene = stage()
    data = request("OPTIONS", source=OVER_TLS).replace(b"192.0.2.10:5061;branch", b"192.0.2.10;branch")
    scene.send(data, OVER_TLS.connection)
    assert scene.sent[0].to == OVER_TLS


def test_each_side_gets_a_record_route_of_its_own_transport() -> None:
    assert [each.partition("@")[2] for each in answered(stage(), OVER_TCP)] == [
        "10.0.0.1:5060;lr>",
        "10.0.0.1:5060;transport=tcp;lr>",
    ]
    assert [each.partition("@")[2] for each in answered(stage(), OVER_TLS)] == [
        "10.0.0.1:5060;lr>",
        "10.0.0.1:5061;transport=tls;lr>",
    ]
    assert [each.partition("@")[2] for each in answered(stage(), CALLER)] == ["10.0.0.1:5060;lr>"]


def test_the_worker_is_reached_over_udp() -> None:
    message = parse(ring(stage(), OVER_TLS))
    assert isinstance(message, Request)
    ours, callers = message.values(b"via")
    assert ours.startswith(b"SIP/2.0/UDP 10.0.0.1:5060;")
    assert callers.startswith(b"SIP/2.0/TLS 192.0.2.10:5061;")


def test_a_caller_in_line_is_told_where_its_transport_is_spoken() -> None:
    scene = stage()
    scene.send(invite(source=OVER_TLS), OVER_TLS.connection)
    scene.waiting()
    assert header_of(scene.one(OVER_TLS), "Contact") == "<sip:10.0.0.1:5061;transport=tls>"


@both
def test_the_callers_ack_and_bye_pass_both_routes(caller: Address) -> None:
    scene = stage()
    routes = answered(scene, caller)
    scene.send(from_caller("ACK", caller, routes, "z9hG4bKack"), caller.connection)
    scene.send(from_caller("BYE", caller, routes), caller.connection)
    ack, bye = scene.take("w1")
    for data in (ack, bye):
        message = parse(data)
        assert isinstance(message, Request)
        assert (message.target, message.routes) == (b"sip:w1@10.0.1.1:5070", [])
    scene.worker_sends("w1", response(bye, 200))
    assert scene.got(caller) == ["200 BYE"]


@both
def test_the_workers_bye_goes_over_the_callers_connection(caller: Address) -> None:
    scene = stage()
    routes = answered(scene, caller)
    scene.worker_sends("w1", from_worker("BYE", contact_of(caller), routes))
    (sent,) = scene.sent
    assert sent.to == caller
    bye = parse(scene.one(caller))
    assert isinstance(bye, Request)
    assert (bye.target, bye.routes) == (contact_of(caller).encode(), [])
    assert bye.values(b"via")[0].startswith(b"SIP/2.0/%b 10.0.0.1:" % caller.transport.upper().encode())


@both
def test_another_replica_is_told_where_the_caller_listens(caller: Address) -> None:
    routes = answered(stage(), caller)
    second = Stage(address=SECOND, streams=tuple(each._replace(host=SECOND.host) for each in STREAMS))
    second.worker_sends("w1", from_worker("BYE", contact_of(caller), routes))
    assert [send.to.listener for send in second.sent] == [Address(caller.transport, caller.host, caller.listens)]
    second.send(response(second.one(caller), 200), caller.listener)
    assert second.got("w1") == ["200 BYE"]


@pytest.mark.parametrize(
    ("caller", "contact", "listens"),
    [
        (OVER_TCP, "sip:alice@pbx.example.com", 5060),
        (OVER_TCP, "sip:alice@pbx.example.com:5070", 5070),
        (OVER_TCP, "sip:alice@192.0.2.10:5070;transport=udp", 5060),
        (OVER_TCP, "sip:alice@192.0.2.10:5070", 5070),
        (OVER_TLS, "sip:alice@sbc.example.com", 5061),
        (OVER_TLS, "sip:alice@sbc.example.com:5067;transport=TLS", 5067),
        (OVER_TLS, "sip:alice@192.0.2.10:5060", 5061),
        (OVER_TLS, "sip:alice@192.0.2.10:5067", 5067),
        (OVER_TLS, "tel:+4930123456", 5061),
    ],
)
def test_the_contact_says_at_which_port_a_caller_without_connection_listens(
    caller: Address, contact: str, listens: int
) -> None:
    scene = stage()
    routes = answered(scene, caller)
    scene.worker_sends("w1", from_worker("BYE", contact, routes))
    assert [send.to for send in scene.sent] == [caller._replace(listens=listens)]


def test_a_route_to_another_allowed_peer_is_followed() -> None:
    scene = stage()
    routes = answered(scene, OVER_TCP)
    scene.worker_sends("w1", from_worker("BYE", "sip:alice@172.16.5.5", [*routes, f"<sip:{OTHER_PEER};lr>"]))
    assert [send.to for send in scene.sent] == [Address("udp", OTHER_PEER, 5060)]


@pytest.mark.parametrize(
    ("route", "to"),
    [
        (f"<sip:{OTHER_PEER};transport=tls;lr>", Address("tls", OTHER_PEER, 5061)),
        (f"<sip:{OTHER_PEER};lr>", OVER_TLS),
        (f"<sip:{OTHER_PEER};transport=tcp;lr>", OVER_TLS),
    ],
)
def test_what_came_over_tls_leaves_it_for_nothing_else(route: str, to: Address) -> None:
    scene = stage()
    routes = answered(scene, OVER_TLS)
    scene.worker_sends("w1", from_worker("BYE", "sip:alice@172.16.5.5", [*routes, route]))
    assert [send.to for send in scene.sent] == [to]


def test_a_transport_that_is_not_spoken_here_is_not_tried() -> None:
    scene = Stage()
    scene.worker_sends("w1", from_worker("BYE", "sip:alice@192.0.2.10;transport=tcp", ["<sip:10.0.0.1;lr>"]))
    assert scene.got("w1") == ["481 BYE"]


def test_nothing_is_repeated_to_a_caller_on_a_connection() -> None:
    scene = stage()
    scene.send(invite(source=OVER_TCP), OVER_TCP.connection)
    scene.no_room()
    scene.wait(31.0)
    assert scene.got(OVER_TCP) == ["503 INVITE"]
    scene.wait(2.0)
    assert (scene.proxy.transactions, scene.proxy.wakes_at()) == (0, None)


def test_an_acknowledged_refusal_is_forgotten_at_once() -> None:
    scene = stage()
    scene.send(invite(source=OVER_TCP), OVER_TCP.connection)
    scene.no_room()
    scene.send(request("ACK", source=OVER_TCP, to_tag="x"), OVER_TCP.connection)
    scene.wait(0.0)
    assert scene.proxy.transactions == 0


def test_the_workers_request_is_repeated_to_nobody_and_given_up_in_time() -> None:
    scene = stage()
    routes = answered(scene, OVER_TCP)
    scene.worker_sends("w1", from_worker("INFO", contact_of(OVER_TCP), routes))
    scene.wait(31.0)
    assert scene.got(OVER_TCP) == ["INFO"]
    scene.wait(40.0)
    assert scene.proxy.transactions == 0


def test_a_request_whose_connection_closed_is_sent_again_once() -> None:
    scene = stage()
    routes = answered(scene, OVER_TCP)
    scene.worker_sends("w1", from_worker("BYE", contact_of(OVER_TCP), routes))
    first = scene.one(OVER_TCP)
    scene.disconnected(OVER_TCP.connection)
    (again,) = scene.sent
    assert (again.data, again.to) == (first, OVER_TCP)
    scene.disconnected(OVER_TCP.listener)
    assert scene.got("w1") == ["481 BYE"]


def test_a_request_that_somebody_works_on_is_not_sent_again() -> None:
    scene = stage()
    routes = answered(scene, OVER_TCP)
    scene.worker_sends("w1", from_worker("INVITE", contact_of(OVER_TCP), routes))
    reinvite = scene.one(OVER_TCP)
    scene.send(response(reinvite, 100), OVER_TCP.connection)
    scene.disconnected(OVER_TCP.connection)
    assert scene.take(OVER_TCP) == []
    scene.send(response(reinvite, 200), Address("tcp", OVER_TCP.host, 40_009))
    assert scene.got("w1") == ["100 INVITE", "200 INVITE"]


def test_the_end_of_another_connection_changes_nothing() -> None:
    scene = stage()
    routes = answered(scene, OVER_TCP)
    scene.worker_sends("w1", from_worker("BYE", contact_of(OVER_TCP), routes))
    scene.take(OVER_TCP)
    scene.disconnected(OVER_TCP.connection._replace(port=40_009))
    scene.disconnected(CALLER)
    assert scene.sent == []


def test_a_caller_who_cannot_be_connected_to_is_gone() -> None:
    scene = stage()
    routes = answered(scene, OVER_TCP)
    scene.worker_sends("w1", from_worker("BYE", contact_of(OVER_TCP), routes))
    scene.unreachable(scene.sent[0].to)
    assert scene.got("w1") == ["481 BYE"]


def test_a_call_whose_connection_closed_while_it_rang_is_answered_all_the_same() -> None:
    scene = stage()
    offered = ring(scene, OVER_TCP)
    scene.disconnected(OVER_TCP.connection)
    scene.worker_sends("w1", response(offered, 200))
    assert [send.to for send in scene.sent] == [OVER_TCP]


@both
def test_the_bye_for_a_dead_worker_goes_to_where_the_caller_listens(caller: Address) -> None:
    offered = parse(ring(stage(), caller))
    assert offered
    dialog = Dialog(
        call_id=offered.call_id,
        local=offered.first[b"to"] + b";tag=worker",
        remote=offered.first[b"from"],
        target=contact_of(caller).encode(),
        routes=offered.values(b"record-route"),
    )
    scene = stage()
    scene.hang_up(Orphan(call_id_for("call-1", "caller"), dialog, caller.host))
    assert [send.to for send in scene.sent] == [caller]
    assert scene.sent[0].data.split(b"\r\n")[1].startswith(b"Via: SIP/2.0/%b " % caller.transport.upper().encode())
    scene.send(response(scene.one(caller), 200), caller.connection)
    assert scene.settled == [call_id_for("call-1", "caller")]


def test_a_shared_address_stands_in_both_record_routes() -> None:
    scene = Stage(streams=STREAMS, shared=SHARED)
    assert [each.partition("@")[2] for each in answered(scene, OVER_TLS)] == [
        "10.0.0.100:5060;lr>",
        "10.0.0.100:5061;transport=tls;lr>",
    ]


def test_the_copy_of_an_answer_finds_the_callers_port_and_names_this_replica() -> None:
    first = stage()
    answer = response(ring(first, OVER_TCP), 200)
    second = Stage(address=SECOND, streams=tuple(each._replace(host=SECOND.host) for each in STREAMS))
    second.worker_sends("w1", answer)
    (sent,) = second.sent
    assert sent.to.listener == OVER_TCP.listener
    assert [each.partition("@")[2] for each in record_routes(sent.data)] == [
        "10.0.0.2:5060;lr>",
        "10.0.0.2:5060;transport=tcp;lr>",
    ]


def test_one_that_came_round_over_another_transport_is_a_loop() -> None:
    scene = stage()
    looped = invite(source=OVER_TCP).replace(
        b"\r\nFrom:", b"\r\nVia: SIP/2.0/TLS 10.0.0.1:5061;branch=z9hG4bKours\r\nFrom:"
    )
    scene.send(looped, OVER_TCP.connection)
    assert scene.take(OVER_TCP)[0].startswith(b"SIP/2.0 482 ")


def test_a_request_that_is_too_long_is_told_so() -> None:
    scene = stage()
    long = invite(source=OVER_TCP, headers=("X: " + "y" * 2000,)) + b"z" * MAX_BYTES
    scene.send(long[: MAX_BYTES + 1], OVER_TCP.connection)
    assert scene.take(OVER_TCP)[0].startswith(b"SIP/2.0 513 Message Too Large\r\n")
    assert scene.places == []
    scene.send(long[: MAX_BYTES + 1], CALLER)
    assert scene.sent == []


@pytest.mark.parametrize("start", [b"", b"ACK sip:a SIP/2.0\r\n", b"SIP/2.0 200 OK\r\n", b"INVITE sip:a SIP/2.0\r\n"])
def test_what_is_too_long_and_no_request_is_told_nothing(start: bytes) -> None:
    scene = stage()
    scene.send(start + b"X: y\r\n\r\n" + b"z" * MAX_BYTES, OVER_TCP.connection)
    assert scene.sent == []
    assert scene.events() == ["sip.malformed"]


def test_a_caller_on_a_connection_is_redirected_too() -> None:
    scene = Stage(streams=STREAMS, redirect=True)
    scene.send(invite(source=OVER_TCP), OVER_TCP.connection)
    scene.place("w1")
    assert scene.take(OVER_TCP)[0].startswith(b"SIP/2.0 302 ")


def test_who_may_connect_is_who_may_send() -> None:
    proxy = stage().proxy
    assert proxy.is_peer(CALLER.host)
    assert not proxy.is_peer(PROXY.host)
