"""Voice Live refuses, stalls or goes away: the caller is told in time, and nothing leaks."""

from pathlib import Path

import pytest

from shared.ending import CallEnd, CallResult
from tests.acceptance.pool import Pool, running_pool
from tests.acceptance.telephone import assert_answered, ring


@pytest.mark.parametrize("status", [401, 429])
def test_a_caller_gets_503_when_voice_live_refuses(pool: Pool, status: int) -> None:
    pool.order_faults(next_handshake={"status": status, "count": 20})
    (call,) = ring(pool)
    assert not call.report["ok"]
    assert call.report["status"] == 503, f"{call.report}\n{pool.tails()}"
    pool.wait_until_idle()
    records = pool.records(call.call_id)
    assert records
    assert {record.reason for record in records} == {CallEnd.SESSION_UNAVAILABLE}
    assert {record.result for record in records} == {CallResult.FAILED}
    pool.forget_faults()
    assert_answered(pool)


def test_a_caller_gets_503_when_voice_live_does_not_answer(tmp_path: Path) -> None:
    with running_pool(tmp_path, workers=1, VOICE_LIVE_CONNECT_TIMEOUT_S="1.5") as pool:
        pool.order_faults(next_handshake={"stall": True, "count": 20})
        (call,) = ring(pool, "--ring-timeout", "25")
        assert call.report["status"] == 503, f"{call.report}\n{pool.tails()}"
        pool.wait_until_idle()
        assert {record.reason for record in pool.records(call.call_id)} == {CallEnd.SESSION_UNAVAILABLE}
        pool.forget_faults()
        assert_answered(pool)


def test_a_call_ends_with_bye_when_voice_live_drops(pool: Pool) -> None:
    pool.order_faults(sessions=[{"kind": "abort", "session": "next", "on": "response.audio.delta", "after_s": 1.0}])
    (call,) = ring(pool, "--no-greeting", "--turns", "0", "--hold-until-bye")
    assert call.report["ok"], f"{call.report}\n{pool.tails()}"
    assert call.report["ended_by"] == "pool"
    record = pool.record(call.call_id)
    assert (record.result, record.reason) == (CallResult.FAILED, CallEnd.SESSION_LOST)
