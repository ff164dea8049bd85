"""Messages in a stream: the same ones however it is cut, and no doubt where one ends."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.sip.framing import PING, SKIPPED_MAX, Framer
from dispatcher.sip.grammar import Malformed
from dispatcher.sip.message import MAX_BYTES
from tests.unit.dispatcher.ladder import invite, request

OPTIONS = request("OPTIONS")
INVITE = invite()


def frames(*chunks: bytes) -> list[bytes]:
    """Returns what comes of a stream, with `end` when no more can come."""
    framer, found = Framer(), []
    for chunk in chunks:
        framer.feed(chunk)
        try:
            while (frame := framer.next()) is not None:
                found.append(frame)
        except Malformed:
            return [*found, b"end"]
    return found


def with_length(length: object, body: bytes = b"") -> bytes:
    return b"INFO sip:a SIP/2.0\r\nVia: x\r\nContent-Length: %b\r\n\r\n%b" % (str(length).encode(), body)


PIECES = [
    OPTIONS, INVITE, PING, b"\r\n", with_length(3, b"\r\n\r"), with_length(MAX_BYTES, b"x" * MAX_BYTES), b"\n",
    b"\x16\x03", b"GET / HTTP/1.1\r\n\r\n", with_length("5\r\n ", b"\r\n\r\nA"),
]  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=6), st.data())
def test_however_a_stream_is_cut_the_messages_are_the_same(pieces: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(pieces)
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=20))
    chunks = [stream[start:end] for start, end in pairwise(sorted({0, len(stream), *cuts}))]
    assert frames(*chunks) == frames(stream)


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(0, 200))
def test_whatever_comes_it_is_refused_or_understood_alike(stream: bytes, cut: int) -> None:
    assert frames(stream[:cut], stream[cut:]) == frames(stream)


def test_byte_by_byte_it_is_the_same_too() -> None:
    stream = PING + INVITE + b"\r\n" + OPTIONS + PING
    assert frames(*(bytes((byte,)) for byte in stream)) == [PING, INVITE, OPTIONS, PING]


def test_a_message_is_what_content_length_counts() -> None:
    assert frames(with_length(4, b"bodyOPTIONS")) == [with_length(4, b"body")]
    assert frames(with_length(0), b"l") == [with_length(0)]
    compact = with_length(2, b"hi").replace(b"Content-Length", b"l")
    assert frames(compact + OPTIONS) == [compact, OPTIONS]


@pytest.mark.parametrize("stream", [b"\r\n", b"\r\n\r", OPTIONS[:-1], INVITE[:-1], OPTIONS[:10]])
def test_what_is_not_whole_is_waited_for(stream: bytes) -> None:
    assert frames(stream) == []


@pytest.mark.parametrize(
    ("stream", "unfinished"), [(b"", False), (b"\r\n", False), (b"O", True), (OPTIONS, False), (INVITE[:-1], True)]
)
def test_it_is_known_whether_a_message_has_begun(stream: bytes, unfinished: bool) -> None:
    framer = Framer()
    framer.feed(stream)
    framer.next()
    assert framer.unfinished is unfinished


@pytest.mark.parametrize(
    "stream",
    [
        b"\x16\x03\x01\x02\x00",
        b"\r\r",
        b"\n\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        with_length(-1),
        with_length("1 2"),
        with_length("ten"),
        with_length(""),
        with_length(SKIPPED_MAX + 1),
        with_length("9" * 30),
        with_length("0\r\nContent-Length: 5"),
        with_length("0\r\nL: 0"),
        with_length("0\nl: 5"),
        with_length("5").replace(b"\r\nVia", b"\nVia"),
        b"A" * (MAX_BYTES + 1),
    ],
)
def test_where_no_message_can_be_there_comes_no_more(stream: bytes) -> None:
    assert frames(OPTIONS + stream + OPTIONS) == [OPTIONS, b"end"]


def test_of_one_that_is_too_long_the_beginning_comes_and_the_rest_is_passed_over() -> None:
    body = b"x" * (MAX_BYTES + 5000)
    long = with_length(len(body), body)
    beginning, following = frames(long[:100], long[100:-1], long[-1:], OPTIONS)
    assert (beginning, following) == (long[: MAX_BYTES + 1], OPTIONS)


def test_the_longest_that_is_taken_comes_whole() -> None:
    head = len(with_length(10_000))
    longest = with_length(MAX_BYTES - head, b"x" * (MAX_BYTES - head))
    assert frames(longest) == [longest]
