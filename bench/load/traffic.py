"""Calls over minutes: planned by a seed, made at their time, and for each of them a result that says what came of it.

Calls come at random, last for a while, some are given up while they ring, some wait for the pool to hang up. It judges
nothing: which of the results is a fault of the pool, the benchmark knows.
"""

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from bench.load.dialog import Dialog, Refused
from bench.load.packets import Packets
from bench.load.rtp import RtpLoad
from bench.load.sdp import offer, parse_answer
from bench.load.sip import SipCaller
from bench.load.transaction import LIFETIME_S
from bench.load.wire import UdpAddress
from shared.ids import CallId, call_id_for

ANSWER_S = 60.0
"""How long a caller lets it ring."""

NO_MEDIA_PORT = 40_000
"""Offered when a call has no RTP: nobody listens there."""


class Outcome(StrEnum):
    """What came of a call, as its caller sees it."""

    ANSWERED = "answered"
    """And ended by a BYE that was answered, whoever sent it."""
    REFUSED = "refused"
    """By the final response in `status`."""
    CANCELLED = "cancelled"
    """Given up as planned, and ended with 487; or with 200, and hung up at once."""
    FAILED = "failed"
    """Nobody answered what was sent; `why` says what."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One call to be made."""

    at_s: float
    """After the start."""
    to: UdpAddress
    """The dispatcher that is asked first."""
    hold_s: float
    """From the answer to the caller's BYE; the pool may hang up before."""
    give_up_s: float | None = None
    """From the INVITE to the CANCEL; None for a patient caller."""
    called: str = "bot"


@dataclass(frozen=True, slots=True)
class CallResult:
    """What came of one call."""

    plan: Plan
    call_id: CallId
    """The pool's id of the call."""
    outcome: Outcome
    status: int
    """Of the final response to the INVITE; 0 without one."""
    why: str = ""
    tried: Sequence[UdpAddress] = ()
    """Where the INVITE was sent, in turn."""
    retransmissions: int = 0
    """Of the INVITE."""
    forks: int = 0
    """Further dialogs that its INVITE has made."""
    bye_status: int = 0
    """What our BYE was answered with: 408 for silence, 0 when we sent none."""
    byes: int = 0
    """How many addresses our BYE was sent to, in turn."""
    hung_up_by: str = ""
    """`caller`, or `peer` with the Reason header of its BYE."""
    marks_ns: Mapping[str, int] = field(default_factory=dict)
    """Unix time in ns of: invite, trying, ringing, answered or refused, bye, ended."""
    packets: int = 0
    """RTP packets received between answer and end."""
    longest_gap_ms: float | None = None
    """Longest time without RTP between answer and end; None when no RTP was sent."""

    @property
    def was_hung_up(self) -> bool:
        """Whether our BYE has ended the call.

        Answered with 200; or, sent again to another dispatcher because the first one died on it (RFC 3263 section 4.3),
        with what a worker says that had got it from the first: 481, or 500 for a CSeq that is not new (RFC 3261
        section 12.2.2).
        """
        return self.bye_status == 200 or (self.byes > 1 and self.bye_status in (481, 500))


def plan(
    seed: int,
    seconds: float,
    rate: float,
    dispatchers: Sequence[UdpAddress],
    hold_s: tuple[float, float],
    cancelled: float = 0.0,
) -> list[Plan]:
    """Returns the calls of a Poisson process of a fixed number of calls, in order of time; the same for the same seed.

    `hold_s` are the shortest and the longest call; `cancelled` is the share of calls that is given up in the first
    second.
    """
    draw = random.Random(seed)
    return [
        Plan(
            at_s=at_s,
            to=draw.choice(dispatchers),
            hold_s=draw.uniform(*hold_s),
            give_up_s=draw.uniform(0.0, 1.0) if draw.random() < cancelled else None,
        )
        for at_s in sorted(draw.uniform(0, seconds) for _ in range(round(rate * seconds)))
    ]


