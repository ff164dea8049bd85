"""Redis is gone and comes back empty: calls go on, a new one is placed, and every call has its one record."""

from pathlib import Path

from shared.ending import CallEnd
from tests.acceptance.pool import running_pool, until
from tests.acceptance.process import START_S
from tests.acceptance.telephone import assert_talked, ring, ringing, wait_for_leases
from tests.redis_server import RedisServer


def test_calls_survive_redis_and_new_ones_are_placed_without_it(tmp_path: Path) -> None:
    with running_pool(tmp_path, workers=2) as pool:
        with ringing(pool, "--hold-until-bye"):
            wait_for_leases(pool, 1)
            (running,) = pool.leases()
            until(lambda: len(pool.sessions(running=True)) == 1, 20.0, "the call did not get through")
            pool.redis_server.stop()
            pool.dispatcher.wait_for("control.unavailable")
            (placed_without,) = ring(pool)
            pool.redis_server = RedisServer(tmp_path, pool.redis_server.port)
            pool.wait_until_placeable()
            until(lambda: running in pool.leases(), START_S, lambda: f"the lease is not entered again\n{pool.tails()}")
            assert len(pool.sessions(running=True)) == 1
        assert_talked(pool, placed_without)
        placed = pool.dispatcher.wait_for("call.placed", where=lambda event: event["provisional"])[0]
        assert placed["call_id"] == placed_without.call_id
        assert {record.call_id for record in pool.records()} == {running, placed_without.call_id}
        assert {record.reason for record in pool.records()} == {CallEnd.CALLER_HANGUP}
