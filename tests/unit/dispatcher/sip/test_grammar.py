"""Pieces of header values: lists, parameters, addresses, Via, CSeq, URIs."""

import pytest

from dispatcher.sip.grammar import Malformed, parameter, parse_cseq, parse_host_port, parse_via, split, tag_of
from dispatcher.sip.uri import parse_uri, retarget


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        (b"a", [b"a"]),
        (b"<sip:a>, <sip:b>", [b"<sip:a>", b"<sip:b>"]),
        (b'"x, y" <sip:a;p=1,2>,<sip:b>', [b'"x, y" <sip:a;p=1,2>', b"<sip:b>"]),
        (b'"quote \\" , inside" <sip:a>,b', [b'"quote \\" , inside" <sip:a>', b"b"]),
        (b'<sip:a>;x="1,2",b', [b'<sip:a>;x="1,2"', b"b"]),
        (b"", [b""]),
    ],
)
def test_lists_are_split_outside_quotes_and_brackets(value: bytes, parts: list[bytes]) -> None:
    assert split(value, b",") == parts


def test_a_quote_that_never_closes_is_malformed() -> None:
    with pytest.raises(Malformed):
        split(b'"a, <b>\\', b",")


@pytest.mark.parametrize(
    ("params", "value"),
    [
        (b";lr", b""),
        (b";a=1; LR = yes", b"yes"),
        (b";x=lr", None),
        (b';x=";lr=fake";lr=real', b"real"),
        (b"", None),
    ],
)
def test_parameters_are_found_whatever_their_case_and_spacing(params: bytes, value: bytes | None) -> None:
    assert parameter(params, b"lr") == value


@pytest.mark.parametrize(
    ("value", "tag"),
    [
        (b"<sip:a@b>;tag=x", b"x"),
        (b"<sip:a@b;tag=uri>", b""),
        (b"sip:a@b;tag=x", b"x"),
        (b'"a;tag=fake<>" <sip:a@b>;y=1;TAG = x', b"x"),
        (b'"a \\" <b>" <sip:a@b>', b""),
    ],
)
def test_the_tag_is_that_of_the_header_not_of_the_uri_or_name(value: bytes, tag: bytes) -> None:
    assert tag_of(value) == tag


def test_via_gives_what_routing_needs() -> None:
    via = parse_via(b"SIP/2.0/UDP pbx_1.example.com:5062;rport;branch=z9hG4bKx")
    assert (via.transport, via.host, via.port, via.branch) == (b"UDP", "pbx_1.example.com", 5062, b"z9hG4bKx")


def test_via_may_be_spaced_out() -> None:
    via = parse_via(b"SIP  /  2.0 / UDP   first.example.com : 4000 ;ttl=16 ; branch = z9hG4bKx")
    assert (via.transport, via.host, via.port, via.branch) == (b"UDP", "first.example.com", 4000, b"z9hG4bKx")


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"SIP/2.0/UDP",
        b"SIP/2.0/UDP ",
        b"SIP/3.0/UDP a",
        b"SIP/2.0/UDP a:0",
        b"SIP/2.0/U@ a",
    ],
)
def test_a_via_that_leads_nowhere_is_malformed(value: bytes) -> None:
    with pytest.raises(Malformed):
        parse_via(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"Example.COM", ("example.com", None)),
        (b"10.0.0.1:5080", ("10.0.0.1", 5080)),
        (b"[2001:DB8::1]", ("2001:db8::1", None)),
        (b"[2001:db8::1]:5080", ("2001:db8::1", 5080)),
    ],
)
def test_hosts_and_ports(value: bytes, expected: tuple[str, int | None]) -> None:
    assert parse_host_port(value) == expected


@pytest.mark.parametrize("value", [b"", b":5060", b"[::1", b"[::1]x", b"[::g]", b"a b", b"a:", b"a:x", b"a:65536"])
def test_broken_hosts_are_malformed(value: bytes) -> None:
    with pytest.raises(Malformed):
        parse_host_port(value)


def test_cseq_is_a_number_and_a_method() -> None:
    assert parse_cseq(b"0009   INVITE") == (9, b"INVITE")
    for value in (b"", b"1", b"INVITE 1", b"-1 INVITE", b"2147483648 INVITE", b"1 INVITE x"):
        with pytest.raises(Malformed):
            parse_cseq(value)


def test_a_uri_is_taken_apart() -> None:
    uri = parse_uri(b"sip:user;par=u%40x:secret@Example.com:5070;transport=udp;lr?Subject=hi")
    assert (uri.user, uri.host, uri.port, uri.loose) == (b"user;par=u%40x:secret", "example.com", 5070, True)


@pytest.mark.parametrize("value", [b"", b"sip", b"sip:", b":x", b"sip:@host", b"sip:a@b@c", b"sip:a b@c", b"<sip:a@c>"])
def test_broken_uris_are_malformed(value: bytes) -> None:
    with pytest.raises(Malformed):
        parse_uri(value)


@pytest.mark.parametrize(
    ("value", "target"),
    [
        (b"sip:+4930123@sbc.example.com;user=phone", b"sip:+4930123@10.0.1.1:5070"),
        (b"sip:sbc.example.com", b"sip:10.0.1.1:5070"),
        (b"tel:+49-30-123;phone-context=x", b"sip:+49-30-123;phone-context=x@10.0.1.1:5070;user=phone"),
    ],
)
def test_a_retargeted_uri_keeps_its_user(value: bytes, target: bytes) -> None:
    assert retarget(parse_uri(value), "10.0.1.1", 5070) == target


def test_an_ipv6_host_gets_its_brackets() -> None:
    assert retarget(parse_uri(b"sip:a@b"), "2001:db8::1", 5070) == b"sip:a@[2001:db8::1]:5070"
