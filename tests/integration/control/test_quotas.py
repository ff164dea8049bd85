"""Voice Live resources: what the whole pool may take of them, who waits, and who comes first."""

from collections.abc import Iterator, Sequence
from importlib.resources import files
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis as BlockingRedis
from redis.asyncio import Redis

from shared.control import keys, scripts
from shared.control.connection import ask
from shared.control.dispatchers import Dispatchers
from shared.control.events import EventName, Events
from shared.control.leases import Leases, Wish
from shared.control.quotas import QuotaRow, Quotas
from shared.control.workers import Workers
from shared.errors import NoQuota
from shared.ids import CallId, WorkerId
from shared.messages import Lease, ResourceQuota
from shared.states import WorkerState
from tests.integration.control.pool import INVITE_AT_MS, dispatcher_record, pass_time, worker_record

ONE = WorkerId("one")
MINUTE_MS = 60_000
SLOW = ResourceQuota(name="slow", connections_per_minute=6)
"""One connection at once, then one every twelve seconds."""
NARROW = ResourceQuota(name="narrow", sessions=1)
OPEN = ResourceQuota(name="open")


@pytest.fixture(autouse=True)
async def one_worker(workers: Workers) -> None:
    """A worker that is never the one to be full."""
    await workers.register(worker_record("one", capacity=1000), [])


async def asked(
    leases: Leases, call_id: str, *resources: ResourceQuota, priority: int = 5, may_wait: bool = True
) -> Lease:
    """Returns a lease for a call, or raises NoQuota."""
    wish = Wish(resources=resources, priority=priority, may_wait=may_wait)
    return await leases.acquire(CallId(call_id), ONE, invite_at_ms=INVITE_AT_MS, wish=wish)


async def wait_s(leases: Leases, call_id: str, *resources: ResourceQuota, priority: int = 5) -> float:
    """Returns how long a call has to wait, once it is in line."""
    with pytest.raises(NoQuota) as refused:
        await asked(leases, call_id, *resources, priority=priority)
    assert refused.value.wait_s is not None
    return refused.value.wait_s


async def later(redis: Redis, seconds: float, *, queues: Sequence[str] = ()) -> None:
    """Has time passed, in which the worker was heard of, and nobody asked for those who wait for `queues`."""
    await pass_time(redis, seconds, queues=queues)
    await Workers(redis).heartbeat(ONE, WorkerState.READY)


async def published(dispatchers: Dispatchers, quotas: Quotas, *resources: ResourceQuota) -> list[QuotaRow]:
    """Returns the table after a dispatcher has said which quotas it goes by."""
    await dispatchers.heartbeat(dispatcher_record(), resources)
    return await quotas.table()


class TestChoice:
    async def test_first_resource_that_has_something_left_is_taken(self, leases: Leases) -> None:
        assert (await asked(leases, "a", NARROW, OPEN)).resource == "narrow"
        assert (await asked(leases, "b", NARROW, OPEN)).resource == "open"

    async def test_offer_that_is_replaced_makes_room_for_the_next_one(self, leases: Leases) -> None:
        first = await asked(leases, "a", NARROW)
        wish = Wish(resources=[NARROW])
        second = await leases.acquire(
            CallId("a"), ONE, invite_at_ms=INVITE_AT_MS, wish=wish, replacing=first.lease_id
        )  # fmt: skip
        assert second.resource == "narrow" and second.lease_id != first.lease_id

    async def test_call_that_may_not_wait_is_refused_and_stands_in_no_line(self, redis: Redis, leases: Leases) -> None:
        await asked(leases, "a", NARROW)
        with pytest.raises(NoQuota) as refused:
            await asked(leases, "b", NARROW, may_wait=False)
        assert refused.value.wait_s is None
        assert await ask(redis, "EXISTS", keys.waiting("narrow")) == 0


