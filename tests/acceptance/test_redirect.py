"""Redirect mode: the dispatcher answers 302, the caller goes to the worker itself, the token travels in the URI."""

from pathlib import Path

from shared.ending import CallEnd
from tests.acceptance.pool import running_pool
from tests.acceptance.telephone import assert_heard_back, ring


def test_a_redirected_call_is_carried_like_any_other(tmp_path: Path) -> None:
    with running_pool(tmp_path, workers=1, DISPATCH_MODE="redirect") as pool:
        (call,) = ring(pool)
        assert_heard_back(pool, call)
        assert "refused" in call.marks, "the dispatcher did not answer 302"
        assert pool.record(call.call_id).reason == CallEnd.CALLER_HANGUP
