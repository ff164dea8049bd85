"""What is held against the pool, call by call, and what is not."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from bench.chaos.verdict import BRIEF, Admission, Broken, Harm, Verdict, judge
from bench.load.traffic import CallResult, Outcome, Plan
from shared.control.events import Event, EventName
from shared.ending import CallEnd
from shared.ids import CallId, LeaseId, WorkerId
from shared.messages import CallRecord

CALL = CallId("call")
ONE, OTHER = WorkerId("pod-0-0-a"), WorkerId("pod-0-1-b")

HUNG_UP = CallResult(
    plan=Plan(at_s=0.0, to=("127.0.0.1", 5060), hold_s=5.0),
    call_id=CALL,
    outcome=Outcome.ANSWERED,
    status=200,
    bye_status=200,
    hung_up_by="caller",
    marks_ns={"invite": 1_000_000_000, "answered": 2_000_000_000, "bye": 7_000_000_000, "ended": 7_000_000_000},
)
BY_THE_POOL = replace(HUNG_UP, bye_status=0, hung_up_by="peer")
REFUSED = replace(HUNG_UP, outcome=Outcome.REFUSED, status=503, marks_ns={"invite": 1_000_000_000})
UNHEARD = replace(REFUSED, outcome=Outcome.FAILED, status=0, why="silent")

TAKEN = Admission(CALL, ONE, 1_500.0, 7_100.0)


def record(end: CallEnd = CallEnd.CALLER_HANGUP, worker_id: WorkerId = ONE, lease: str = "lease") -> CallRecord:
    return CallRecord(
        call_id=CALL,
        lease_id=LeaseId(lease),
        worker_id=worker_id,
        result=end.result,
        reason=end,
        invite_at_ms=1_000,
        ended_at_ms=7_000,
    )


def event(name: EventName, worker_id: WorkerId) -> Event:
    return Event("1-0", name, 1_000, {"call_id": CALL, "worker_id": worker_id})


def verdict(
    result: CallResult = HUNG_UP,
    records: Sequence[CallRecord] = (record(),),
    events: Sequence[Event] = (),
    admissions: Sequence[Admission] = (TAKEN,),
    harms: Sequence[Harm] = (),
) -> Verdict:
    return judge([result], [records], events, admissions, harms)


def broken(found: Verdict) -> list[Broken]:
    return [finding.broken for finding in found.findings]


def test_a_call_that_went_as_its_caller_wanted_breaks_nothing() -> None:
    found = verdict()
    assert not found.findings
    assert (found.lost_with_worker, dict(found.endings)) == (0, {"hung up by the caller": 1})


@pytest.mark.parametrize(
    ("result", "end"),
    [
        (replace(HUNG_UP, bye_status=481), CallEnd.CALLER_HANGUP),
        (replace(HUNG_UP, outcome=Outcome.FAILED, why="BYE was not answered", bye_status=408), CallEnd.CALLER_HANGUP),
        (BY_THE_POOL, CallEnd.CALLER_SILENT),
        (BY_THE_POOL, CallEnd.WORKER_LOST),
        (UNHEARD, CallEnd.CALLER_UNREACHABLE),
        (replace(HUNG_UP, plan=replace(HUNG_UP.plan, called=BRIEF)), CallEnd.CALLER_HANGUP),
    ],
    ids=["481", "no answer to BYE", "hung up early", "worker lost", "answer never arrived", "agent stayed"],
)
def test_a_call_that_ended_otherwise_was_lost_here_or_with_its_worker(result: CallResult, end: CallEnd) -> None:
    found = verdict(result, [record(end)])
    assert broken(found) == [Broken.LOST_ELSEWHERE]
    found = verdict(result, [record(end)], harms=[Harm(ONE, 3_000.0, killed=True)])
    assert not found.findings and found.lost_with_worker == 1


@pytest.mark.parametrize("status", [481, 500])
def test_a_bye_that_a_dispatcher_died_on_has_ended_the_call_before_it_is_sent_again(status: int) -> None:
    assert not verdict(replace(HUNG_UP, bye_status=status, byes=2)).findings
    assert broken(verdict(replace(HUNG_UP, bye_status=status, byes=1))) == [Broken.LOST_ELSEWHERE]


def test_harm_to_another_worker_or_at_another_time_excuses_nothing() -> None:
    lost = record(CallEnd.WORKER_LOST)
    assert broken(verdict(BY_THE_POOL, [lost], harms=[Harm(OTHER, 3_000.0)])) == [Broken.LOST_ELSEWHERE]
    assert broken(verdict(BY_THE_POOL, [lost], harms=[Harm(ONE, 100.0, 900.0)])) == [Broken.LOST_ELSEWHERE]
    assert broken(verdict(BY_THE_POOL, [lost], harms=[Harm(ONE, 60_000.0)])) == [Broken.LOST_ELSEWHERE]


def test_an_agent_that_hangs_up_when_it_is_its_turn_is_no_loss() -> None:
    brief = replace(BY_THE_POOL, plan=replace(BY_THE_POOL.plan, called=BRIEF))
    assert not verdict(brief, [record(CallEnd.CALLER_SILENT)]).findings


def test_a_call_without_an_answer_counts_by_its_cause() -> None:
    refusal = Event("1-0", EventName.CALL_REFUSED, 1_000, {"call_id": CALL, "status": "503", "reason": "no_capacity"})
    nobody = verdict(REFUSED, [], [refusal], admissions=[])
    assert not nobody.findings and dict(nobody.failed_setups) == {"503, no_capacity": 1}
    cut_off = verdict(REFUSED, [record(CallEnd.SESSION_UNAVAILABLE)])
    assert not cut_off.findings and dict(cut_off.failed_setups) == {"503, session_unavailable": 1}


def test_a_cancelled_call_may_have_a_record_or_none() -> None:
    cancelled = replace(REFUSED, outcome=Outcome.CANCELLED, status=487)
    assert not verdict(cancelled, [], admissions=[]).findings
    assert not verdict(cancelled, [record(CallEnd.CALLER_CANCELLED)]).findings


def test_a_cancelled_call_whose_487_got_lost_is_cancelled_all_the_same() -> None:
    cancelled = replace(UNHEARD, plan=replace(UNHEARD.plan, give_up_s=0.2), why="CANCEL came to nothing")
    assert not verdict(cancelled, [record(CallEnd.CALLER_CANCELLED)]).findings
    assert broken(verdict(cancelled, [record(CallEnd.CALLER_UNREACHABLE)])) == [Broken.LOST_ELSEWHERE]


def test_a_call_that_workers_had_has_a_record_of_one_of_them() -> None:
    assert broken(verdict(records=[])) == [Broken.NO_RECORD]
    twice = [TAKEN, Admission(CALL, OTHER, 7_200.0, 7_300.0)]
    assert broken(verdict(admissions=twice)) == []
    assert broken(verdict(admissions=twice, records=[])) == [Broken.NO_RECORD]
    both = [record(), record(worker_id=OTHER, lease="next")]
    assert not verdict(records=both, admissions=twice).findings


def test_a_lease_has_one_record() -> None:
    assert broken(verdict(records=[record(), record()])) == [Broken.DUPLICATE]
    assert not judge([HUNG_UP], [[record()], [record()]], [], [TAKEN], []).findings, "Redis was emptied in between"


def test_two_workers_do_not_have_a_call_at_the_same_time() -> None:
    both = [record(), record(worker_id=OTHER, lease="next")]
    taken = [TAKEN, Admission(CALL, OTHER, 3_000.0, 7_100.0)]
    assert broken(verdict(records=both, admissions=taken)) == [Broken.DOUBLE]
    # One that is frozen does not have it any more, whatever it writes when it thaws.
    assert not verdict(records=both, admissions=taken, harms=[Harm(ONE, 2_000.0, 20_000.0)]).findings


def test_the_events_of_a_call_name_one_worker_from_start_to_end() -> None:
    started, ended = event(EventName.CALL_STARTED, ONE), event(EventName.CALL_ENDED, ONE)
    elsewhere = event(EventName.CALL_STARTED, OTHER)
    assert broken(verdict(events=[started, elsewhere])) == [Broken.DOUBLE]
    assert not verdict(events=[started, ended, elsewhere]).findings
    assert not verdict(events=[started, started, ended]).findings, "an emptied Redis is told again"


def test_how_long_the_caller_of_a_killed_worker_waits_is_measured() -> None:
    harms = [Harm(ONE, 3_000.0, killed=True)]
    assert verdict(BY_THE_POOL, [record(CallEnd.WORKER_LOST)], harms=harms).released_s == [4.0]