class TestLine:
    async def test_calls_are_served_in_the_order_in_which_they_came(self, redis: Redis, leases: Leases) -> None:
        await asked(leases, "a", SLOW)
        first, second = await wait_s(leases, "b", SLOW), await wait_s(leases, "c", SLOW)
        assert first == pytest.approx(12, abs=0.5) and second == pytest.approx(24, abs=0.5)
        await later(redis, 12)
        assert await wait_s(leases, "c", SLOW) == pytest.approx(12, abs=0.5)
        assert await asked(leases, "b", SLOW)

    async def test_newcomer_does_not_overtake_those_who_wait(self, redis: Redis, leases: Leases) -> None:
        await asked(leases, "a", SLOW)
        await wait_s(leases, "b", SLOW)
        await later(redis, 12)
        with pytest.raises(NoQuota):
            await asked(leases, "c", SLOW, may_wait=False)
        assert await asked(leases, "b", SLOW)

    async def test_higher_priority_comes_first_and_lower_last(self, redis: Redis, leases: Leases) -> None:
        await asked(leases, "a", SLOW)
        for call_id, priority in (("low", 0), ("usual", 5), ("high", 9)):
            await wait_s(leases, call_id, SLOW, priority=priority)
        served = []
        for _ in range(3):
            await later(redis, 12)
            for call_id, priority in (("low", 0), ("usual", 5), ("high", 9)):
                if call_id not in served:
                    try:
                        served.append((await asked(leases, call_id, SLOW, priority=priority)).call_id)
                    except NoQuota:
                        continue
        assert served == ["high", "usual", "low"]

    async def test_calls_of_the_same_millisecond_have_an_order(self, redis: Redis, leases: Leases) -> None:
        await asked(leases, "a", SLOW)
        for call_id in "cb":
            await wait_s(leases, call_id, SLOW)
            await ask(redis, "ZADD", keys.waiting("slow"), 5, call_id)
        waits = [await wait_s(leases, call_id, SLOW) for call_id in "bc"]
        assert waits == [pytest.approx(12, abs=0.5), pytest.approx(24, abs=0.5)]

    async def test_whoever_is_not_asked_for_any_more_holds_nobody_up(self, redis: Redis, leases: Leases) -> None:
        await asked(leases, "a", SLOW)
        await wait_s(leases, "of a dead dispatcher", SLOW)
        await later(redis, 12, queues=["slow"])
        assert await asked(leases, "b", SLOW, may_wait=False)
        assert await ask(redis, "EXISTS", keys.waiting("slow"), keys.polls("slow")) == 0

    async def test_line_of_a_resource_that_nobody_wants_any_more_goes_by_itself(
        self, redis: Redis, leases: Leases
    ) -> None:
        await asked(leases, "a", SLOW)
        await wait_s(leases, "b", SLOW)
        for key in (keys.waiting("slow"), keys.polls("slow")):
            assert 0 < int(await ask(redis, "PTTL", key)) <= keys.ms(keys.WAITING_TTL_S)

    async def test_whoever_leaves_the_line_holds_nobody_up(self, redis: Redis, leases: Leases) -> None:
        for call_id, resource in (("a", SLOW), ("z", NARROW)):
            await asked(leases, call_id, resource)
        await wait_s(leases, "b", SLOW, NARROW)
        await leases.leave_line(CallId("b"), [SLOW, NARROW])
        await later(redis, 12)
        assert await asked(leases, "c", SLOW)

    async def test_whoever_is_served_by_one_resource_leaves_all_lines(self, redis: Redis, leases: Leases) -> None:
        holder = await asked(leases, "a", NARROW)
        await asked(leases, "b", SLOW)
        await wait_s(leases, "c", SLOW, NARROW)
        assert await leases.release(holder, None)
        assert (await asked(leases, "c", SLOW, NARROW)).resource == "narrow"
        assert await ask(redis, "EXISTS", keys.waiting("slow"), keys.polls("slow")) == 0

    async def test_line_has_an_end(self, redis: Redis, leases: Leases) -> None:
        await asked(leases, "a", NARROW)
        await wait_s(leases, "there already", NARROW)
        others = [part for number in range(keys.WAITING_MAX - 1) for part in (number, f"call{number}")]
        await ask(redis, "ZADD", keys.waiting("narrow"), *others)
        with pytest.raises(NoQuota) as refused:
            await asked(leases, "b", NARROW)
        assert refused.value.wait_s is None
        assert await wait_s(leases, "there already", NARROW) > 0

    async def test_call_waits_where_the_line_is_not_at_its_end(self, redis: Redis, leases: Leases) -> None:
        await asked(leases, "a", NARROW)
        await asked(leases, "b", SLOW)
        full = [part for number in range(keys.WAITING_MAX) for part in (number, f"call{number}")]
        await ask(redis, "ZADD", keys.waiting("narrow"), *full)
        assert await wait_s(leases, "c", NARROW, SLOW) > 0
        assert await ask(redis, "ZRANGE", keys.waiting("slow"), 0, -1) == [b"c"]

    async def test_session_that_ends_goes_to_the_first_in_line(self, leases: Leases) -> None:
        holder = await asked(leases, "a", NARROW)
        assert await wait_s(leases, "b", NARROW) == keys.SESSION_WAIT_S
        await wait_s(leases, "c", NARROW)
        assert await leases.release(holder, None)
        await wait_s(leases, "c", NARROW)
        assert await asked(leases, "b", NARROW)


