"""Redis restarts empty, is slow, is gone, fails over: callers in progress and ringing go on, new ones are answered.

Without Redis dispatchers place calls from the last table they know, and workers admit them by the signature of the
lease; what happened meanwhile is entered when Redis is back. Nothing of that is to be heard.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis import Redis

from bench.faults.redis import RedisServer
from bench.faults.relay import RelayThread
from shared.control.keys import HEARTBEAT_TTL_S, LEASE_TTL_S
from shared.ending import CallEnd
from tests.acceptance.callers import PAUSE_MAX_S, Caller, Callers, patient
from tests.acceptance.pool import SETTLE_S, Layout, Pool, running_pool, until
from tests.acceptance.process import START_S

PLACED_WITHIN_S = 1.0
"""From an INVITE to its answer while Redis does not answer: 0.1 s, the session, and what a busy machine adds."""

SLOW_MS = 250.0
"""Each way: half a second for an answer."""

CLAIMED_WITHIN_S = PLACED_WITHIN_S + 1.0
"""The same while Redis is slow or silent: a worker waits for it up to a second before it goes by the token."""

AWAY_S = 60.0
assert AWAY_S > 2 * LEASE_TTL_S - 1

RECORDED_WITHIN_S = 2.0 + SETTLE_S
"""From Redis's return to the records of the calls that ended meanwhile: workers try every two seconds."""

WORKERS = 2


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    directory = tmp_path_factory.mktemp("pool")
    layout = Layout(dispatchers=2, pods=2, relay=True)
    with running_pool(directory, layout, workers=1, AGENTS_FILE=patient(directory)) as pool:
        yield pool


@dataclass(frozen=True)
class Scene:
    """One caller in progress and one who hears ringing."""

    pool: Pool
    callers: Callers
    talking: Caller
    ringing: Caller
    since: float
    """When the fault is committed, right after this."""

    def assert_placed(self, within_s: float = PLACED_WITHIN_S) -> Caller:
        """Fails unless who calls now, through either dispatcher, is answered; returns the last one."""
        for number in range(2):
            called_at = time.time()
            caller = self.callers.call(number).answered()
            assert caller.seconds_to("answered", called_at) < within_s
            assert caller.tried == 1
        return caller

    def assert_undisturbed(self) -> None:
        """Fails unless the one in progress has heard everything, and the one who rang is answered."""
        assert self.talking.longest_pause_s(self.since) < PAUSE_MAX_S
        assert not self.talking.end_reason
        self.ringing.answered().hears()
        assert self.ringing.forks == 0

    def settle(self) -> None:
        """Hangs up everybody and fails unless everything is accounted for."""
        self.callers.hang_up()
        self.pool.assert_settled(self.callers.call_ids)
        assert {ending for call_id in self.callers.call_ids for ending in self.pool.endings(call_id)} == {
            CallEnd.CALLER_HANGUP
        }


def scene_in(pool: Pool, callers: Callers) -> Scene:
    """Returns the scene, set."""
    talking = callers.call().answered()
    talking.hears()
    return Scene(pool, callers, talking, callers.ring(), time.time())


@pytest.fixture
def scene(shared: Pool) -> Iterator[Scene]:
    shared.wait_until_seen(WORKERS)
    with Callers(shared) as callers:
        try:
            yield scene_in(shared, callers)
        finally:
            relay_of(shared).heal()
    shared.wait_until_seen(WORKERS)


def relay_of(pool: Pool) -> RelayThread:
    """Returns what stands before Redis."""
    assert pool.relay
    return pool.relay


def wait_until_back(pool: Pool) -> None:
    """Returns once all processes have noticed that Redis answers again."""
    for process in (*pool.dispatchers, *pool.supervisors):
        until(lambda process=process: in_touch(pool, process.name), START_S, pool.tails)  # type: ignore[misc]


def in_touch(pool: Pool, name: str) -> bool:
    """Whether the last thing a process has said of Redis is that it answers."""
    [process] = [each for each in (*pool.dispatchers, *pool.supervisors) if each.name == name]
    news = [event["event"] for event in process.events() if str(event.get("event")).startswith("control.")]
    return not news or news[-1] == "control.available"


def test_restarted_empty_everything_it_held_is_entered_again(scene: Scene) -> None:
    """In progress, ringing, new: nobody notices. Its records and events are gone with it."""
    pool = scene.pool
    pool.redis_server.restart()
    scene.assert_placed()
    scene.assert_undisturbed()
    held = set(scene.callers.call_ids)
    until(lambda: pool.leases() == held, START_S, lambda: f"{pool.leases()}, not {held}\n{pool.tails()}")
    pool.wait_until_seen(WORKERS)
    scene.assert_placed()
    scene.settle()


