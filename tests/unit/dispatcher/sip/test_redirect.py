"""New calls in redirect mode: 302 with the worker's address and the lease token."""

from tests.unit.dispatcher.ladder import CALLER, Stage, header_of, invite, request


def test_the_caller_is_sent_to_the_worker_with_the_token_in_the_only_contact() -> None:
    stage = Stage(redirect=True)
    stage.send(invite())
    stage.place("w1")
    answer = stage.one(CALLER)
    assert answer.startswith(b"SIP/2.0 302 Moved Temporarily\r\n")
    assert answer.count(b"\r\nContact:") == 1
    assert header_of(answer, "Contact") == "<sip:100@10.0.1.1:5070;voicepool-lease=token-w1>"
    assert stage.got("w1") == []


def test_the_302_is_repeated_until_the_ack() -> None:
    stage = Stage(redirect=True)
    stage.send(invite())
    stage.take(CALLER)
    stage.place("w1")
    answer = stage.one(CALLER)
    stage.wait(1.6)
    assert stage.take(CALLER) == [answer, answer]
    stage.send(request("ACK", to_tag=header_of(answer, "To").partition("tag=")[2]))
    stage.wait(30.0)
    assert stage.take(CALLER) == []
    assert (stage.proxy.transactions, stage.released) == (0, [])


def test_a_retransmitted_invite_gets_the_same_worker() -> None:
    stage = Stage(redirect=True)
    stage.send(invite())
    stage.take(CALLER)
    stage.place("w1")
    answer = stage.one(CALLER)
    stage.send(invite())
    assert stage.take(CALLER) == [answer]
    assert stage.places == []


def test_cancel_before_the_302_gives_the_lease_back() -> None:
    stage = Stage(redirect=True)
    stage.send(invite())
    stage.send(request("CANCEL"))
    stage.place("w1")
    assert stage.got(CALLER) == ["200 CANCEL", "487 INVITE"]
    assert stage.released == ["lease-w1"]
