"""What a worker is told to do while it carries calls, by operators and by the pool, and what it tells the pool."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest
from redis.asyncio import Redis

from shared.control.calls import RunningCalls
from shared.control.commands import Commands
from shared.control.connection import connect
from shared.control.leases import Leases
from shared.control.workers import WorkerRow, Workers
from shared.ending import CallEnd, CallResult
from shared.errors import CommandFailed
from shared.ids import CallId, WorkerId, new_command_id
from shared.messages import CallRecord, Command, CommandName, Lease
from shared.states import WorkerState
from tests.acceptance.pool import Layout, Pool, running_pool, until
from tests.acceptance.telephone import assert_answered, assert_talked, finish, ring, ringing, wait_for_leases

T = TypeVar("T")

DESK = "sip:desk@pbx.example"
ANSWERED_S = 20.0
CHANGED_S = 20.0


def ask(pool: Pool, question: Callable[[Redis], Awaitable[T]]) -> T:
    """Returns what the pool's Redis answers."""

    async def asking() -> T:
        async with connect(pool.redis_server.url) as redis:
            return await question(redis)

    return asyncio.run(asking())


def order(pool: Pool, name: CommandName, worker_id: str, call: CallId | None = None, argument: str = "") -> None:
    """Has a worker carry out a command; raises CommandFailed."""
    command = Command(command_id=new_command_id(), name=name, call_id=call, argument=argument)
    ask(pool, lambda redis: Commands(redis).run(WorkerId(worker_id), command))


def answered_call(pool: Pool) -> Lease:
    """Returns the lease of the only call once the pool knows its dialog."""
    found: list[Lease] = []

    def look() -> bool:
        rows = ask(pool, lambda redis: RunningCalls(redis).table())
        found[:] = [row.lease for row in rows if row.lease.dialog is not None]
        return bool(found)

    until(look, ANSWERED_S, lambda: f"no dialog\n{pool.tails()}")
    (lease,) = found
    return lease


def table(pool: Pool) -> dict[str, WorkerRow]:
    """Returns the worker table by worker."""
    return {row.record.worker_id: row for row in ask(pool, lambda redis: Workers(redis).table())}


def test_the_pool_knows_the_dialog_of_an_answered_call(pool: Pool) -> None:
    with ringing(pool, "--hold-until-bye") as phone:
        lease = answered_call(pool)
        assert lease.dialog is not None and lease.answered_at_ms is not None
        order(pool, CommandName.HANGUP, lease.worker_id, lease.call_id)
        (call,) = finish(phone, pool)
    assert lease.dialog.call_id.decode() == call.report["sip_call_id"]
    assert call.report["from_tag"].encode() in lease.dialog.remote
    assert b";tag=" in lease.dialog.local
    assert lease.dialog.routes and lease.dialog.target.startswith(b"sip:")
    assert lease.invite_at_ms <= lease.answered_at_ms
    assert call.report["ended_by"] == "pool"
    record = pool.record(lease.call_id)
    assert (record.result, record.reason) == (CallResult.COMPLETED, CallEnd.OPERATOR_HANGUP)


def test_an_operator_has_the_agent_say_something_and_transfers_the_caller(pool: Pool) -> None:
    with ringing(pool, "--refer", "accept", "--hold-until-bye") as phone:
        lease = answered_call(pool)
        order(pool, CommandName.SAY, lease.worker_id, lease.call_id, "We close in five minutes.")
        with pytest.raises(CommandFailed, match="neither"):
            order(pool, CommandName.TRANSFER, lease.worker_id, lease.call_id, "nobody")
        order(pool, CommandName.TRANSFER, lease.worker_id, lease.call_id, DESK)
        (call,) = finish(phone, pool)
    assert call.report["refer_target"] == DESK
    record = pool.record(lease.call_id)
    assert (record.reason, record.transfer) == (CallEnd.TRANSFERRED, "operator")
    assert "We close in five minutes." in [said.text for said in record.transcript if said.role == "agent"]
    assert not [line for line in pool.logs() if "five minutes" in line or "desk@" in line]


def test_after_a_transfer_that_fails_the_conversation_goes_on(pool: Pool) -> None:
    with ringing(pool, "--refer", "busy", "--hold-until-bye") as phone:
        lease = answered_call(pool)
        with pytest.raises(CommandFailed, match="busy"):
            order(pool, CommandName.TRANSFER, lease.worker_id, lease.call_id, DESK)
        order(pool, CommandName.SAY, lease.worker_id, lease.call_id, "Nobody is there.")
        order(pool, CommandName.HANGUP, lease.worker_id, lease.call_id)
        finish(phone, pool)
    assert pool.record(lease.call_id).reason == CallEnd.OPERATOR_HANGUP


