"""A pool with one slot: a second call is refused while the first one talks, and has room afterwards."""

from pathlib import Path

from tests.acceptance.pool import running_pool
from tests.acceptance.telephone import assert_answered, ring, ringing, wait_for_leases


def test_a_call_too_many_gets_503_and_one_later_works(tmp_path: Path) -> None:
    with running_pool(tmp_path, workers=1, WORKER_CAPACITY="1") as pool:
        with ringing(pool, "--hold-until-bye"):
            wait_for_leases(pool, 1)
            (second,) = ring(pool)
            assert second.report["status"] == 503, f"{second.report}\n{pool.tails()}"
            assert len(pool.leases()) == 1, "the first call is gone"
        pool.wait_until_idle()
        pool.wait_until_placeable()
        assert_answered(pool)
