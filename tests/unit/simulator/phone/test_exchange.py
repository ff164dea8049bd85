"""The exchange behind the telephone: what it answers to whoever is dialled there."""

from simulator.phone.exchange import response
from simulator.phone.speaking import cough

INVITE = (
    b"INVITE sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\n"
    b"Call-ID: 1\r\nCSeq: 1 INVITE\r\nContent-Length: 5\r\n\r\nv=0\r\n"
)


def test_who_answers_takes_the_offer_as_it_is() -> None:
    head, _, body = response(INVITE, 200, "127.0.0.1:5999").partition(b"\r\n\r\n")
    assert head.startswith(b"SIP/2.0 200 ")
    assert b"To: <sip:b@h>;tag=exchange" in head
    assert b"Content-Type: application/sdp" in head
    assert body == b"v=0\r\n"


def test_who_is_busy_says_so_without_media() -> None:
    head, _, body = response(INVITE, 486, "127.0.0.1:5999").partition(b"\r\n\r\n")
    assert head.startswith(b"SIP/2.0 486 ")
    assert head.endswith(b"Content-Length: 0")
    assert body == b""


def test_a_cough_is_as_long_as_wanted_and_always_the_same() -> None:
    assert len(cough(250)) == 2000
    assert (cough(250) == cough(250)).all()