class Traffic:
    """Makes planned calls, with RTP if a running RtpLoad is given. Its records are for `hear`."""

    def __init__(self, caller: SipCaller, rtp: RtpLoad | None = None) -> None:
        self._caller = caller
        self._rtp = rtp
        self._sdp = offer(caller.host, rtp.port if rtp else NO_MEDIA_PORT)
        self.up: set[CallId] = set()
        """Calls that are answered and not over yet."""

    async def run(self, plans: Sequence[Plan]) -> list[CallResult]:
        """Makes the calls and returns what came of each, in the order of the plans, once all are over."""
        start = self._caller.loop.time()
        async with asyncio.TaskGroup() as tasks:
            calling = []
            for number, planned in enumerate(plans):
                await asyncio.sleep(start + planned.at_s - self._caller.loop.time())
                calling.append(tasks.create_task(self._call(number, planned)))
        return [task.result() for task in calling]

    async def _call(self, number: int, planned: Plan) -> CallResult:
        dialog = self._caller.dialog(*planned.to, planned.called)
        try:
            await dialog.invite(self._sdp, ANSWER_S if planned.give_up_s is None else planned.give_up_s)
        except Refused as refused:
            return await self._without_answer(planned, dialog, refused)
        call_id = _call_id(dialog)
        self.up.add(call_id)
        try:
            bye_status = await self._talk(number, planned, dialog)
        finally:
            self.up.discard(call_id)
        if bye_status == 408:
            return _result(planned, dialog, Outcome.FAILED, "BYE was not answered", bye_status)
        return _result(planned, dialog, Outcome.ANSWERED, "", bye_status)

    async def _without_answer(self, planned: Plan, dialog: Dialog, refused: Refused) -> CallResult:
        if dialog.decided.is_set():
            outcome = Outcome.REFUSED if dialog.status else Outcome.FAILED
            return _result(planned, dialog, outcome, str(refused))
        try:
            async with asyncio.timeout(LIFETIME_S):  # RFC 3261 section 9.1
                await dialog.decided.wait()
        except TimeoutError:
            pass
        if planned.give_up_s is None:
            return _result(planned, dialog, Outcome.FAILED, "it rang for too long")
        if not dialog.status and dialog.marks_ns.keys() & {"trying", "ringing"}:
            return _result(planned, dialog, Outcome.FAILED, "CANCEL came to nothing")
        return _result(planned, dialog, Outcome.CANCELLED)

    async def _talk(self, number: int, planned: Plan, dialog: Dialog) -> int:
        """Holds the call until it is over; returns what our BYE was answered with, 0 when the peer was first."""
        if self._rtp:
            answer = parse_answer(dialog.body)
            await self._rtp.add(number, answer.host, answer.port, answer.payload_type)
        try:
            async with asyncio.timeout(planned.hold_s):
                await dialog.ended.wait()
            return 0
        except TimeoutError:
            return await dialog.bye(len(dialog.tried) * LIFETIME_S + LIFETIME_S)
        finally:
            if self._rtp:
                await self._rtp.remove(number)


def hear(results: Sequence[CallResult], packets: Packets) -> list[CallResult]:
    """Returns the results of one `run` with what their callers have heard."""
    received = packets.received()
    received = received[np.argsort(received["call"], kind="stable")]
    begins = np.searchsorted(received["call"], np.arange(len(results) + 1))
    times = np.asarray(received["time_ns"], dtype=np.int64)
    return [
        _heard(result, times[first:end]) for result, first, end in zip(results, begins[:-1], begins[1:], strict=True)
    ]


def _heard(result: CallResult, arrived_ns: NDArray[np.int64]) -> CallResult:
    if result.outcome is not Outcome.ANSWERED:
        return result
    begin, end = result.marks_ns["answered"], result.marks_ns["bye"]
    inside = arrived_ns[(arrived_ns >= begin) & (arrived_ns < end)]
    gaps = np.diff(np.concatenate([[begin], inside, [end]]))
    return replace(result, packets=len(inside), longest_gap_ms=round(float(gaps.max()) / 1e6, 1))


def _call_id(dialog: Dialog) -> CallId:
    return call_id_for(dialog.call_id, dialog.from_tag)


def _result(planned: Plan, dialog: Dialog, outcome: Outcome, why: str = "", bye_status: int = 0) -> CallResult:
    return CallResult(
        plan=planned,
        call_id=_call_id(dialog),
        outcome=outcome,
        status=dialog.status,
        why=why,
        tried=tuple(dialog.tried),
        retransmissions=dialog.retransmissions,
        forks=dialog.forks,
        bye_status=bye_status,
        byes=dialog.byes,
        hung_up_by=dialog.end_reason,
        marks_ns=dict(dialog.marks_ns),
    )
