"""A worker dies with a call on it: its lease is freed, the record says so, another one takes its place."""

import os
import signal
from pathlib import Path

from shared.control import keys
from shared.ending import CallEnd, CallResult
from shared.ids import CallId
from tests.acceptance.pool import alive, running_pool, until
from tests.acceptance.process import START_S
from tests.acceptance.telephone import assert_talked, ring, ringing, wait_for_leases

FREED_WITHIN_S = keys.HEARTBEAT_TTL_S + keys.REAP_INTERVAL_S
"""The stated time. Waited for three times as long: the machine may be busy, and speed is not what is tested here."""


def test_a_killed_worker_is_replaced_and_its_lease_freed(tmp_path: Path) -> None:
    with running_pool(tmp_path, workers=2) as pool:
        with ringing(pool, "--hold-until-bye"):
            wait_for_leases(pool, 1)
            (call_id,) = pool.leases()
            until(lambda: len(pool.sessions(running=True)) == 1, 20.0, "the call did not get through")
            victim = pool.worker_of(call_id)
            os.kill(int(victim["pid"]), signal.SIGKILL)
            (next_call,) = ring(pool, "--turns", "0")
            assert next_call.report["ok"], f"{next_call.report}\n{pool.tails()}"
            until(lambda: call_id not in pool.leases(), 3 * FREED_WITHIN_S, lambda: f"still leased\n{pool.tails()}")
        record = pool.record(CallId(call_id))
        assert (record.result, record.reason) == (CallResult.LOST, CallEnd.WORKER_LOST)
        assert record.worker_id == victim["worker"]
        replacement = pool.supervisor.wait_for("worker.ready", count=3, timeout_s=START_S)[2]
        assert alive(int(replacement["pid"]))
        assert replacement["worker"] != victim["worker"]
        pool.wait_until_placeable()
        for call in ring(pool, "--calls", "4", "--stagger-ms", "100"):
            assert_talked(pool, call)
