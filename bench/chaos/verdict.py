"""What the calls of a chaos run say about the pool: which invariants held, and which call broke one.

    what callers saw + records + events + who had the call + who was harmed -> Verdict

Pure: everything comes in as values.

    double assignment    two workers had the call at the same time
    without record       a worker had the call, and there is no record of that
    duplicate            two records of one lease, and Redis did not lose its memory in between
    lost elsewhere       it ended otherwise than its caller or its agent wanted, and its worker was not harmed
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from math import inf
from statistics import median

from bench.load.traffic import CallResult, Outcome
from shared.control.events import Event, EventName
from shared.ending import CallEnd
from shared.ending import CallResult as Ending
from shared.ids import CallId, WorkerId
from shared.messages import CallRecord

BRIEF = "brief"
"""The number whose agent hangs up by itself."""

AMONG_CLOCKS_MS = 50.0
"""Log lines, events and callers are not written in the very moment."""

SAYS_SO_MS = 5_000.0
"""A worker may be harmed so long after a call's end before it has said goodbye and released the lease."""


@dataclass(frozen=True, slots=True)
class Harm:
    """A worker was killed or frozen; whatever it has from then on may be lost. Times are Unix ms."""

    worker_id: WorkerId
    begin_ms: float
    until_ms: float = inf
    """From when on it is as good as any other; never, for one that died."""
    killed: bool = False
    """At once, not frozen."""


@dataclass(slots=True)
class Admission:
    """A worker has taken a call, as its log says. Times are Unix ms."""

    call_id: CallId
    worker_id: WorkerId
    begin_ms: float
    until_ms: float = inf
    """Until the call was over for the worker; endless for one that died with it."""


class Broken(StrEnum):
    """The invariants."""

    DOUBLE = "double assignment"
    NO_RECORD = "without record"
    DUPLICATE = "duplicate record"
    LOST_ELSEWHERE = "lost elsewhere"


@dataclass(frozen=True, slots=True)
class Finding:
    """A call that broke an invariant."""

    broken: Broken
    call_id: CallId
    what: str
    at_ms: float


@dataclass(slots=True)
class Verdict:
    """What came of all calls."""

    findings: list[Finding] = field(default_factory=list)
    endings: Counter[str] = field(default_factory=Counter)
    """What callers saw."""
    failed_setups: Counter[str] = field(default_factory=Counter)
    """Calls that were not answered although their caller waited, by cause."""
    lost_with_worker: int = 0
    """Calls whose worker was killed or frozen, and that ended by it."""
    released_s: list[float] = field(default_factory=list)
    """For each answered call of a killed worker that was not hung up meanwhile: until its caller got a BYE."""
    gaps_ms: list[float] = field(default_factory=list)
    """Of each call with RTP on workers that nobody harmed: the longest time without a packet."""

    def count(self, broken: Broken) -> int:
        """Returns how many calls broke an invariant."""
        return len({finding.call_id for finding in self.findings if finding.broken is broken})


def judge(
    results: Sequence[CallResult],
    lives: Sequence[Sequence[CallRecord]],
    events: Sequence[Event],
    admissions: Sequence[Admission],
    harms: Sequence[Harm],
) -> Verdict:
    """Returns the verdict on a run in which everything has ended; `lives` are the records of each life of Redis."""
    verdict = Verdict()
    records = [record for life in lives for record in life]
    verdict.findings += _doubles(admissions, harms)
    verdict.findings += _told_doubles(events)
    verdict.findings += _without_record(admissions, records)
    for life in lives:
        verdict.findings += _duplicates(life)
    by_call: dict[CallId, list[CallRecord]] = defaultdict(list)
    for record in records:
        by_call[record.call_id].append(record)
    workers: dict[CallId, set[WorkerId]] = defaultdict(set)
    for admission in admissions:
        workers[admission.call_id].add(admission.worker_id)
    for record in records:
        workers[record.call_id].add(record.worker_id)
    refusals = {
        event.about["call_id"]: event.about["reason"] for event in events if event.name == EventName.CALL_REFUSED
    }
    for result in results:
        had = [harm for harm in harms if harm.worker_id in workers[result.call_id]]
        _judge_call(result, by_call[result.call_id], had, verdict)
        if result.outcome in (Outcome.REFUSED, Outcome.FAILED) and "answered" not in result.marks_ns:
            reason = refusals.get(result.call_id, "")
            verdict.failed_setups[_cause(result, by_call[result.call_id], reason)] += 1
    return verdict


def _judge_call(result: CallResult, records: Sequence[CallRecord], harms: Sequence[Harm], verdict: Verdict) -> None:
    begin_ms, end_ms = _span_ms(result)
    harmed = [harm for harm in harms if harm.begin_ms <= end_ms + SAYS_SO_MS and begin_ms <= harm.until_ms]
    verdict.endings[_ending(result)] += 1
    wrong = _wrong(result, records)
    if wrong and harmed:
        verdict.lost_with_worker += 1
        if "answered" in result.marks_ns and result.hung_up_by.startswith("peer"):
            bye_ms = result.marks_ns["bye"] / 1e6
            verdict.released_s += [(bye_ms - harm.begin_ms) / 1000 for harm in harmed[:1] if harm.killed]
    elif wrong:
        verdict.findings.append(Finding(Broken.LOST_ELSEWHERE, result.call_id, wrong, end_ms))
    if not harmed and result.longest_gap_ms is not None:
        verdict.gaps_ms.append(result.longest_gap_ms)