def test_slow_calls_are_placed_without_waiting_for_it(scene: Scene) -> None:
    """In progress, ringing: nobody notices. New: answered half a second later."""
    pool = scene.pool
    relay_of(pool).slow(SLOW_MS)
    scene.assert_placed(CLAIMED_WITHIN_S)
    scene.assert_undisturbed()
    scene.assert_placed(CLAIMED_WITHIN_S)
    scene.settle()


@pytest.mark.parametrize("outage", [RelayThread.freeze, RelayThread.cut], ids=["frozen", "cut"])
def test_silent_or_unreachable_calls_go_on_and_are_placed(scene: Scene, outage: Callable[[RelayThread], None]) -> None:
    """In progress, ringing, new: nobody notices; a caller who hangs up is recorded when it is back."""
    pool = scene.pool
    outage(relay_of(pool))
    scene.assert_placed(CLAIMED_WITHIN_S)
    for dispatcher in pool.dispatchers:
        until(lambda process=dispatcher: not in_touch(pool, process.name), START_S, pool.tails)  # type: ignore[misc]
    ended = scene.assert_placed(CLAIMED_WITHIN_S)
    assert ended.hang_up() == 200
    scene.assert_undisturbed()
    assert not pool.records(ended.call_id)
    relay_of(pool).heal()
    wait_until_back(pool)
    scene.assert_placed()
    scene.settle()


@pytest.mark.timeout(240)
@pytest.mark.long
def test_gone_for_a_minute_calls_go_on_and_are_placed_all_the_time(scene: Scene) -> None:
    """In progress for the whole minute, ringing, new ones all the time: nobody notices.

    Leases lapse meanwhile, since nobody can renew them. Nobody's is taken away when Redis is back.
    """
    pool = scene.pool
    relay_of(pool).cut()
    while time.time() < scene.since + AWAY_S:
        caller = scene.assert_placed(CLAIMED_WITHIN_S)
        caller.hears_for(1.0)
        scene.callers.hang_up(but=[scene.talking, scene.ringing])
    scene.assert_undisturbed()
    ringing = scene.callers.ring()
    relay_of(pool).heal()
    scene.assert_placed(CLAIMED_WITHIN_S)
    wait_until_back(pool)
    scene.assert_placed()
    assert ringing.answered().forks == 0
    placed = [event for each in pool.dispatchers for event in each.events("call.placed")]
    assert len([event for event in placed if event["call_id"] == ringing.call_id]) == 1, "taken for dead, and moved"
    scene.callers.hang_up(but=[scene.talking])
    over = set(scene.callers.call_ids) - {scene.talking.call_id}
    pool.assert_recorded(over, timeout_s=RECORDED_WITHIN_S)
    assert scene.talking.longest_pause_s(scene.since) < PAUSE_MAX_S
    scene.settle()


@pytest.mark.timeout(240)
@pytest.mark.long
def test_failed_over_by_its_sentinels_on_demand_and_after_a_death_nobody_notices(tmp_path: Path) -> None:
    """In progress, ringing: nobody notices that there are two masters for a while, or none for some seconds.

    New: answered; but for those who call in the second in which the pool finds the new master, and may be refused.
    """
    layout = Layout(dispatchers=2, pods=2, sentinels=True)
    with running_pool(tmp_path, layout, workers=1, AGENTS_FILE=patient(tmp_path)) as pool, Callers(pool) as callers:
        assert pool.redis_set
        before = pool.redis_server
        pool.wait_until_seen(WORKERS)
        scene = scene_in(pool, callers)
        pool.redis_server = pool.redis_set.fail_over()
        until(lambda: not clients_of(before), START_S, lambda: f"still there: {clients_of(before)}")
        assert_unharmed(scene)

        pool.redis_set.await_replication()
        scene = scene_in(pool, callers)
        pool.redis_server = pool.redis_set.kill_master()
        assert_unharmed(scene)


def assert_unharmed(scene: Scene) -> None:
    """Fails unless everybody is served as if nothing had happened, also when the dead would have been noticed."""
    scene.assert_placed(CLAIMED_WITHIN_S)
    wait_until_back(scene.pool)
    scene.assert_undisturbed()
    scene.talking.hears_for(2 * HEARTBEAT_TTL_S)
    assert not scene.talking.end_reason, "taken for dead"
    scene.assert_placed(CLAIMED_WITHIN_S)
    scene.settle()


def clients_of(server: RedisServer) -> list[str]:
    """Returns the names of the pool's processes that have a connection to this server."""
    with Redis.from_url(server.url) as redis:
        names = [str(client["name"]) for client in redis.client_list()]
    return [name for name in names if name.startswith("voicepool")]
