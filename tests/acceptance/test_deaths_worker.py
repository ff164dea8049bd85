"""A worker, or the supervisor of its pod, dies or hangs: what callers on it, elsewhere, and new ones experience.

In each test there are two workers, each with a caller in progress and one who hears ringing.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from admin.ports import free_tcp_port
from shared.control.keys import HEARTBEAT_TTL_S
from shared.ending import CallEnd
from tests.acceptance.callers import PAUSE_MAX_S, Caller, Callers
from tests.acceptance.pool import Layout, Pool, running_pool, until
from tests.acceptance.process import START_S, Event

RELEASED_WITHIN_S = HEARTBEAT_TTL_S + 1.0
"""The stated time from the death of a worker to the BYE that its callers get."""

MOVED_WITHIN_S = RELEASED_WITHIN_S + 2.0
"""From there to the answer of another worker, for who hears ringing: it has to be placed, and a session opened."""

HUNG_MAX_S = 20.0
"""Longest wait for a supervisor to kill a worker that hangs; it takes 10 s to be sure and 2 s to do so."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    with running_pool(tmp_path_factory.mktemp("pool"), Layout(dispatchers=2, pods=2), workers=1) as pool:
        yield pool


@dataclass(frozen=True)
class Scene:
    pool: Pool
    callers: Callers
    victim: Event
    """The worker that the fault befalls."""
    talking: Caller
    """In progress there."""
    ringing: Caller
    """And one whose session is not open yet."""
    talking_elsewhere: Caller
    ringing_elsewhere: Caller

    @property
    def victim_id(self) -> str:
        return str(self.victim["worker"])

    def settle(self, *others: Caller) -> None:
        """Ends what goes on and fails unless everything is accounted for."""
        for caller in (self.talking, self.ringing, self.talking_elsewhere, self.ringing_elsewhere, *others):
            if caller.answered() and not caller.end_reason:
                assert caller.hang_up() == 200
        self.pool.assert_settled(self.callers.call_ids)

    def assert_undisturbed(self, since: float) -> None:
        """Fails unless those on the other worker have noticed nothing."""
        assert self.talking_elsewhere.longest_pause_s(since) < PAUSE_MAX_S
        assert not self.talking_elsewhere.end_reason
        self.ringing_elsewhere.answered().hears()

    def assert_given_up(self, since: float) -> None:
        """Fails unless the victim's callers are told so in time, and the one who rang has gone to the other worker."""
        assert self.talking.hung_up_on() - since < RELEASED_WITHIN_S
        assert "worker lost" in self.talking.end_reason
        self.ringing.answered().hears()
        assert self.ringing.seconds_to("answered", since) < MOVED_WITHIN_S
        assert self.pool.worker_of(self.ringing.call_id)["worker"] != self.victim_id


@pytest.fixture
def scene(shared: Pool) -> Iterator[Scene]:
    pool = shared
    until(lambda: len(pool.live_workers()) == 2, START_S, pool.tails)
    pool.wait_until_seen(2)
    with Callers(pool) as callers:
        talking = callers.one_on_each(lambda: callers.call().answered())
        for caller in talking.values():
            caller.hears()
        ringing = callers.one_on_each(callers.ring)
        victim, other = pool.live_workers()
        mine, theirs = str(victim["worker"]), str(other["worker"])
        yield Scene(pool, callers, victim, talking[mine], ringing[mine], talking[theirs], ringing[theirs])


def test_killed_its_callers_get_a_bye_ringing_ones_move_and_new_ones_notice_nothing(scene: Scene) -> None:
    """A worker is killed.

    In progress: BYE within RELEASED_WITHIN_S. Ringing: it goes on ringing and is answered by another worker. New:
    answered at once by the other worker. Nobody elsewhere notices. The supervisor starts another worker.
    """
    pool, since = scene.pool, time.time()
    pool.kill_worker(scene.victim_id)
    new = [scene.callers.call(number).answered() for number in range(2)]
    assert max(caller.seconds_to("answered", since) for caller in new) < RELEASED_WITHIN_S
    scene.assert_given_up(since)
    scene.assert_undisturbed(since)
    scene.settle(*new)
    assert pool.endings(scene.talking.call_id) == [CallEnd.WORKER_LOST]
    assert pool.endings(scene.ringing.call_id) == [CallEnd.CALLER_HANGUP], "a worker had it before"


