"""Key presses: each is told once, whatever packets get lost or come twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.pjsip.dtmf import KeyPresses, info_digit


def packet(presses: KeyPresses, digit: str, timestamp: int, *flags: str) -> bool:
    return presses.event(digit, timestamp, update="update" in flags, end="end" in flags)


def press(presses: KeyPresses, digit: str, timestamp: int) -> list[bool]:
    """The packets of one event as pjmedia reports them: a first one, updates, the end."""
    return [
        packet(presses, digit, timestamp),
        packet(presses, digit, timestamp, "update"),
        packet(presses, digit, timestamp, "update", "end"),
    ]


def test_an_event_is_one_key_press() -> None:
    assert press(KeyPresses(), "5", 1000) == [True, False, False]


def test_the_same_key_pressed_twice_is_two_key_presses() -> None:
    presses = KeyPresses()
    assert [press(presses, "5", 1000), press(presses, "5", 2000)] == [[True, False, False]] * 2


def test_a_late_packet_of_an_event_is_no_new_key_press() -> None:
    presses = KeyPresses()
    press(presses, "5", 1000)
    assert not packet(presses, "5", 1000)
    assert not packet(presses, "5", 1000, "update", "end")


def test_a_key_pressed_again_whose_first_packets_were_lost_is_a_key_press() -> None:
    presses = KeyPresses()
    press(presses, "5", 1000)
    assert packet(presses, "5", 2000, "update")
    assert not packet(presses, "5", 2000, "update")


def test_a_timestamp_that_grows_within_an_event_makes_no_new_key_press() -> None:
    presses = KeyPresses()
    told = [packet(presses, "5", 1000), packet(presses, "5", 1020, "update"), packet(presses, "5", 1040, "update")]
    assert told == [True, False, False]


def test_another_key_at_the_same_timestamp_is_a_key_press() -> None:
    presses = KeyPresses()
    packet(presses, "5", 1000, "end")
    assert packet(presses, "6", 1000, "end")


def test_keys_that_come_both_ways_count_once() -> None:
    presses = KeyPresses()
    assert [press(presses, "5", 1000)[0], presses.info(), press(presses, "6", 2000)[0], presses.info()] == [
        True,
        False,
        True,
        False,
    ]


def test_keys_that_come_by_info_count_each() -> None:
    presses = KeyPresses()
    assert [presses.info(), presses.info(), packet(presses, "5", 1000)] == [True, True, False]


def info(content_type: str, body: str) -> str:
    return f"INFO sip:x@h SIP/2.0\r\nCall-ID: 1\r\n{content_type}\r\n\r\n{body}"


@pytest.mark.parametrize(
    ("content_type", "body", "digit"),
    [
        ("Content-Type: application/dtmf-relay", "Signal=5\r\nDuration=160\r\n", "5"),
        ("Content-Type: application/dtmf-relay", "Signal= #\r\nDuration= 250", "#"),
        ("content-type:Application/DTMF-Relay; charset=utf-8", "Duration=160\nsignal = *\n", "*"),
        ("c: application/dtmf-relay", "Signal=10\r\n", "*"),
        ("c: application/dtmf-relay", "Signal=11\r\n", "#"),
        ("c: application/dtmf-relay", "Signal=a\r\n", "A"),
        ("Content-Type: application/dtmf", "7", "7"),
        ("Content-Type: application/dtmf", " 11\r\n", "#"),
        ("Content-Type: application/dtmf", "Signal=3\r\nDuration=100", "3"),
        ("Content-Type: application/dtmf-relay", "5", ""),
        ("Content-Type: application/dtmf-relay", "Signal=16", ""),
        ("Content-Type: application/dtmf-relay", "Signal=55", ""),
        ("Content-Type: application/dtmf", "", ""),
        ("Content-Type: application/media_control+xml", "5", ""),
        ("X-Content: application/dtmf", "5", ""),
    ],
)
def test_an_info_says_its_digit(content_type: str, body: str, digit: str) -> None:
    assert info_digit(info(content_type, body)) == digit


@given(st.text(max_size=80))
def test_any_body_has_one_digit_or_none(body: str) -> None:
    assert len(info_digit(info("Content-Type: application/dtmf", body))) <= 1
