"""The transition tables."""

import pytest

from shared.ending import CallEnd, CallResult
from shared.states import (
    CALL_TRANSITIONS,
    WORKER_TRANSITIONS,
    CallEvent,
    CallState,
    InvalidTransition,
    WorkerEvent,
    WorkerState,
    advance,
)


def test_a_call_goes_from_incoming_to_ended() -> None:
    state = CallState.INCOMING
    for event in (CallEvent.CLAIMED, CallEvent.ANSWERED, CallEvent.HANGUP, CallEvent.RELEASED):
        state = advance(CALL_TRANSITIONS, state, event)
    assert state is CallState.ENDED


@pytest.mark.parametrize("state", [CallState.INCOMING, CallState.CONNECTING, CallState.TALKING])
def test_a_call_can_be_hung_up_in_every_living_state(state: CallState) -> None:
    assert advance(CALL_TRANSITIONS, state, CallEvent.HANGUP) is CallState.ENDING


def test_an_unlisted_pair_names_event_and_state() -> None:
    with pytest.raises(InvalidTransition, match="hangup in ended"):
        advance(CALL_TRANSITIONS, CallState.ENDED, CallEvent.HANGUP)


def test_every_worker_state_but_stopped_can_be_left() -> None:
    assert {state for state, _ in WORKER_TRANSITIONS} == set(WorkerState) - {WorkerState.STOPPED}


def test_a_draining_worker_can_be_put_back() -> None:
    assert advance(WORKER_TRANSITIONS, WorkerState.DRAINING, WorkerEvent.UNDRAIN) is WorkerState.READY


@pytest.mark.parametrize("end", CallEnd)
def test_every_ending_has_a_result_and_a_sip_status(end: CallEnd) -> None:
    assert end.result in CallResult
    assert 200 <= end.sip_status < 700
