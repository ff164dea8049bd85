"""What is read from an INVITE's text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.agents.parties import MAX_HEADER_CHARS, MAX_HEADERS, user_part
from shared.errors import PeerError
from shared.ids import call_id_for
from shared.messages import Dialog
from worker.pjsip.invite import answered, offered_codec, parse

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


@pytest.mark.parametrize(
    ("address", "user"),
    [
        ("sip:+4930123;ext=1@sbc.example.com;user=phone", "+4930123"),
        ('"Smith, <A>" <sips:alice:secret@example.com>;tag=1', "alice"),
        ("<sip:a%3Bb%40c@example.com>", "a;b@c"),
        ("<tel:+49-30-123;phone-context=example.com>", "+49-30-123"),
        ("tel:110", "110"),
        ("TEL:+1555, <sip:other@example.com>", "+1555"),
        ("<sip:+1555@example.com>, <tel:+1556>", "+1555"),
        ("sip:gateway.example.com", ""),
        ("<sip:%0D%0AX@example.com>", "X"),
        ("<urn:service:sos>", ""),
        ("", ""),
    ],
)
def test_the_user_part_is_the_number_without_parameters_and_escapes(address: str, user: str) -> None:
    assert user_part(address) == user


def test_the_called_number_is_that_of_the_request_uri() -> None:
    head = ["INVITE sip:+4930123;user=phone@192.0.2.1:5070 SIP/2.0", *HEAD[1:]]
    assert parse(message(head)).called == "+4930123"


def test_without_a_user_in_the_request_uri_the_called_number_is_that_of_to() -> None:
    head = ["INVITE sip:192.0.2.1:5070 SIP/2.0", *HEAD[1:]]
    assert parse(message(head)).called == "bot"


def test_the_asserted_identity_goes_before_from() -> None:
    assert parse(message(HEAD)).caller == "alice"
    asserted = "P-Asserted-Identity: <sip:+4930999@sbc.example.com>, <tel:+4930999>"
    assert parse(message([*HEAD, asserted])).caller == "+4930999"


@pytest.mark.parametrize("privacy", ["id", "header;id", "critical; user"])
def test_a_caller_who_asks_for_privacy_is_not_known(privacy: str) -> None:
    head = [*HEAD, "P-Asserted-Identity: <tel:+4930999>", f"Privacy: {privacy}"]
    assert parse(message(head)).caller == ""


def test_a_caller_whose_privacy_is_none_is_known() -> None:
    assert parse(message([*HEAD, "Privacy: none"])).caller == "alice"


def test_an_anonymous_caller_is_not_known() -> None:
    head = [*HEAD[:2], 'From: "Anonymous" <sip:Anonymous@anonymous.invalid>;tag=abc123', *HEAD[3:]]
    assert parse(message(head)).caller == ""


def test_headers_come_by_their_long_names_first_occurrence_only_and_without_the_lease() -> None:
    head = [*HEAD, "s: hello", "X-Account: 1", "x-account: 2"]
    headers = parse(message(head)).headers
    assert (headers["subject"], headers["x-account"]) == ("hello", "1")
    assert "x-voicepool-lease" not in headers
    with pytest.raises(TypeError):
        headers["subject"] = "changed"  # type: ignore[index]


def test_headers_are_bounded_in_number_and_length() -> None:
    head = [*HEAD[:2], "X-Long: " + "x" * 2000, *HEAD[2:], *(f"X-{number}: {number}" for number in range(100))]
    headers = parse(message(head)).headers
    assert len(headers) == MAX_HEADERS
    assert len(headers["x-long"]) == MAX_HEADER_CHARS


def test_an_invite_that_is_printed_shows_no_number() -> None:
    shown = repr(parse(message(HEAD)))
    assert "alice" not in shown and "bot" not in shown


@given(st.text(max_size=300))
def test_any_text_has_a_printable_user_part_or_none(text: str) -> None:
    assert user_part(text) == "" or user_part(text).isprintable()


@given(st.text(max_size=300))
def test_arbitrary_text_is_refused_or_read(text: str) -> None:
    try:
        parse(text)
    except PeerError as error:
        assert error.sip_status in (400, 488)


ROUTED = [
    *HEAD,
    'm: "Alice, at home <here>" <sip:alice@192.0.2.9:5062;transport=udp>;q=0.5, <sip:other@192.0.2.8>',
    "Record-Route: <sip:token@192.0.2.2;lr>, <sip:sbc,1@192.0.2.9;lr>",
    "Record-Route: <sip:192.0.2.10;lr>",
]


def test_an_invite_says_what_a_bye_needs_as_it_stands() -> None:
    invite = parse(message(ROUTED))
    dialog = answered(
        invite.dialog, b"SIP/2.0 200 OK\r\nTo: <sip:bot@192.0.2.1>;tag=w\r\nContact: <sip:w>\r\n\r\nv=0\r\n"
    )
    assert dialog == Dialog(
        call_id=b"12@example.com",
        local=b"<sip:bot@192.0.2.1>;tag=w",
        remote=b'"Somebody; tag=no" <sip:alice@example.com;x=y>;tag=abc123',
        target=b"sip:alice@192.0.2.9:5062;transport=udp",
        routes=[b"<sip:token@192.0.2.2;lr>", b"<sip:sbc,1@192.0.2.9;lr>", b"<sip:192.0.2.10;lr>"],
    )


def test_bytes_that_are_no_utf_8_stay_what_they_are() -> None:
    name = b'"\xe9" <sip:a@h>;tag=1'
    head = [*HEAD[:2], "From: " + name.decode("utf-8", "surrogateescape"), *HEAD[3:]]
    assert parse(message(head)).dialog.remote == name


@pytest.mark.parametrize(
    ("contact", "target"),
    [
        ("sip:alice@h:5062", b"sip:alice@h:5062"),
        ("sip:alice@h;expires=60", b"sip:alice@h"),
        ("<sip:alice@h;lr>;expires=60", b"sip:alice@h;lr"),
        ('"a \\" <no>" <sip:alice@h>', b"sip:alice@h"),
        ('"never closed <sip:alice@h>', b"sip:alice@h"),
        ("", b""),
    ],
)
def test_the_target_is_the_uri_of_the_contact(contact: str, target: bytes) -> None:
    assert parse(message([*HEAD, f"Contact: {contact}"])).dialog.target == target


@pytest.mark.parametrize(
    ("via", "dispatcher"),
    [
        ("SIP/2.0/UDP 192.0.2.2:5070;branch=z9hG4bKx", ("192.0.2.2", 5070)),
        ("SIP/2.0/UDP 192.0.2.2;branch=z9hG4bKx, SIP/2.0/UDP 192.0.2.3:5070", ("192.0.2.2", 5060)),
        ("SIP / 2.0 / UDP  [2001:db8::1] : 5070;branch=z9hG4bKx", ("2001:db8::1", 5070)),
        ("SIP/2.0/UDP [2001:db8::1]:5070;branch=z9hG4bKx", ("2001:db8::1", 5070)),
        ("", None),
    ],
)
def test_the_dispatcher_is_who_sent_the_invite_on(via: str, dispatcher: tuple[str, int] | None) -> None:
    assert parse(message([HEAD[0], f"Via: {via}", *HEAD[2:]])).dispatcher == dispatcher


def test_a_redirected_invite_comes_through_no_dispatcher() -> None:
    head = ["INVITE sip:192.0.2.1:5070;voicepool-lease=abc-_1 SIP/2.0", *HEAD[1:5]]
    assert parse(message(head)).dispatcher is None


@pytest.mark.parametrize(
    ("route", "through"),
    [
        ("<sip:token@192.0.2.2;lr>", ("192.0.2.2", 5060)),
        ("<sip:token@192.0.2.2:5060;lr>", ("192.0.2.2", 5060)),
        ("<sip:token@192.0.2.100;lr>", None),
        ("<sip:192.0.2.2:5061;lr>", None),
    ],
)
def test_a_bye_goes_to_the_dispatchers_own_address_unless_they_share_one(
    route: str, through: tuple[str, int] | None
) -> None:
    assert parse(message([*HEAD, f"Record-Route: {route}"])).bye_through == through


@given(st.text(alphabet='"<>,;\\: sip@', max_size=200))
def test_any_contact_and_route_can_be_read(text: str) -> None:
    invite = parse(message([*HEAD, f"Contact: {text}", f"Record-Route: {text}"]))
    assert invite.bye_through in (None, invite.dispatcher)