def test_frozen_it_is_given_up_as_if_killed_and_then_is_killed_and_replaced(scene: Scene) -> None:
    """A worker hangs for good.

    In progress: silence, then BYE within RELEASED_WITHIN_S. Ringing: answered by another worker. New: answered by
    another worker, at once or after it was offered to the one that hangs. Its supervisor kills it and starts another.
    """
    pool, since = scene.pool, time.time()
    pool.freeze_worker(scene.victim_id)
    new = [scene.callers.call(number) for number in (0, 1, 0, 1)]
    scene.assert_given_up(since)
    for caller in new:
        assert caller.answered().seconds_to("answered", since) < MOVED_WITHIN_S
    scene.assert_undisturbed(since)
    until(lambda: scene.victim not in pool.live_workers(), HUNG_MAX_S, pool.tails)
    until(lambda: len(pool.live_workers()) == 2, START_S, pool.tails)
    scene.settle(*new)


def test_frozen_and_thawed_after_it_was_given_up_it_lets_its_calls_go_and_takes_new_ones(scene: Scene) -> None:
    """A worker hangs for longer than HEARTBEAT_TTL_S and comes back.

    In progress and ringing: as if it had died. Then it drops what is no longer its own, and takes calls again.
    """
    pool, since = scene.pool, time.time()
    pool.freeze_worker(scene.victim_id)
    scene.assert_given_up(since)
    pool.thaw_worker(scene.victim_id)
    scene.assert_undisturbed(since)
    pod = pool.supervisor_of(scene.victim)
    let_go = {scene.talking.call_id, scene.ringing.call_id}
    pod.wait_for("call.ended", count=len(let_go), where=lambda event: event["call_id"] in let_go)
    assert not scene.ringing.end_reason, "the call that has moved was ended"
    assert scene.victim in pool.live_workers()
    pool.wait_until_seen(2)
    new = [scene.callers.call() for _ in range(3)]
    assert scene.victim in [pool.worker_of(caller.answered().call_id) for caller in new]
    scene.settle(*new)
    assert scene.ringing.forks <= 1  # the thawed worker's own 200, late; it has been hung up


def test_frozen_and_thawed_soon_after_nothing_is_lost(scene: Scene) -> None:
    """A worker hangs for less than HEARTBEAT_TTL_S.

    In progress: a pause. Ringing: it takes longer. New: answered elsewhere if it was offered to this one in vain.
    """
    pool, since = scene.pool, time.time()
    pool.freeze_worker(scene.victim_id)
    new = [scene.callers.call() for _ in range(2)]
    for caller in new:
        caller.answered()  # by the other worker, one of them after SILENCE_S of the dispatcher
    pool.thaw_worker(scene.victim_id)
    assert time.time() - since < HEARTBEAT_TTL_S, "the machine is too busy for this test"
    scene.talking.hears()
    scene.ringing.answered().hears()
    scene.assert_undisturbed(since)
    for caller in (scene.talking, scene.ringing):
        assert not caller.end_reason and pool.worker_of(caller.call_id) == scene.victim
    scene.settle(*new)


def test_its_supervisor_killed_it_finishes_its_calls_and_leaves(scene: Scene) -> None:
    """A supervisor is killed: its worker, which nobody would watch any more, drains.

    In progress and ringing: they notice nothing. New: answered by the other pod. After the last call it is gone.
    """
    pool, since = scene.pool, time.time()
    number = pool.supervisors.index(pool.supervisor_of(scene.victim))
    pool.kill_supervisor(number)
    pool.supervisors[number].wait_for("worker.supervisor_gone")
    new = [scene.callers.call(number).answered() for number in (0, 1, 0, 1)]
    assert scene.talking.longest_pause_s(since) < PAUSE_MAX_S
    scene.ringing.answered().hears()
    scene.assert_undisturbed(since)
    assert scene.victim in pool.live_workers(), "it left before its calls"
    scene.settle(*new)
    until(lambda: scene.victim not in pool.live_workers(), START_S, pool.tails)
    with Callers(pool) as callers:
        last = callers.call().answered()
        assert last.hang_up() == 200
        pool.assert_settled([last.call_id])


def test_its_replacement_at_the_same_address_gets_the_calls_before_anybody_has_missed_it(tmp_path: Path) -> None:
    """A worker is killed, and replaced within HEARTBEAT_TTL_S. New: answered by the replacement, at once."""
    sip_port = free_tcp_port()  # among others than the media ports
    with running_pool(tmp_path, workers=1, WORKER_SIP_PORT=str(sip_port)) as pool, Callers(pool) as callers:
        pool.kill_worker(*pool.ready())
        _, replacement = pool.supervisor.wait_for("worker.ready", count=2)
        until(lambda: replacement["worker"] in pool.ready(), START_S, pool.tails)
        for caller in [callers.call() for _ in range(6)]:
            caller.answered()
        callers.hang_up()
        pool.assert_settled(callers.call_ids)