class TestBudget:
    async def test_reconnects_are_paid_for_later_but_not_for_ever(
        self, dispatchers: Dispatchers, quotas: Quotas, leases: Leases
    ) -> None:
        await published(dispatchers, quotas, SLOW)
        await quotas.spend("slow", connections=1000)
        [row] = await quotas.table()
        assert row.connections_left == pytest.approx(-6, abs=0.1)
        assert await wait_s(leases, "a", SLOW) < 100

    async def test_tokens_run_out_and_come_back_within_a_minute(
        self, redis: Redis, dispatchers: Dispatchers, quotas: Quotas, leases: Leases
    ) -> None:
        talkative = ResourceQuota(name="talkative", tokens_per_minute=1000)
        await published(dispatchers, quotas, talkative)
        await asked(leases, "a", talkative)
        await quotas.spend("talkative", tokens=1500)
        assert await wait_s(leases, "b", talkative) == pytest.approx(30, abs=1)
        await later(redis, 31)
        assert await asked(leases, "b", talkative)

    async def test_what_is_spent_at_a_resource_that_nobody_has_published_is_not_kept(
        self, redis: Redis, quotas: Quotas
    ) -> None:
        await quotas.spend("unheard of", connections=3, tokens=7)
        assert await ask(redis, "EXISTS", keys.budgets()) == 0

    async def test_spending_without_publication_does_not_spoil_the_budget(
        self, redis: Redis, dispatchers: Dispatchers, quotas: Quotas
    ) -> None:
        wide = ResourceQuota(name="wide", connections_per_minute=600, tokens_per_minute=1000)
        await published(dispatchers, quotas, wide)
        await quotas.spend("wide", connections=1, tokens=1)
        await ask(redis, "DEL", keys.quotas())
        await quotas.spend("wide", connections=1, tokens=1)
        [row] = await published(dispatchers, quotas, wide)
        assert row.connections_left > 90 and row.tokens_left > 900

    async def test_limit_that_is_lowered_holds_at_once(self, leases: Leases) -> None:
        await asked(leases, "a", ResourceQuota(name="slow", connections_per_minute=600))
        await asked(leases, "b", SLOW)
        assert await wait_s(leases, "c", SLOW) > 0


class TestThrottled:
    async def test_nothing_is_opened_for_as_long_as_the_service_asks(
        self, redis: Redis, quotas: Quotas, leases: Leases
    ) -> None:
        await quotas.throttled("open", 20.0)
        assert await wait_s(leases, "a", OPEN) == pytest.approx(20, abs=0.5)
        await later(redis, 20.1)
        assert await asked(leases, "a", OPEN)

    async def test_nothing_is_opened_for_some_seconds_when_the_service_does_not_say(
        self, quotas: Quotas, leases: Leases
    ) -> None:
        await quotas.throttled("open", None)
        assert await wait_s(leases, "a", OPEN) == pytest.approx(5, abs=0.5)

    async def test_no_resource_is_left_alone_longer_than_a_minute(self, quotas: Quotas, leases: Leases) -> None:
        await quotas.throttled("open", 86_400.0)
        assert await wait_s(leases, "a", OPEN) <= keys.BLOCKED_MAX_S

    async def test_pause_is_not_cut_short_by_a_later_answer(self, quotas: Quotas, leases: Leases) -> None:
        await quotas.throttled("open", 30.0)
        await quotas.throttled("open", 1.0)
        assert await wait_s(leases, "a", OPEN) > 25

    async def test_burst_of_429_counts_once_and_is_one_event(
        self, dispatchers: Dispatchers, quotas: Quotas, events: Events
    ) -> None:
        await published(dispatchers, quotas, SLOW)
        for _ in range(10):
            await quotas.throttled("slow", 2.0)
        [row] = await quotas.table()
        assert row.share == pytest.approx(0.5, abs=0.01) and 1 < row.blocked_s <= 2
        told = [event for event in await events.read(100) if event.name == EventName.RESOURCE_THROTTLED]
        assert [dict(event.about) for event in told] == [{"resource": "slow", "retry_after_ms": "2000"}]

    async def test_share_is_halved_again_and_again_but_not_to_nothing(
        self, redis: Redis, dispatchers: Dispatchers, quotas: Quotas
    ) -> None:
        shares = []
        for _ in range(6):
            await quotas.throttled("slow", 1.0)
            shares.append((await published(dispatchers, quotas, SLOW))[0].share)
            await later(redis, 6)
        assert shares[0] == pytest.approx(0.5, abs=0.02) and shares[1] == pytest.approx(0.26, abs=0.02)
        assert shares[-1] >= 0.1

    async def test_connections_come_half_as_fast_and_after_five_minutes_as_before(
        self, redis: Redis, dispatchers: Dispatchers, quotas: Quotas, leases: Leases
    ) -> None:
        await published(dispatchers, quotas, SLOW)
        await quotas.throttled("slow", 1.0)
        await later(redis, 1.1)
        assert await wait_s(leases, "a", SLOW) == pytest.approx(22, abs=2)
        await later(redis, 300)
        [row] = await quotas.table()
        assert (row.share, row.blocked_s, row.connections_left) == (1.0, 0.0, 1.0)


