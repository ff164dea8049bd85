"""What the proxy answers itself, what it refuses, and its bounds."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.dispatcher.ladder import CALLER, STRANGER, Stage, header_of, invite, request

INVALID = sorted((Path(__file__).parents[3] / "data" / "sip" / "invalid").glob("*.sip"))


def test_there_are_invalid_messages() -> None:
    assert len(INVALID) >= 50


@pytest.mark.parametrize("path", INVALID, ids=lambda path: path.stem)
def test_an_invalid_message_gets_the_answer_in_its_name_or_none(path: Path) -> None:
    stage = Stage()
    stage.send(path.read_bytes())
    while stage.finds:
        stage.not_found()
    outcome = path.stem.partition("-")[0]
    assert [send.data.split(b" ")[1].decode() for send in stage.sent] == ([] if outcome == "drop" else [outcome])
    assert {send.to for send in stage.sent} <= {CALLER}
    stage.wait(32.0)
    assert (stage.proxy.transactions, stage.places) == (0, [])
    stage.send(invite())
    assert len(stage.places) == 1


@settings(deadline=None)
@given(st.binary(max_size=300), st.booleans())
def test_no_datagram_is_answered_to_anybody_but_its_sender(noise: bytes, grafted: bool) -> None:
    stage = Stage()
    stage.send(invite()[:200] + noise + invite()[220:] if grafted else noise)
    assert {send.to.host for send in stage.sent} <= {CALLER.host}


def test_options_says_whether_calls_find_room() -> None:
    stage = Stage()
    stage.send(request("OPTIONS"))
    answer = stage.one(CALLER)
    assert answer.startswith(b"SIP/2.0 200 OK\r\n")
    assert "INVITE" in header_of(answer, "Allow")
    stage.proxy.open = False
    stage.send(request("OPTIONS"))
    answer = stage.one(CALLER)
    assert answer.startswith(b"SIP/2.0 503 ")
    assert header_of(answer, "Retry-After") == ""
    assert stage.proxy.transactions == 0


def test_a_draining_dispatcher_refuses_options_and_calls_but_carries_dialogs() -> None:
    stage = Stage()
    stage.proxy.draining = True
    stage.send(request("OPTIONS"))
    stage.send(invite())
    stage.send(request("BYE", "sip:w1@10.0.1.1:5070", to_tag="worker", branch="z9hG4bKbye"))
    assert stage.got(CALLER) == ["503 OPTIONS", "503 INVITE"]
    assert stage.got("w1") == ["BYE"]


@pytest.mark.parametrize("method", ["REGISTER", "MESSAGE", "SUBSCRIBE", "PUBLISH", "REFER", "NOTIFY", "MADE-UP"])
def test_other_methods_outside_a_dialog_are_not_allowed(method: str) -> None:
    stage = Stage()
    stage.send(request(method))
    answer = stage.one(CALLER)
    assert answer.startswith(b"SIP/2.0 405 ")
    assert header_of(answer, "Allow") == "INVITE, ACK, CANCEL, BYE, OPTIONS"


def test_answers_carry_the_senders_headers_and_a_tag_that_does_not_change() -> None:
    stage = Stage()
    stage.send(request("REGISTER"))
    stage.send(request("REGISTER"))
    first, second = stage.take(CALLER)
    assert first == second
    assert header_of(first, "Via").startswith("SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bKcaller1;rport=5060")
    assert header_of(first, "CSeq") == "1 REGISTER"
    assert len(header_of(first, "To").partition(";tag=")[2]) == 16


def test_the_extensions_we_lack_are_named() -> None:
    stage = Stage()
    stage.send(invite(headers=("Proxy-Require: foo, bar",)))
    assert header_of(stage.one(CALLER), "Unsupported") == "foo, bar"


def test_a_stranger_gets_no_answer_at_all() -> None:
    stage = Stage()
    for data in (invite(), request("OPTIONS"), b"garbage", request("CANCEL")):
        stage.send(data, STRANGER)
    assert (stage.sent, stage.places) == ([], [])
    assert stage.events() == ["sip.source_refused"] * 4


def test_a_worker_is_heard_although_it_is_in_no_allowed_network() -> None:
    stage = Stage()
    stage.worker_sends("w1", request("OPTIONS"))
    assert stage.got("w1") == ["200 OPTIONS"]


def test_a_malformed_message_is_reported_without_its_content() -> None:
    stage = Stage()
    stage.send(invite(headers=("Max-Forwards: sip:+4930123456@secret",)))
    (report,) = stage.reports
    assert report.event == "sip.malformed"
    assert report.fields == {"source": CALLER.host, "reason": "Max-Forwards"}


def test_an_ack_that_belongs_nowhere_is_never_answered() -> None:
    stage = Stage()
    stage.send(request("ACK", to_tag="x"))
    stage.send(request("ACK"))
    stage.send(request("ACK", to_tag="x", headers=("Max-Forwards: nonsense",)))
    stage.send(request("ACK", "sip:w1@10.0.1.1:5070", to_tag="x", headers=("Max-Forwards: 0",)))
    assert stage.sent == []


def test_one_source_gets_its_rate_of_calls_and_no_more() -> None:
    stage = Stage(invite_rate=2.0)
    for number in range(4):
        stage.send(invite(branch=f"z9hG4bK{number}", call_id=f"call-{number}"))
    assert stage.got(CALLER) == ["503 INVITE", "503 INVITE"]
    stage.wait(0.5)
    stage.take(CALLER)
    stage.send(invite(branch="z9hG4bKlater", call_id="call-later"))
    assert (stage.got(CALLER), len(stage.places)) == ([], 3)


def test_retransmissions_do_not_count_as_calls() -> None:
    stage = Stage(invite_rate=1.0)
    for _ in range(5):
        stage.send(invite())
    assert (stage.got(CALLER), len(stage.places)) == ([], 1)


def test_a_refusal_for_the_rate_keeps_nothing() -> None:
    stage = Stage(invite_rate=1.0)
    stage.send(invite())
    before = stage.proxy.transactions
    stage.send(invite(branch="z9hG4bK2", call_id="call-2"))
    assert stage.proxy.transactions == before


def test_beyond_its_transactions_it_refuses_calls_without_keeping_anything() -> None:
    stage = Stage(max_transactions=4)
    for number in range(6):
        stage.send(invite(branch=f"z9hG4bK{number}", call_id=f"call-{number}"))
    assert stage.got(CALLER) == ["503 INVITE"] * 2
    assert stage.proxy.transactions == 4
    stage.send(request("BYE", "sip:w1@10.0.1.1:5070", to_tag="worker", branch="z9hG4bKbye"))
    assert stage.got("w1") == ["BYE"]
    stage.send(request("BYE", "sip:w1@10.0.1.1:5070", to_tag="worker", branch="z9hG4bKbye2"))
    assert stage.got(CALLER) == ["503 BYE"]


def test_a_peer_of_rfc_2543_without_branches_is_served() -> None:
    stage = Stage()
    old = invite().replace(b"branch=z9hG4bKcaller1;", b"")
    stage.send(old)
    stage.send(old)
    assert len(stage.places) == 1
    stage.take(CALLER)
    stage.no_room()
    refusal = stage.one(CALLER)
    ack = request("ACK", to_tag=header_of(refusal, "To").partition("tag=")[2]).replace(b"branch=z9hG4bKcaller1;", b"")
    stage.send(ack)
    stage.wait(4.0)
    assert stage.got(CALLER) == []


def test_an_offer_nobody_asked_for_is_given_back() -> None:
    stage = Stage()
    stage.send(invite())
    place = stage.places[0]
    stage.place("w1")
    stage.places.append(place)
    stage.place("w2")
    assert stage.got("w2") == []
    assert stage.released == ["lease-w2"]