def test_a_drained_worker_keeps_its_call_takes_no_other_and_is_undrained(pool: Pool) -> None:
    with ringing(pool, "--hold-until-bye") as phone:
        lease = answered_call(pool)
        drained = lease.worker_id

        def state() -> WorkerState:
            return table(pool)[drained].record.state

        order(pool, CommandName.DRAIN, drained)
        until(lambda: state() == WorkerState.DRAINING, CHANGED_S, "it is not shown as draining")
        (other,) = ring(pool, "--turns", "0")
        assert other.report["ok"], f"{other.report}\n{pool.tails()}"
        assert pool.records(other.call_id)[0].worker_id != drained
        order(pool, CommandName.HANGUP, drained, lease.call_id)
        finish(phone, pool)
    pool.wait_until_idle()
    assert (table(pool)[drained].leased, table(pool)[drained].record.state) == (0, WorkerState.DRAINING)
    order(pool, CommandName.UNDRAIN, drained)
    until(lambda: state() == WorkerState.READY, CHANGED_S, "it is not shown as ready")


def test_what_is_left_when_a_drain_takes_too_long_is_ended_and_the_worker_stays(tmp_path: Path) -> None:
    with running_pool(tmp_path, workers=1, WORKER_DRAIN_S="1") as pool:
        with ringing(pool, "--hold-until-bye") as phone:
            lease = answered_call(pool)
            order(pool, CommandName.DRAIN, lease.worker_id)
            finish(phone, pool)
        assert pool.record(lease.call_id).reason == CallEnd.WORKER_STOPPED
        order(pool, CommandName.UNDRAIN, lease.worker_id)
        pool.wait_until_placeable()
        assert_answered(pool)


def test_a_call_whose_lease_is_lost_is_ended_and_has_one_record(pool: Pool) -> None:
    with ringing(pool, "--hold-until-bye") as phone:
        lease = answered_call(pool)
        record = CallRecord(
            call_id=lease.call_id, lease_id=lease.lease_id, worker_id=lease.worker_id, result=CallResult.LOST,
            reason=CallEnd.WORKER_LOST, invite_at_ms=lease.invite_at_ms, ended_at_ms=lease.invite_at_ms,
        )  # fmt: skip
        assert ask(pool, lambda redis: Leases(redis).release(lease, record))
        (call,) = finish(phone, pool)
    assert call.report["ended_by"] == "pool"
    assert pool.record(lease.call_id) == record


def test_a_worker_that_cannot_reach_voice_live_says_so_until_it_can(tmp_path: Path) -> None:
    with running_pool(tmp_path, workers=1) as pool:
        (worker,) = table(pool)
        pool.order_faults(next_handshake={"status": 401, "count": 1000})
        (call,) = ring(pool)
        assert call.report["status"] == 500
        until(lambda: table(pool)[worker].health.cut_off == [""], CHANGED_S, lambda: f"not cut off\n{pool.tails()}")
        pool.forget_faults()
        until(lambda: table(pool)[worker].health.cut_off == [], CHANGED_S, lambda: f"still cut off\n{pool.tails()}")
        pool.wait_until_placeable()
        assert_answered(pool)


def test_a_caller_hears_of_a_hang_up_although_its_dispatcher_is_dead(tmp_path: Path) -> None:
    with running_pool(tmp_path, Layout(dispatchers=2), workers=1) as pool:
        with ringing(pool, "--hold-until-bye") as phone:
            lease = answered_call(pool)
            pool.kill_dispatcher(0)
            order(pool, CommandName.HANGUP, lease.worker_id, lease.call_id)
            (call,) = finish(phone, pool)
        assert call.report["ended_by"] == "pool"
        assert pool.record(lease.call_id).reason == CallEnd.OPERATOR_HANGUP


def test_a_caller_is_answered_although_its_dispatcher_died_while_it_rang(tmp_path: Path) -> None:
    with running_pool(tmp_path, Layout(dispatchers=2), workers=1, VOICE_LIVE_CONNECT_TIMEOUT_S="8") as pool:
        pool.order_faults(next_handshake={"status": 429, "retry_after": 3})
        # It hears nothing of the greeting, which began a second before the copy of the answer.
        with ringing(pool, "--no-greeting", "--ring-timeout", "25") as phone:
            wait_for_leases(pool, 1)
            until(lambda: bool(pool.simulator.events("handshake fault")), ANSWERED_S, "nobody asked Voice Live")
            pool.kill_dispatcher(0)
            (call,) = finish(phone, pool)
        assert_talked(pool, call)
        assert pool.record(call.call_id).reason == CallEnd.CALLER_HANGUP