def _wrong(result: CallResult, records: Sequence[CallRecord]) -> str:
    """Returns in what a call has not gone as its caller or its agent wanted; nothing when it has, or was refused."""
    reasons = {record.reason for record in records}
    told = f" ({', '.join(sorted(reasons)) or 'no record'})"
    match result.outcome:
        case Outcome.CANCELLED:
            return ""
        case Outcome.ANSWERED if result.hung_up_by == "caller":
            if not result.was_hung_up:
                return f"BYE answered with {result.bye_status}{told}"
            if result.plan.called == BRIEF:
                return f"the agent did not hang up{told}"
            return ""
        case Outcome.ANSWERED:
            completed = any(CallEnd(reason).result is Ending.COMPLETED for reason in reasons)
            return "" if completed and result.plan.called == BRIEF else f"hung up by {result.hung_up_by}{told}"
        case Outcome.FAILED if result.plan.give_up_s is not None and reasons == {CallEnd.CALLER_CANCELLED}:
            return ""  # without a 487, a caller takes the call for cancelled after 64*T1 (RFC 3261 section 9.1)
        case Outcome.FAILED if "answered" in result.marks_ns:
            return f"{result.why}{told}"
        case _:
            return "" if all(map(_refusal, reasons)) else f"not answered: {result.status} {result.why}{told}"


def _refusal(reason: str) -> bool:
    """Whether a worker has refused the call by itself: there was no session, or no room, and the caller was told."""
    end = CallEnd(reason)
    return end.result is Ending.REFUSED or end.name.startswith("SESSION_")


def _cause(result: CallResult, records: Sequence[CallRecord], refusal: str) -> str:
    """Returns what the caller was told, what the dispatcher said of it, and what the workers did."""
    seen = result.why or str(result.status)
    reasons = sorted({record.reason for record in records})
    return ", ".join(filter(None, [seen, refusal, *reasons]))


def _ending(result: CallResult) -> str:
    if result.outcome is Outcome.ANSWERED:
        return "hung up by the caller" if result.hung_up_by == "caller" else "hung up by the pool"
    return str(result.outcome)


def _span_ms(result: CallResult) -> tuple[float, float]:
    times = result.marks_ns.values()
    return min(times) / 1e6, max(times) / 1e6


def _doubles(admissions: Sequence[Admission], harms: Sequence[Harm]) -> list[Finding]:
    """What the workers' logs show. A worker that is killed or frozen has its calls no more."""
    by_call: dict[CallId, list[Admission]] = defaultdict(list)
    for admission in sorted(admissions, key=lambda each: each.begin_ms):
        by_call[admission.call_id].append(admission)
    found = []
    for call_id, taken in by_call.items():
        for one, other in pairwise(taken):
            if one.worker_id != other.worker_id and other.begin_ms < _until_ms(one, harms) - AMONG_CLOCKS_MS:
                what = f"{one.worker_id} had it when {other.worker_id} took it"
                found.append(Finding(Broken.DOUBLE, call_id, what, other.begin_ms))
    return found


def _until_ms(admission: Admission, harms: Sequence[Harm]) -> float:
    struck = [
        harm.begin_ms for harm in harms if harm.worker_id == admission.worker_id and harm.until_ms >= admission.begin_ms
    ]
    return min([admission.until_ms, *struck])


def _told_doubles(events: Iterable[Event]) -> list[Finding]:
    """What the events show: a call that was started on one worker is not to start on another before its end."""
    holder: dict[str, str] = {}
    found = []
    for event in events:
        call_id, worker_id = event.about.get("call_id", ""), event.about.get("worker_id", "")
        if event.name == EventName.CALL_STARTED:
            if holder.get(call_id, worker_id) != worker_id:
                what = f"started on {worker_id} while {holder[call_id]} had it"
                found.append(Finding(Broken.DOUBLE, CallId(call_id), what, event.at_ms))
            holder[call_id] = worker_id
        elif event.name == EventName.CALL_ENDED and holder.get(call_id) == worker_id:
            del holder[call_id]
    return found


def _without_record(admissions: Sequence[Admission], records: Sequence[CallRecord]) -> list[Finding]:
    """A call has one record, of the last worker that had it; one before may have been seen before it was taken back."""
    kept = {record.call_id for record in records}
    last = {each.call_id: each for each in admissions}
    return [
        Finding(Broken.NO_RECORD, call_id, f"{each.worker_id} had it", each.begin_ms)
        for call_id, each in last.items()
        if call_id not in kept
    ]


def _duplicates(records: Sequence[CallRecord]) -> list[Finding]:
    """What one life of Redis shows. A worker whose answer got lost tells a Redis that has lost its memory once more."""
    by_lease: Mapping[str, list[CallRecord]] = defaultdict(list)
    for record in records:
        by_lease[record.lease_id].append(record)
    return [
        Finding(Broken.DUPLICATE, same[0].call_id, ", ".join(each.reason for each in same), same[-1].ended_at_ms)
        for same in by_lease.values()
        if len(same) > 1
    ]


def spread_s(values: Sequence[float]) -> dict[str, float]:
    """Returns the middle and the greatest of some values, nothing of none."""
    return {"p50": round(median(values), 2), "max": round(max(values), 2)} if values else {}
