"""Judging the test call."""

from dataclasses import replace
from typing import Any

import pytest

from admin.selftest import judge
from shared.ids import CallId, LeaseId, WorkerId
from shared.messages import CallRecord

RECORD = CallRecord(
    call_id=CallId("call"),
    lease_id=LeaseId("lease"),
    worker_id=WorkerId("worker"),
    result="completed",
    reason="caller_hangup",
    invite_at_ms=0,
    ended_at_ms=1,
)


def call(**changes: Any) -> dict[str, Any]:
    marks = {"invite": 0.0, "answered": 200.0, "greeting_first_packet": 250.0, "answer_first_packet": 5000.0}
    return {"ok": True, "reason": "ok", "status": 200, "correlation": 0.97, "marks": marks, **changes}


def without(*names: str) -> dict[str, float | None]:
    marks: dict[str, float | None] = dict(call()["marks"])
    return marks | dict.fromkeys(names)


def test_a_call_with_greeting_and_matching_answer_is_good() -> None:
    assert judge(call(), RECORD, greeting=True, parrot=True) == []


def test_a_call_that_was_not_answered_says_why_and_nothing_else() -> None:
    refused = call(ok=False, reason="refused: 503 Service Unavailable", status=503, marks={"invite": 0.0})
    assert judge(refused, None, greeting=True, parrot=True) == [
        "the call was not answered: refused: 503 Service Unavailable"
    ]
    record = replace(RECORD, reason="session_unavailable")
    assert judge(refused, record, greeting=True, parrot=True) == [
        "the call was not answered: SIP 503, session_unavailable"
    ]


def test_a_missing_greeting_is_a_fault_only_where_callers_are_greeted() -> None:
    silent = call(marks=without("greeting_first_packet"))
    assert judge(silent, RECORD, greeting=True, parrot=True) == ["the caller heard no greeting"]
    assert judge(silent, RECORD, greeting=False, parrot=True) == []


def test_a_missing_answer_is_a_fault() -> None:
    mute = call(marks=without("answer_first_packet"), correlation=None)
    assert judge(mute, RECORD, greeting=True, parrot=True) == ["the caller heard no answer"]


@pytest.mark.parametrize("correlation", [0.31, None])
def test_the_parrot_has_to_say_what_was_said(correlation: float | None) -> None:
    other = call(correlation=correlation)
    [problem] = judge(other, RECORD, greeting=True, parrot=True)
    assert problem.startswith("the answer is not what the caller said")


def test_a_model_may_say_what_it_likes() -> None:
    assert judge(call(correlation=0.02), RECORD, greeting=True, parrot=False) == []


def test_what_only_the_telephone_finds_wrong_counts() -> None:
    dropped = call(ok=False, reason="hung up by the pool during the answer")
    assert judge(dropped, RECORD, greeting=True, parrot=True) == ["hung up by the pool during the answer"]


def test_a_call_without_a_call_record_is_not_good() -> None:
    assert judge(call(), None, greeting=True, parrot=True) == ["no call record was written"]
