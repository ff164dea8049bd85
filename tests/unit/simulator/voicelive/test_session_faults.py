"""Faults in a session: what each does, and when."""

import json

import pytest

from simulator.voicelive.actions import Abort, Action, Close, SendRaw, StopPongs
from simulator.voicelive.behaviour import Behaviour
from simulator.voicelive.faults import MAX_DURATION_REASON, SessionFault
from tests.unit.simulator.voicelive.driving import EPOCH_S, G711, Drive, types


def committed(fault: SessionFault) -> Drive:
    drive = Drive().start(**G711)
    drive._take(drive.session.order(fault, drive.now))
    return drive


def raw(drive: Drive) -> str | bytes:
    (action,) = drive.other
    assert isinstance(action, SendRaw)
    return action.payload


@pytest.mark.parametrize(
    ("fault", "action"),
    [
        (SessionFault("abort"), Abort()),
        (SessionFault("close"), Close(1001, MAX_DURATION_REASON)),
        (SessionFault("close", code=1011, reason="broken"), Close(1011, "broken")),
        (SessionFault("no_pong"), StopPongs()),
    ],
)
def test_faults_of_the_connection_are_left_to_it(fault: SessionFault, action: Action) -> None:
    assert committed(fault).other == [action]


@pytest.mark.parametrize("kind", ["abort", "close", "hang"])
def test_nothing_follows_the_end(kind: str) -> None:
    drive = committed(SessionFault(kind))  # type: ignore[arg-type]
    before = list(drive.other)
    assert drive.say() == []
    assert drive.other == before
    assert drive.session.next_wake is None


def test_an_oversize_frame_is_json_and_larger_than_the_sdk_takes() -> None:
    payload = raw(committed(SessionFault("oversize")))
    assert isinstance(payload, str)
    assert len(payload) > 4 * 1024 * 1024
    assert json.loads(payload)["type"] == "simulator.oversize"


def test_a_binary_frame_is_binary_and_bad_json_is_bad() -> None:
    assert isinstance(raw(committed(SessionFault("binary"))), bytes)
    with pytest.raises(json.JSONDecodeError):
        json.loads(raw(committed(SessionFault("bad_json"))))


@pytest.mark.parametrize("kind", ["warning", "error", "unknown_event"])
def test_events_out_of_the_ordinary_do_not_end_the_session(kind: str) -> None:
    drive = committed(SessionFault(kind))  # type: ignore[arg-type]
    expected = {"unknown_event": "response.hologram.delta"}.get(kind, kind)
    assert types(drive.events)[-1] == expected
    drive.say()
    assert types(drive.settle())[-1] == "response.done"


def test_a_fault_may_wait_for_an_event_and_then_for_a_time() -> None:
    fault = SessionFault("abort", on="response.audio.delta", nth=2, after_s=0.01)
    drive = Drive(behaviour=Behaviour(realtime_factor=1.0)).start(**G711)
    drive._take(drive.session.order(fault, drive.now))
    drive.say()
    drive.settle()
    assert [event["type"] for event in drive.events].count("response.audio.delta") == 2
    assert drive.other == [Abort()]
    assert drive.now == pytest.approx(drive.at("response.audio.delta") + 0.01)


def test_faults_of_a_session_to_come_strike_after_it_opened() -> None:
    drive = Drive()
    faults = [SessionFault("warning"), SessionFault("abort", on="session.created")]
    actions = drive.session.start(drive.now, faults)
    assert [type(action).__name__ for action in actions] == ["Send", "Abort"]


def test_a_mark_says_when_a_fault_ended_a_response() -> None:
    drive = committed(SessionFault("abort", on="response.created"))
    drive.say()
    drive.settle()
    assert drive.session.record.wall_ms(drive.now) == pytest.approx((EPOCH_S + drive.now - 100) * 1000)
    assert drive.session.shown()["marks"][-1]["kind"] in ("speech_stopped", "response_created")


def test_updates_can_be_refused_by_name_and_change_nothing() -> None:
    drive = Drive().start()
    drive._take(drive.session.order(SessionFault("refuse_update", updates=2, param="session.tools"), drive.now))
    for _ in range(2):
        (error,) = drive.send("session.update", session={"instructions": "New."}, event_id="mine")
        assert (error["error"]["param"], error["error"]["event_id"]) == ("session.tools", "mine")
    (updated,) = drive.send("session.update", session={})
    assert updated["session"]["instructions"] != "New."


def test_updates_can_stay_unanswered() -> None:
    drive = Drive().start()
    drive._take(drive.session.order(SessionFault("mute_update"), drive.now))
    assert drive.send("session.update", session={}) == []
    assert types(drive.send("session.update", session={})) == ["session.updated"]
