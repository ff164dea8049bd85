"""Planned calls and what is told of each of them, with a real dispatcher and workers without media, and with RTP."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.load.packets import RECEIVED, RECORD, Packets
from bench.load.rtp import RtpLoad
from bench.load.silent_worker import SilentWorker
from bench.load.sip import AnsweredCall, ProxySet, SipAnswerer, SipCaller, offer
from bench.load.traffic import CallResult, Outcome, Plan, Traffic, hear, plan
from shared.control.connection import connect
from shared.control.leases import Leases
from shared.control.workers import Workers
from shared.ids import CallId
from tests.integration.test_dispatcher_process import dispatcher
from tests.unit.dispatcher.ladder import SECRET
from tests.unit.dispatcher.wire import PATIENCE_S

HOST = "127.0.0.1"
NOBODY = [(HOST, 1), (HOST, 2)]


@asynccontextmanager
async def silent_worker(redis_url: str) -> AsyncIterator[Leases]:
    """Registers a worker without media for the block."""
    async with connect(redis_url, timeout_s=PATIENCE_S) as redis, asyncio.TaskGroup() as tasks:
        leases = Leases(redis)
        worker = SilentWorker(HOST, 0, 1000, Workers(redis), leases, SECRET, tasks)
        await worker.register()
        yield leases
        worker.close()


async def until_placeable(caller: SipCaller, address: tuple[str, int]) -> None:
    """Asks again and again: nobody announces that a dispatcher has seen the worker."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if await caller.options(*address) == 200:
                return
            await asyncio.sleep(0.05)


def summary(result: CallResult) -> tuple[Outcome, int, str, int]:
    return result.outcome, result.status, result.hung_up_by, result.bye_status


def test_the_same_seed_plans_the_same_calls() -> None:
    plans = plan(7, 60.0, 20.0, NOBODY, (1.0, 3.0), cancelled=0.1)
    assert plans == plan(7, 60.0, 20.0, NOBODY, (1.0, 3.0), cancelled=0.1)
    assert plans != plan(8, 60.0, 20.0, NOBODY, (1.0, 3.0), cancelled=0.1)
    assert len(plans) == 1200
    assert [each.at_s for each in plans] == sorted(each.at_s for each in plans)
    assert {each.to for each in plans} == set(NOBODY)
    assert all(1.0 <= each.hold_s <= 3.0 for each in plans)
    assert 80 <= sum(each.give_up_s is not None for each in plans) <= 160


async def test_many_calls_through_two_dispatchers_of_which_one_dies(redis_url: str, tmp_path: Path) -> None:
    async with (
        silent_worker(redis_url),
        dispatcher(tmp_path, redis_url, SIP_INVITE_RATE="1000") as first,
        dispatcher(tmp_path, redis_url, SIP_INVITE_RATE="1000") as second,
    ):
        addresses = [(HOST, first.port), (HOST, second.port)]
        async with SipCaller.open(HOST, ProxySet(addresses, silence_s=1.0)) as caller:
            for address in addresses:
                await until_placeable(caller, address)
            planned = plan(1, 2.0, 20.0, addresses, (0.1, 0.3))
            traffic = Traffic(caller)
            assert [summary(result) for result in await traffic.run(planned)] == [
                (Outcome.ANSWERED, 200, "caller", 200)
            ] * len(planned)
            assert not traffic.up
            first.process.kill()
            await first.process.wait()
            results = await traffic.run(planned)
        assert [summary(result) for result in results] == [(Outcome.ANSWERED, 200, "caller", 200)] * len(planned)
        assert all(result.tried[-1] == addresses[1] for result in results)
        assert any(result.tried[0] == addresses[0] for result in results)


class Answerer(SipAnswerer):
    """Gives the same status to every call, or leaves it to the test."""

    def __init__(self, status: int | None, sdp: str) -> None:
        super().__init__(HOST, sdp, self._on_call)
        self.calls: asyncio.Queue[AnsweredCall] = asyncio.Queue()
        self._status = status

    def _on_call(self, call: AnsweredCall, received_ns: int) -> int | None:
        self.calls.put_nowait(call)
        return self._status


@asynccontextmanager
async def answered_by(status: int | None, sdp: str = "") -> AsyncIterator[tuple[Answerer, SipCaller]]:
    """Yields an answerer that gives this status to every call, and a caller."""
    answerer = Answerer(status, sdp or offer(HOST, 40_000))
    async with SipCaller.open(HOST) as caller:
        yield answerer, caller
    answerer.close()


async def test_each_outcome_is_told_apart() -> None:
    async with answered_by(503) as (answerer, caller):
        [refused] = await Traffic(caller).run([Plan(0.0, (HOST, answerer.port), 1.0)])
    assert summary(refused) == (Outcome.REFUSED, 503, "", 0)
    assert refused.why == "503 Service Unavailable"
    async with answered_by(None) as (answerer, caller):
        [cancelled] = await Traffic(caller).run([Plan(0.0, (HOST, answerer.port), 1.0, give_up_s=0.05)])
    assert summary(cancelled) == (Outcome.CANCELLED, 487, "", 0)
    async with SipCaller.open(HOST, ProxySet([(HOST, 9)], silence_s=0.05)) as caller:
        [failed] = await Traffic(caller).run([Plan(0.0, (HOST, 9), 1.0)])
    assert summary(failed) == (Outcome.FAILED, 0, "", 0)
    assert failed.why == "408 silent"


async def test_a_call_that_the_other_side_ends_is_told_with_its_times() -> None:
    async with answered_by(None) as (answerer, caller), asyncio.TaskGroup() as tasks:
        calling = tasks.create_task(Traffic(caller).run([Plan(0.0, (HOST, answerer.port), 30.0)]))
        call = await answerer.calls.get()
        answerer.answer(call, 200)
        assert await answerer.bye(call) == 200
        [result] = await calling
    assert summary(result) == (Outcome.ANSWERED, 200, "peer", 0)
    marks = result.marks_ns
    assert marks["invite"] <= marks["ringing"] <= marks["answered"] <= marks["bye"] <= marks["ended"]


async def test_rtp_is_counted_between_answer_and_end(tmp_path: Path) -> None:
    async with RtpLoad(tmp_path / "far", HOST) as far, RtpLoad(tmp_path / "near", HOST) as near:
        await near.record(True)
        await far.add(0, HOST, near.port, 0)
        async with answered_by(200, offer(HOST, far.port)) as (answerer, caller):
            results = await Traffic(caller, near).run([Plan(0.0, (HOST, answerer.port), 0.5)])
        [heard] = hear(results, await near.finish())
    assert heard.outcome is Outcome.ANSWERED
    assert 10 <= heard.packets <= 30
    assert heard.longest_gap_ms is not None and heard.longest_gap_ms >= 19


def test_a_gap_counts_from_the_answer_and_to_the_end() -> None:
    answered = CallResult(
        Plan(0.0, NOBODY[0], 1.0),
        CallId("a"),
        Outcome.ANSWERED,
        200,
        marks_ns={"answered": 0, "bye": 1_000_000_000},
    )
    records = np.zeros(4, RECORD)
    records["kind"] = RECEIVED
    records["call"] = [2, 0, 2, 0]
    records["time_ns"] = [500_000_000, 300_000_000, 520_000_000, 400_000_000]
    refused = replace(answered, outcome=Outcome.REFUSED)
    heard = hear([answered, refused, answered], Packets(records))
    assert [(result.packets, result.longest_gap_ms) for result in heard] == [(2, 600.0), (0, None), (2, 500.0)]
    assert hear([answered], Packets(records[:0]))[0].longest_gap_ms == pytest.approx(1000.0)
