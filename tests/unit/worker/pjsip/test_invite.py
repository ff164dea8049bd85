"""What is read from an INVITE's text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import PeerError
from shared.ids import call_id_for
from worker.pjsip.invite import offered_codec, parse

HEAD = [
    "INVITE sip:bot@192.0.2.1:5070 SIP/2.0",
    "Via: SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bKx",
    'From: "Somebody; tag=no" <sip:alice@example.com;x=y>;tag=abc123',
    "To: <sip:bot@192.0.2.1>",
    "Call-ID: 12@example.com",
    "X-Voicepool-Lease: token-1",
]
OFFER = "v=0\r\nm=audio 4000 RTP/AVP 96 8 0 101\r\na=rtpmap:96 opus/48000/2\r\n"


def message(head: list[str], body: str = OFFER) -> str:
    return "\r\n".join(head) + "\r\n\r\n" + body


def test_an_invite_gives_call_id_token_and_codec() -> None:
    invite = parse(message(HEAD))
    assert invite.call_id == call_id_for("12@example.com", "abc123")
    assert invite.lease_token == "token-1"
    assert invite.codec == "PCMA"


def test_compact_and_folded_headers_are_read() -> None:
    head = ["INVITE sip:b@h SIP/2.0", "f: <sip:a@h>", " ;tag=abc123", "i: 12@example.com", "x-voicepool-lease:t"]
    invite = parse(message(head))
    assert (invite.call_id, invite.lease_token) == (call_id_for("12@example.com", "abc123"), "t")


def test_a_redirected_invite_carries_its_token_in_the_request_uri() -> None:
    head = ["INVITE sip:192.0.2.1:5070;voicepool-lease=abc-_1 SIP/2.0", *HEAD[1:5]]
    assert parse(message(head)).lease_token == "abc-_1"


def test_an_invite_without_a_token_has_an_empty_one() -> None:
    assert parse(message(HEAD[:5])).lease_token == ""


def test_an_invite_without_a_call_id_is_refused() -> None:
    with pytest.raises(PeerError) as refused:
        parse(message(HEAD[:4]))
    assert refused.value.sip_status == 400


@pytest.mark.parametrize(
    ("offer", "codec"),
    [
        ("m=audio 4000 RTP/AVP 0 8\r\n", "PCMU"),
        ("m=audio 4000 RTP/AVP 8 0\r\n", "PCMA"),
        ("m=video 4000 RTP/AVP 0\r\nm=audio 4002 RTP/SAVP 18 8\r\n", "PCMA"),
        ("", "PCMU"),
    ],
)
def test_the_first_g711_variant_offered_decides(offer: str, codec: str) -> None:
    assert offered_codec(offer) == codec


def test_an_offer_without_g711_is_not_acceptable() -> None:
    with pytest.raises(PeerError) as refused:
        offered_codec("v=0\r\nm=audio 4000 RTP/AVP 9 18\r\n")
    assert refused.value.sip_status == 488


@given(st.text(max_size=300))
def test_arbitrary_text_is_refused_or_read(text: str) -> None:
    try:
        parse(text)
    except PeerError as error:
        assert error.sip_status in (400, 488)
