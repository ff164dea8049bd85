"""Port blocks: one pod of a machine has each at a time, whatever is killed or forgotten."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from redis.asyncio import Redis

from shared.control import keys
from shared.control.connection import ask, connect
from shared.control.ports import PortBlocks

T = TypeVar("T")

MACHINE = "machine"
BLOCKS = 3


def of(redis: Redis, owner: str, machine: str = MACHINE) -> PortBlocks:
    """Returns the blocks of a machine as one pod sees them."""
    return PortBlocks(redis, machine, owner)


async def pass_time(redis: Redis, seconds: float) -> None:
    """Makes what is known of the machine's blocks older."""
    for block in await ask(redis, "ZRANGE", keys.port_lapses(MACHINE), 0, -1):
        await ask(redis, "ZINCRBY", keys.port_lapses(MACHINE), -keys.ms(seconds), block)


async def test_each_pod_of_a_machine_gets_a_block_of_its_own_until_there_is_none(redis: Redis) -> None:
    assert [await of(redis, pod).take(BLOCKS) for pod in "abcd"] == [0, 1, 2, None]


async def test_machines_have_nothing_to_do_with_each_other(redis: Redis) -> None:
    assert await of(redis, "a", "one").take(BLOCKS) == 0
    assert await of(redis, "b", "other").take(BLOCKS) == 0


async def test_a_pod_that_asks_again_because_the_answer_was_lost_gets_the_same_block(redis: Redis) -> None:
    await of(redis, "a").take(BLOCKS)
    assert await of(redis, "b").take(BLOCKS) == await of(redis, "b").take(BLOCKS) == 1


async def test_the_block_that_was_in_use_the_longest_time_ago_is_leased_first(redis: Redis) -> None:
    a, b, c = (of(redis, pod) for pod in "abc")
    for pod in (a, b):
        await pod.take(2)
    assert await b.release(1)
    await pass_time(redis, 1.0)
    assert await a.release(0)
    assert await c.take(2) == 1
    assert await a.take(3) == 2, "one that nobody ever had"


async def test_a_block_given_back_is_free_at_once_and_one_of_a_killed_pod_after_its_time(redis: Redis) -> None:
    killed, stopped, new = (of(redis, pod) for pod in ("killed", "stopped", "new"))
    assert (await killed.take(2), await stopped.take(2), await new.take(2)) == (0, 1, None)
    await stopped.release(1)
    assert await new.take(2) == 1
    await pass_time(redis, keys.PORT_BLOCK_TTL_S + 0.1)
    assert await new.keep(1)
    assert await of(redis, "newer").take(2) == 0


async def test_a_kept_block_is_nobody_elses_for_another_while(redis: Redis) -> None:
    a = of(redis, "a")
    await a.take(1)
    for _ in range(3):
        await pass_time(redis, keys.PORT_BLOCK_TTL_S - 1.0)
        assert await a.keep(0)
    assert await of(redis, "b").take(1) is None


async def test_redis_comes_back_empty_and_each_pod_takes_its_own_block_again(redis: Redis) -> None:
    a, b = of(redis, "a"), of(redis, "b")
    await a.take(BLOCKS), await b.take(BLOCKS)
    await ask(redis, "FLUSHALL")
    assert await b.keep(1) and await a.keep(0)
    assert await of(redis, "c").take(BLOCKS) == 2


async def test_a_pod_that_was_away_for_too_long_is_told_that_somebody_has_its_block(redis: Redis) -> None:
    away, other = of(redis, "away"), of(redis, "other")
    await away.take(1)
    await pass_time(redis, keys.PORT_BLOCK_TTL_S + 0.1)
    await other.take(1)
    assert not await away.keep(0)
    assert not await away.release(0)
    assert await other.keep(0)


async def test_what_is_known_of_a_machine_without_pods_is_forgotten(redis: Redis) -> None:
    await of(redis, "a").take(BLOCKS)
    await of(redis, "a").keep(0)
    for key in keys.of_machine(MACHINE):
        assert 0 < await ask(redis, "PTTL", key) <= keys.ms(keys.PORT_BLOCK_MEMORY_S)


@dataclass
class Pod:
    """A pod as it sees itself."""

    name: str
    block: int


class Machine(RuleBasedStateMachine):
    """A machine on which pods come, go and are killed, while Redis forgets or is away for long.

    Like a real one, a pod does not use a block whose ports somebody has bound, but gives it back.
    """

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.redis = connect(self.url, timeout_s=20.0)
        self.living: list[Pod] = []
        self.leased: dict[int, tuple[str, float]] = {}
        """Block -> its owner in Redis, and the seconds that are left to it."""
        self.names = 0
        self.run(ask(self.redis, "FLUSHALL"))

    def run(self, step: Coroutine[Any, Any, T]) -> T:
        """Takes one step."""
        return self.runner.run(step)

    def teardown(self) -> None:
        """Lets go of Redis."""
        self.run(self.redis.aclose())
        self.runner.close()

    @rule()
    def start(self) -> None:
        self.names += 1
        name = f"pod{self.names}"
        blocks = of(self.redis, name)
        block = self.run(blocks.take(BLOCKS))
        if block is None:
            assert len(self.leased) == BLOCKS, "there was a free one"
            return
        assert block not in self.leased, "it is somebody's"
        if block in {pod.block for pod in self.living}:
            assert self.run(blocks.release(block))
            return
        self.living.append(Pod(name, block))
        self.leased[block] = (name, keys.PORT_BLOCK_TTL_S)

    @rule(some=st.sets(st.integers(0, BLOCKS - 1)))
    def keep(self, some: set[int]) -> None:
        for pod in self.living:
            if pod.block in some:
                assert self.run(of(self.redis, pod.name).keep(pod.block)), "its ports are bound, so nobody has them"
                self.leased[pod.block] = (pod.name, keys.PORT_BLOCK_TTL_S)

    @rule(which=st.integers(0, BLOCKS - 1))
    def stop(self, which: int) -> None:
        if which < len(self.living):
            pod = self.living.pop(which)
            assert self.run(of(self.redis, pod.name).release(pod.block)) == (pod.block in self.leased)
            self.leased.pop(pod.block, None)

    @rule(which=st.integers(0, BLOCKS - 1))
    def kill(self, which: int) -> None:
        if which < len(self.living):
            self.living.pop(which)

    @rule(seconds=st.sampled_from([4.0, keys.PORT_BLOCK_TTL_S / 2, keys.PORT_BLOCK_TTL_S]))
    def wait(self, seconds: float) -> None:
        self.run(pass_time(self.redis, seconds))
        self.leased = {block: (name, left - seconds) for block, (name, left) in self.leased.items() if left > seconds}

    @rule()
    def redis_forgets(self) -> None:
        self.run(ask(self.redis, "FLUSHALL"))
        self.leased.clear()

    @invariant()
    def nobody_shares_a_block(self) -> None:
        blocks = [pod.block for pod in self.living]
        assert len(set(blocks)) == len(blocks)

    @invariant()
    def redis_knows_the_owner_of_each_leased_block(self) -> None:
        for block, (name, _) in self.leased.items():
            assert self.run(ask(self.redis, "HGET", keys.port_owners(MACHINE), block)) == name.encode()


def test_no_block_ever_has_two_pods(redis_url: str) -> None:
    class MachineOnThisRedis(Machine):
        url = redis_url

    run_state_machine_as_test(
        MachineOnThisRedis,
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            database=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
