"""Voice Live refuses or stalls before a call is answered: it is asked again where that helps, and the caller is told.

What happens to a call that has been answered is in `test_reconnect.py`.
"""

from pathlib import Path

import pytest

from shared.ending import CallEnd, CallResult
from tests.acceptance.pool import Pool, running_pool
from tests.acceptance.telephone import PhoneCall, assert_answered, ring

UNTIRING = 1000
"""As many refusals as anybody asks for."""


def handshakes_failed(pool: Pool) -> int:
    """Returns how many handshakes the simulator has failed so far."""
    return len(pool.simulator.events("handshake fault"))


def assert_refused(pool: Pool, call: PhoneCall, status: int, reason: CallEnd) -> None:
    """Fails unless the caller got this status, and each worker that was asked wrote a record with this reason."""
    assert not call.report["ok"]
    assert call.report["status"] == status, f"{call.report}\n{pool.tails()}"
    pool.wait_until_idle()
    records = pool.records(call.call_id)
    assert records
    assert {(record.result, record.reason) for record in records} == {(CallResult.FAILED, reason)}


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, CallEnd.SESSION_UNAUTHORIZED),
        (403, CallEnd.SESSION_FORBIDDEN),
        (404, CallEnd.SESSION_NOT_FOUND),
    ],
)
def test_a_refusal_that_stays_the_same_is_asked_for_once(pool: Pool, status: int, reason: CallEnd) -> None:
    before = handshakes_failed(pool)
    pool.order_faults(next_handshake={"status": status})
    (call,) = ring(pool)
    assert_refused(pool, call, 500, reason)
    assert handshakes_failed(pool) == before + 1, "it was asked again for this call"
    cut_off = pool.supervisor.events("voicelive.cut_off")
    pool.supervisor.wait_for("voicelive.reached", count=len(cut_off))
    pool.wait_until_placeable()
    assert_answered(pool)


def test_a_caller_waits_as_long_as_a_throttled_service_asks_for(pool: Pool) -> None:
    pool.order_faults(next_handshake={"status": 429, "retry_after": 1})
    (call,) = ring(pool, "--turns", "0")
    assert call.report["ok"], f"{call.report}\n{pool.tails()}"
    marks = dict(pool.record(call.call_id).marks)
    assert marks["session_ready"] - marks["claimed"] >= 1000


def test_a_caller_does_not_notice_a_service_that_is_back_at_once(pool: Pool) -> None:
    before = handshakes_failed(pool)
    pool.order_faults(next_handshake={"status": 503})
    assert_answered(pool)
    assert handshakes_failed(pool) == before + 1


def test_a_caller_gets_503_when_there_is_no_session_in_time(tmp_path: Path) -> None:
    with running_pool(tmp_path, workers=1, VOICE_LIVE_CONNECT_TIMEOUT_S="1.5") as pool:
        pool.order_faults(next_handshake={"stall": True, "count": UNTIRING})
        (call,) = ring(pool, "--ring-timeout", "25")
        assert_refused(pool, call, 503, CallEnd.SESSION_UNAVAILABLE)
        pool.order_faults(next_handshake={"status": 429, "count": UNTIRING})
        (call,) = ring(pool, "--ring-timeout", "25")
        assert_refused(pool, call, 503, CallEnd.SESSION_THROTTLED)
        assert handshakes_failed(pool) > 2, "it was not asked again"
        pool.forget_faults()
        assert_answered(pool)
