"""SIGTERM to a pod: calls in progress run on to their end, new ones go elsewhere, then the processes end."""

import signal
from pathlib import Path

from shared.ending import CallEnd
from tests.acceptance.pool import alive, running_pool, until
from tests.acceptance.raw_sip import RawCaller
from tests.acceptance.telephone import assert_talked, finish, ring, ringing, wait_for_leases


def test_a_draining_pod_finishes_its_calls_and_ends(tmp_path: Path) -> None:
    with running_pool(tmp_path, workers=2) as pool:
        workers = [int(worker["pid"]) for worker in pool.workers()]
        with ringing(pool) as phone:
            wait_for_leases(pool, 1)
            pool.supervisor.signal(signal.SIGTERM)
            with RawCaller(pool.sip_host, pool.sip_port) as caller:
                until(lambda: caller.options() == 503, 10.0, "a draining pool still offers itself")
            (refused,) = ring(pool)
            assert refused.report["status"] == 503, f"{refused.report}\n{pool.tails()}"
            assert pool.supervisor.running, "the pod left before its call"
            (call,) = finish(phone, pool)
        assert_talked(pool, call)
        assert pool.record(call.call_id).reason == CallEnd.CALLER_HANGUP
        assert pool.supervisor.wait(timeout_s=30.0) == 0
        assert not [pid for pid in workers if alive(pid)]