class TestTable:
    async def test_table_shows_limits_and_what_is_left(
        self, dispatchers: Dispatchers, quotas: Quotas, leases: Leases
    ) -> None:
        wide = ResourceQuota(name="wide", connections_per_minute=600, sessions=2, tokens_per_minute=1000)
        for call_id in "ab":
            await asked(leases, call_id, wide)
        await wait_s(leases, "c", wide)
        narrow, row = await published(dispatchers, quotas, wide, NARROW)
        assert (narrow.quota, narrow.sessions, narrow.waiting, narrow.share, narrow.blocked_s) == (
            NARROW,
            0,
            0,
            1.0,
            0.0,
        )
        assert (row.quota, row.sessions, row.waiting, row.tokens_left) == (wide, 2, 1, 1000)
        assert 97 < row.connections_left <= 100 and 0 <= row.longest_wait_s < 5

    async def test_resource_that_no_dispatcher_names_any_more_is_gone(
        self, redis: Redis, leases: Leases, dispatchers: Dispatchers, quotas: Quotas
    ) -> None:
        assert len(await published(dispatchers, quotas, SLOW, NARROW)) == 2
        await leases.reap()
        await later(redis, keys.HEARTBEAT_TTL_S + 0.1)
        assert [row.quota for row in await published(dispatchers, quotas, NARROW)] == [NARROW]

    async def test_quotas_outlive_an_outage(self, redis: Redis, dispatchers: Dispatchers, quotas: Quotas) -> None:
        await published(dispatchers, quotas, SLOW)
        await later(redis, 60)
        await ask(redis, "DEL", keys.watched())
        assert len(await published(dispatchers, quotas, NARROW)) == 2

    async def test_quota_in_a_newer_format_is_left_out(
        self, redis: Redis, dispatchers: Dispatchers, quotas: Quotas
    ) -> None:
        await published(dispatchers, quotas, NARROW)
        await ask(redis, "HSET", keys.quotas(), "newer", b"\x82\xa1v\x7f\xa4name\xa5newer")
        assert [row.quota for row in await quotas.table()] == [NARROW]


@pytest.fixture
def blocking(redis_url: str) -> Iterator[BlockingRedis]:
    """A client for tests without a loop."""
    with BlockingRedis.from_url(redis_url) as client:
        yield client


_RUN = """
local granted = {}
local limits = { connections = tonumber(ARGV[1]), sessions = 0, tokens = 0 }
local keys = { budgets = KEYS[1] }
now = 1700000000000
for i = 2, #ARGV do
  now = now + ARGV[i]
  local budget = read_budget(keys, 'x', limits)
  if wait_for(budget, limits, 0) == 0 then
    budget.c = budget.c - 1
    write_budget(keys, 'x', budget)
    table.insert(granted, now)
  end
end
return granted
"""


def handed_out(redis: BlockingRedis, limit: int, pauses_ms: Sequence[int]) -> list[int]:
    """Returns when, in ms, a connection was handed out to one who asks after each of the pauses."""
    budgets, _, _ = scripts.source("quota_spend").partition(header("quota_spend"))
    return cast(list[int], redis.eval(budgets + _RUN, 1, keys.budgets(), limit, *pauses_ms))


def header(name: str) -> str:
    """Returns the first line of a script: what it shares with others stands before."""
    return files("shared.control").joinpath(f"{name}.lua").read_text("utf-8").splitlines()[0]


@given(
    limit=st.integers(1, 40),
    pauses=st.lists(st.sampled_from([0, 1, 7, 250, 1000, 1999, 10_000, 59_000, 200_000]), min_size=50, max_size=400),
)
@settings(deadline=None, max_examples=150, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_minute_sees_more_connections_than_the_limit(
    blocking: BlockingRedis, limit: int, pauses: Sequence[int]
) -> None:
    blocking.flushall()
    granted = handed_out(blocking, limit, pauses)
    for number, at_ms in enumerate(granted):
        within = [other for other in granted[number:] if other - at_ms < MINUTE_MS]
        assert len(within) <= limit
    assert granted, "nothing was ever handed out"


@pytest.mark.parametrize(("limit", "share"), [(1, 0.5), (2, 0.5), (6, 0.8), (60, 0.8), (300, 0.8)])
def test_whoever_asks_all_the_time_gets_most_of_the_limit(blocking: BlockingRedis, limit: int, share: float) -> None:
    pause_ms, minutes = 200, 10
    granted = handed_out(blocking, limit, [pause_ms] * (minutes * MINUTE_MS // pause_ms))
    assert share * limit * minutes - 1 <= len(granted) <= limit * minutes + limit
