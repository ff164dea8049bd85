"""Messages: what is accepted, what is refused, and that untouched bytes stay untouched."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.sip.actions import Address
from dispatcher.sip.grammar import Malformed
from dispatcher.sip.message import MAX_BYTES, MAX_HEADERS, BadRequest, Request, Response, parse, render
from tests.unit.dispatcher.ladder import CALLER, invite, request

TORTURE = Path(__file__).parents[3] / "data" / "sip"
VALID = sorted((TORTURE / "valid").glob("*.sip"))


def parsed(data: bytes) -> Request:
    message = parse(data)
    assert isinstance(message, Request)
    return message


def printed(message: Request | Response) -> bytes:
    start = b"%b %b SIP/2.0" % (message.method, message.target) if isinstance(message, Request) else message.start
    return render(start, message.headers, message.body)


def test_there_are_torture_messages() -> None:
    assert len(VALID) >= 15


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_a_tortuous_but_valid_message_is_accepted(path: Path) -> None:
    message = parse(path.read_bytes())
    assert message is not None
    assert message.via.host and message.call_id and message.cseq > 0


@pytest.mark.parametrize("path", VALID, ids=lambda path: path.stem)
def test_nothing_of_a_message_changes_but_bare_line_ends(path: Path) -> None:
    data = path.read_bytes().lstrip(b"\r\n")
    message = parse(data)
    assert message is not None
    head = data.replace(b"\r\n", b"\n").partition(b"\n\n")[0].replace(b"\n", b"\r\n")
    assert printed(message) == head + b"\r\n\r\n" + message.body
    assert message.body in data


def test_folded_headers_read_as_one_line() -> None:
    message = parsed((TORTURE / "valid" / "folded-and-compact.sip").read_bytes())
    assert (message.via.host, message.via.port, message.via.branch) == ("pbx1", 5062, b"z9hG4bK-folded")
    assert message.first[b"contact"] == b'"A \\"Quoted\\" Name" <sip:joe@192.0.2.10:5062>'
    assert (message.cseq, message.max_forwards, message.from_tag, message.to_tag) == (9, 68, b"98asjd8", b"")


def test_tags_in_quotes_are_no_tags() -> None:
    message = parsed((TORTURE / "valid" / "brackets-and-commas-in-quotes.sip").read_bytes())
    assert (message.from_tag, message.to_tag) == (b"real", b"")


def test_lists_run_over_lines() -> None:
    message = parsed((TORTURE / "valid" / "several-values-per-line.sip").read_bytes())
    assert len(message.values(b"via")) == 3
    assert message.values(b"route")[1:] == [b'<sip:192.0.2.2;lr>;x="a,b"', b"<sip:192.0.2.3:5080;lr>"]


def test_what_content_length_does_not_count_is_not_body() -> None:
    assert parsed((TORTURE / "valid" / "content-after-content-length.sip").read_bytes()).body == b"body"


@pytest.mark.parametrize("data", [b"", b"\r\n", b"\r\n\r\n", b"\n"])
def test_line_ends_alone_are_a_keep_alive(data: bytes) -> None:
    assert parse(data) is None


def test_a_wrong_request_that_can_be_answered_says_with_what() -> None:
    with pytest.raises(BadRequest) as caught:
        parse(invite(headers=("Max-Forwards: lots",)))
    assert caught.value.sip_status == 400
    assert caught.value.request.method == b"INVITE"


def test_bounds_are_kept() -> None:
    with pytest.raises(Malformed, match="too long"):
        parse(invite(headers=("X: " + "y" * MAX_BYTES,)))
    with pytest.raises(Malformed, match="too many"):
        parse(invite(headers=("X: y",) * MAX_HEADERS))


def test_received_and_rport_say_where_a_request_really_came_from() -> None:
    message = parsed(request("OPTIONS"))
    assert message.arrived_from(Address("udp", "192.0.2.99", 41000)) == Address("udp", "192.0.2.99", 41000)
    assert message.headers[0][2].endswith(b";branch=z9hG4bKcaller1;rport=41000;received=192.0.2.99")


def test_without_rport_the_answer_goes_to_the_port_in_via() -> None:
    message = parsed(request("OPTIONS").replace(b";rport", b"").replace(b"192.0.2.10:5060", b"192.0.2.10:5099"))
    assert message.arrived_from(Address("udp", "192.0.2.10", 41000)) == Address("udp", "192.0.2.10", 5099)
    assert b"received" not in message.headers[0][2]


def test_a_forged_received_does_not_divert_the_answer() -> None:
    message = parsed(request("OPTIONS").replace(b";rport", b";received=198.51.100.1;maddr=198.51.100.2"))
    assert message.arrived_from(CALLER).host == CALLER.host
    assert b"198.51.100.1" not in message.headers[0][2]


def test_only_the_topmost_via_is_taken_from_a_response() -> None:
    start = b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a;branch=1 , SIP/2.0/UDP b;branch=2\r\n"
    rest = b"v: SIP/2.0/UDP c;branch=3\r\nFrom: <sip:x@y>\r\nTo: <sip:x@y>\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n\r\n"
    message = parse(start + rest)
    assert isinstance(message, Response)
    assert message.without_top_via() == b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP b;branch=2\r\n" + rest


@settings(deadline=None)
@given(st.binary(max_size=600))
def test_no_bytes_make_the_parser_raise_anything_but_its_own_error(data: bytes) -> None:
    try:
        parse(data)
    except Malformed:
        pass


damaging = st.sampled_from([b"\r", b"\n", b'"', b"<", b">", b",", b";", b"\0", b"\xff", b":", b"@", b" "])
mutations = st.lists(st.tuples(st.integers(0, 700), st.integers(0, 3), damaging), max_size=6)


@settings(deadline=None)
@given(mutations)
def test_no_damage_to_an_invite_makes_it_raise_anything_but_its_own_error(damage: list[tuple[int, int, bytes]]) -> None:
    data = invite(headers=('Route: "a, b" <sip:10.0.0.1;lr>, <sip:x>;y="z"', "Proxy-Require: x"))
    for position, removed, added in damage:
        data = data[:position] + added + data[position + removed :]
    try:
        message = parse(data)
    except Malformed:
        return
    if isinstance(message, Request):
        message.arrived_from(CALLER)
        message.values(b"route")
    elif message:
        message.without_top_via()


token = st.text("abcXYZ019-.!%*_+`'~", min_size=1, max_size=12)
value = st.text(st.characters(blacklist_characters="\r\n\0", blacklist_categories=["Cs"]), max_size=40)
folded = st.lists(value, min_size=1, max_size=3).map("\r\n ".join)


@settings(deadline=None)
@given(st.lists(st.tuples(token.map("X-".__add__), folded), max_size=8), st.binary(max_size=100))
def test_unknown_headers_and_the_body_pass_byte_for_byte(headers: list[tuple[str, str]], body: bytes) -> None:
    lines = tuple(f"{name}:{text}" for name, text in headers)
    data = request("OPTIONS", headers=lines, body=body)
    message = parsed(data)
    message.arrived_from(CALLER)
    assert message.body == body
    assert [raw for key, _, raw in message.headers if key.startswith(b"x-")] == [line.encode() for line in lines]
