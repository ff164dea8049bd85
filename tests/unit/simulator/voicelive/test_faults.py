"""Ordering faults, and which are due."""

import pytest

from simulator.voicelive.faults import (
    ArmedFaults,
    BadFault,
    HandshakeFault,
    ServerFaults,
    SessionFault,
    parse_order,
    parse_session_fault,
)


def test_a_handshake_fault_strikes_as_often_as_it_says() -> None:
    faults = ServerFaults()
    faults.order(parse_order('{"next_handshake": {"status": 429, "retry_after": 3, "count": 2}}'))
    fault = HandshakeFault(429, retry_after=3, count=2)
    assert [faults.take_handshake() for _ in range(3)] == [fault, fault, None]


def test_a_null_handshake_takes_the_waiting_one_back() -> None:
    faults = ServerFaults()
    faults.order(parse_order('{"next_handshake": {"stall": true}}'))
    faults.order(parse_order("{}"))
    assert faults.shown()["next_handshake"]["stall"] is True
    faults.order(parse_order('{"next_handshake": null}'))
    assert faults.take_handshake() is None


def test_faults_go_to_the_sessions_they_name() -> None:
    faults = ServerFaults()
    order = """{"sessions": [{"kind": "abort"}, {"kind": "close", "session": "next"},
                             {"kind": "no_pong", "session": "every"}, {"kind": "hang", "session": "sess_1"}]}"""
    assert [fault.kind for fault in faults.order(parse_order(order))] == ["abort", "hang"]
    assert [fault.kind for fault in faults.take_session()] == ["no_pong", "close"]
    assert [fault.kind for fault in faults.take_session()] == ["no_pong"]


def test_what_waits_can_be_seen_and_cleared() -> None:
    faults = ServerFaults()
    faults.order(parse_order('{"next_handshake": {"status": 403}, "sessions": [{"kind": "abort", "session": "next"}]}'))
    shown = faults.shown()
    assert (shown["next_handshake"]["status"], shown["sessions"][0]["kind"]) == (403, "abort")
    faults.clear()
    assert faults.shown() == {"next_handshake": None, "sessions": []}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "truncated"),
        ('{"next_handshake": {}}', "either a status or stall"),
        ('{"next_handshake": {"status": 429, "stall": true}}', "either a status or stall"),
        ('{"next_handshake": {"status": 200}}', ">= 400"),
        ('{"next_handshake": {"status": 429, "count": 0}}', ">= 1"),
        ('{"nexthandshake": {}}', "unknown field `nexthandshake`"),
        ('{"sessions": [{"kind": "flood"}]}', "Invalid enum value 'flood'"),
        ('{"sessions": [{}]}', "missing required field `kind`"),
        ('{"sessions": [{"kind": "abort", "nth": 0}]}', ">= 1"),
        ('{"sessions": [{"kind": "close", "code": 10}]}', ">= 1000"),
        ('{"sessions": [{"kind": "mute_update", "updates": 0}]}', ">= 1"),
    ],
)
def test_a_bad_order_is_refused_with_the_reason(text: str, complaint: str) -> None:
    with pytest.raises(BadFault, match=complaint):
        parse_order(text)


def test_an_armed_fault_is_due_once_after_the_nth_event() -> None:
    armed = ArmedFaults()
    fault = parse_session_fault({"kind": "abort", "on": "response.audio.delta", "nth": 3})
    armed.arm(fault)
    events = ["response.created", *5 * ["response.audio.delta"]]
    assert [armed.due_after(event) for event in events] == [[], [], [], [fault], [], []]


def test_faults_after_the_same_event_are_all_due() -> None:
    armed = ArmedFaults()
    both = [SessionFault("warning", on="x"), SessionFault("error", on="x")]
    for fault in both:
        armed.arm(fault)
    assert armed.due_after("x") == both
