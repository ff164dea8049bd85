"""Draining: no new calls, those there are go on to their end, and what was drained by an operator can be undrained."""

import signal
from collections.abc import Iterator

import pytest

from admin.operations.shapes import Result
from shared.ending import CallEnd
from shared.messages import CommandName
from tests.acceptance.callers import Callers
from tests.acceptance.pool import Layout, Pool, running_pool
from tests.acceptance.process import START_S
from tests.acceptance.raw_sip import RawCaller


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with running_pool(tmp_path_factory.mktemp("pool"), Layout(dispatchers=2, pods=2), workers=1) as pool:
        yield pool


@pytest.fixture
def callers(pool: Pool) -> Iterator[Callers]:
    """Two workers are there, the one of a pod that has been stopped by the test before replaced."""
    if len(pool.live_workers()) < 2:
        pool.start_pod(1).wait_for("worker.ready", timeout_s=START_S)
    pool.wait_until_seen(2)
    with Callers(pool) as callers:
        yield callers


def command(pool: Pool, name: CommandName, *wanted: str, everything: bool = False) -> None:
    """Has processes carry out a command; fails unless each of them does."""
    outcomes = pool.operate(name, *wanted, everything=everything)
    assert outcomes and all(outcome.result is Result.DONE for outcome in outcomes), outcomes


def options(pool: Pool, dispatcher: int) -> int:
    """Returns what a dispatcher answers to OPTIONS."""
    with RawCaller(*pool.addresses[dispatcher]) as caller:
        return caller.options()


def test_a_drained_worker_keeps_its_calls_gets_no_new_ones_and_gets_them_again_undrained(
    pool: Pool, callers: Callers
) -> None:
    talking = callers.call().answered()
    worker = pool.worker_of(talking.call_id)
    pod = pool.supervisor_of(worker)
    command(pool, CommandName.DRAIN, str(worker["worker"]))
    pod.wait_for("worker.state", where=lambda event: event["after"] == "draining")
    for number in (0, 1, 0, 1):
        caller = callers.call(number).answered()
        assert pool.worker_of(caller.call_id) != worker
    talking.hears()
    callers.hang_up()
    pool.assert_settled(callers.call_ids)
    assert worker in pool.live_workers(), "who is drained by an operator stays"
    command(pool, CommandName.UNDRAIN, str(worker["worker"]))
    pool.wait_until_seen(2)
    assert str(worker["worker"]) in callers.one_on_each(lambda: callers.call().answered())
    callers.hang_up()
    pool.assert_settled(callers.call_ids)


def test_a_drained_dispatcher_says_so_to_options_and_carries_what_there_is(pool: Pool, callers: Callers) -> None:
    talking = callers.call(0).answered()
    dispatcher = pool.dispatcher_id(0)
    command(pool, CommandName.DRAIN, dispatcher)
    assert (options(pool, 0), options(pool, 1)) == (503, 200)
    new = callers.call(0).answered()
    assert new.tried == 2, "it has taken a new call"
    talking.hears()
    assert (talking.hang_up(), new.hang_up()) == (200, 200)
    command(pool, CommandName.UNDRAIN, dispatcher)
    assert options(pool, 0) == 200
    pool.assert_settled(callers.call_ids)


def test_everything_drained_refuses_all_new_calls_until_it_is_undrained(pool: Pool, callers: Callers) -> None:
    talking = callers.call().answered()
    command(pool, CommandName.DRAIN, everything=True)
    assert (options(pool, 0), options(pool, 1)) == (503, 503)
    refused = callers.call()
    assert refused.final() == 503
    assert refused.tried == 2
    talking.hears()
    assert talking.hang_up() == 200
    command(pool, CommandName.UNDRAIN, everything=True)
    pool.wait_until_seen(2)
    new = callers.call().answered()
    assert new.hang_up() == 200
    pool.assert_settled([talking.call_id, new.call_id])


def test_told_to_stop_twice_a_pod_finishes_its_calls_and_leaves_the_table(pool: Pool, callers: Callers) -> None:
    """SIGTERM, and a second one, which changes nothing; the rest of the pool goes on."""
    talking = callers.call().answered()
    worker = pool.worker_of(talking.call_id)
    pod = pool.supervisor_of(worker)
    for already_stopping in (False, True):
        pod.signal(signal.SIGTERM)
        pod.wait_for("supervisor.signal", where=lambda event: event["already_stopping"] is already_stopping)  # noqa: B023
    pool.wait_until_seen(1)
    for number in range(2):
        assert pool.worker_of(callers.call(number).answered().call_id) != worker
    talking.hears()
    assert pod.running and worker in pool.live_workers(), "it left before its call"
    callers.hang_up()
    assert pod.wait(START_S) == 0
    assert worker["worker"] not in pool.registered()
    pool.assert_settled(callers.call_ids)
    assert pool.endings(talking.call_id) == [CallEnd.CALLER_HANGUP]


def test_a_draining_pod_that_is_killed_is_a_crash_like_any_other(pool: Pool, callers: Callers) -> None:
    """SIGTERM, then SIGKILL to the supervisor and the worker, with a call in progress: BYE, and nothing is left."""
    talking = callers.one_on_each(lambda: callers.call().answered())
    worker = pool.live_workers()[0]
    pod, caller = pool.supervisor_of(worker), talking[str(worker["worker"])]
    pod.signal(signal.SIGTERM)
    pod.wait_for("worker.state", where=lambda event: event["after"] == "draining")
    pool.kill_supervisor(pool.supervisors.index(pod))
    pool.kill_worker(str(worker["worker"]))
    caller.hung_up_on()
    callers.hang_up()
    pool.assert_settled(callers.call_ids)
    assert pool.endings(caller.call_id) == [CallEnd.WORKER_LOST]
