"""One sender with a real Redis and a real receiver, which fails in all the ways there are."""

import asyncio
import hashlib
import hmac
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError
from structlog.testing import capture_logs

from admin.ports import free_tcp_port
from admin.webhooks import sender as sender_module
from admin.webhooks.dead import DeadEvents
from admin.webhooks.receiver import receiver
from admin.webhooks.sender import GROUP, Sender
from admin.webhooks.settings import WebhookSettings
from shared.control import keys
from shared.control.connection import connect
from shared.control.events import EventGroup, EventName, Events
from shared.settings import load
from tests.integration.logged_process import PATIENCE_S
from tests.integration.webhooks.customer import (
    SECRET,
    Answering,
    Customer,
    babble,
    break_off,
    hang,
    in_turn,
    never_end,
    serving,
    status,
    taken,
)
from tests.redis_server import RedisServer, running_redis


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the next attempt come soon; how long the waits really are, the test of the back-off says."""
    monkeypatch.setattr(sender_module, "FIRST_DELAY_S", 0.02)
    monkeypatch.setattr(sender_module, "LONGEST_DELAY_S", 1.5)
    monkeypatch.setattr(sender_module, "READ_S", 0.02)


@asynccontextmanager
async def sending(redis: Redis, url: str, name: str = "one", **settings: Any) -> AsyncIterator[Sender]:
    """Runs a sender for the block, and stops it."""
    given = {"WEBHOOK_URL": url, "WEBHOOK_SECRET": SECRET, "WEBHOOK_ATTEMPTS": 3, **settings}
    loaded = load(WebhookSettings, **given)
    async with receiver(loaded) as to, asyncio.TaskGroup() as tasks:
        group = EventGroup(redis, GROUP, name)
        await group.open()
        sender = Sender(loaded, group, DeadEvents(redis), to)
        task = tasks.create_task(sender.run())
        try:
            yield sender
        finally:
            sender.stop()
            async with asyncio.timeout(PATIENCE_S):
                await task


async def tell(events: Events, *call_ids: str) -> None:
    """Writes one event for each."""
    for call_id in call_ids:
        await events.tell(EventName.CALL_REFUSED, {"call_id": call_id, "status": 503, "reason": "no_capacity"})


async def until(happened: Callable[[], Any]) -> None:
    """Asks Redis again and again, which tells nobody, and may be away."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with suppress(RedisError):
                if await happened():
                    return
            await asyncio.sleep(0.02)


async def settled(redis: Redis) -> None:
    """Returns once no event is pending or unread."""

    async def nothing_left() -> bool:
        [group] = await redis.xinfo_groups(keys.events())
        stream: dict[str, Any] = await redis.xinfo_stream(keys.events())
        return group["pending"] == 0 and bool(group["last-delivered-id"] == stream["last-generated-id"])

    await until(nothing_left)


async def test_an_event_is_posted_signed_and_done(redis: Redis, events: Events, customer: Customer) -> None:
    async with sending(redis, customer.url):
        await tell(events, "one")
        [delivery] = await customer.until(1)
        await settled(redis)
    [event] = await events.read(1)
    assert delivery.event == {
        "id": event.position, "event": "call.refused", "at_ms": event.at_ms,
        "call_id": "one", "status": "503", "reason": "no_capacity",
    }  # fmt: skip
    headers = delivery.request.headers
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Voicepool-Event"] == "call.refused"
    assert headers["X-Voicepool-Delivery"] == f"{event.position}/1"
    at, mark = headers["X-Voicepool-Signature"].split(",")
    assert abs(int(at.removeprefix("t=")) - time.time()) < 60
    signed = at.removeprefix("t=").encode() + b"." + delivery.body
    assert mark == "v1=" + hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
    assert await DeadEvents(redis).all() == []


async def test_only_the_events_asked_for_are_posted(redis: Redis, events: Events, customer: Customer) -> None:
    async with sending(redis, customer.url, WEBHOOK_EVENTS="worker.lost, resource.*"):
        await tell(events, "unwanted")
        await events.tell(EventName.WORKER_LEFT, {"worker_id": "unwanted"})
        await events.tell(EventName.WORKER_LOST, {"worker_id": "w", "calls": 2})
        await events.tell(EventName.RESOURCE_THROTTLED, {"resource": "r", "retry_after_ms": 0})
        await customer.until(2)
        await settled(redis)
    assert {delivery.event["event"] for delivery in customer.deliveries} == {"worker.lost", "resource.throttled"}


@pytest.mark.parametrize("answer", [taken, status(200), status(201), status(299), never_end])
async def test_any_2xx_means_taken(redis: Redis, events: Events, customer: Customer, answer: Answering) -> None:
    customer.answering = answer
    async with sending(redis, customer.url):
        await tell(events, "one")
        await customer.until(1)
        await settled(redis)
    assert len(customer.deliveries) == 1 and await DeadEvents(redis).all() == []


@pytest.mark.parametrize(
    "failure",
    [status(500), status(503), status(408), status(425), status(429), status(307, Location="/x"), break_off, babble],
)
async def test_what_may_pass_is_tried_again(
    redis: Redis, events: Events, customer: Customer, failure: Answering
) -> None:
    customer.answering = in_turn(failure, failure, taken)
    async with sending(redis, customer.url):
        await tell(events, "one")
        deliveries = await customer.until(3)
        await settled(redis)
    assert len({delivery.body for delivery in deliveries}) == 1  # receivers know it by its id
    numbers = [delivery.request.headers["X-Voicepool-Delivery"].partition("/")[2] for delivery in deliveries]
    assert numbers == ["1", "2", "3"]
    assert await DeadEvents(redis).all() == []


async def test_a_receiver_that_does_not_answer_in_time_is_tried_again(
    redis: Redis, events: Events, customer: Customer
) -> None:
    customer.answering = in_turn(hang, taken)
    async with sending(redis, customer.url, WEBHOOK_TIMEOUT_S=0.3):
        await tell(events, "one")
        await customer.until(2)
        await settled(redis)
    assert await DeadEvents(redis).all() == []


async def test_a_receiver_that_is_not_there_is_tried_again(redis: Redis, events: Events) -> None:
    port = free_tcp_port("127.0.0.1")
    with capture_logs() as logs:
        async with sending(redis, f"http://127.0.0.1:{port}/hook", WEBHOOK_ATTEMPTS=100):
            await tell(events, "one")
            await until(lambda: asyncio.sleep(0, [line for line in logs if line["event"] == "webhooks.refused"]))
            async with serving(Customer(), port) as customer:
                await customer.until(1)
                await settled(redis)
    changes = [line for line in logs if line["event"] in ("webhooks.refused", "webhooks.taken_again")]
    assert [line["event"] for line in changes] == ["webhooks.refused", "webhooks.taken_again"]
    assert changes[0]["error"] == "ClientConnectorError"


@pytest.mark.parametrize("code", [400, 401, 404, 410, 422])
async def test_what_stays_the_same_is_put_aside_at_once(
    redis: Redis, events: Events, customer: Customer, code: int
) -> None:
    customer.answering = status(code)
    with capture_logs() as logs:
        async with sending(redis, customer.url):
            await tell(events, "one")
            await customer.until(1)
            await settled(redis)
    [dead] = await DeadEvents(redis).all()
    [event] = await events.read(1)
    assert (dead.event, dead.error, dead.attempts) == (event, f"HTTP {code}", 1)
    assert len(customer.deliveries) == 1
    [line] = [line for line in logs if line["event"] == "webhooks.dead"]
    assert line["id"] == event.position
    assert customer.url not in str(logs) and SECRET not in str(logs)


@pytest.mark.parametrize(
    ("failure", "error"), [(status(503), "HTTP 503"), (hang, "timeout"), (break_off, "ServerDisconnectedError")]
)
async def test_after_the_last_attempt_an_event_is_put_aside(
    redis: Redis, events: Events, customer: Customer, failure: Answering, error: str
) -> None:
    customer.answering = failure
    async with sending(redis, customer.url, WEBHOOK_TIMEOUT_S=0.2):
        await tell(events, "one")
        await settled(redis)
    [dead] = await DeadEvents(redis).all()
    assert (dead.error, dead.attempts, len(customer.deliveries)) == (error, 3, 3)


async def test_retry_after_is_waited_for(redis: Redis, events: Events, customer: Customer) -> None:
    customer.answering = in_turn(status(429, Retry_After="1"), taken)
    async with sending(redis, customer.url):
        await tell(events, "one")
        await customer.until(1)
        first = time.monotonic()
        await customer.until(2)
        assert time.monotonic() - first >= 0.95


async def test_retry_after_has_a_bound(redis: Redis, events: Events, customer: Customer) -> None:
    customer.answering = in_turn(status(503, Retry_After="86400"), taken)
    async with sending(redis, customer.url):
        await tell(events, "one")
        await customer.until(2)


async def test_a_failing_event_holds_up_none_behind_it(
    redis: Redis, events: Events, customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "LONGEST_DELAY_S", 60.0)

    async def refuse_bad(delivery: Any) -> Any:
        return await (status(503, Retry_After="60") if delivery.call_id == "bad" else taken)(delivery)

    customer.answering = refuse_bad
    async with sending(redis, customer.url, WEBHOOK_ATTEMPTS=100):
        await tell(events, "bad", *map(str, range(300)))
        await customer.until(301)
    assert set(customer.calls()) == {"bad", *map(str, range(300))}


async def test_a_receiver_gets_no_more_than_so_many_requests_at_once(
    redis: Redis, events: Events, customer: Customer
) -> None:
    now, most, release = 0, 0, asyncio.Event()

    async def count(delivery: Any) -> Any:
        nonlocal now, most
        now, most = now + 1, max(most, now + 1)
        await release.wait()
        now -= 1
        return await taken(delivery)

    customer.answering = count
    async with sending(redis, customer.url, WEBHOOK_TIMEOUT_S=30):
        await tell(events, *map(str, range(60)))
        await customer.until(20)
        release.set()
        await customer.until(60)
        await settled(redis)
    assert most == 20


async def test_no_more_is_in_hand_than_allowed_and_the_rest_waits_in_the_stream(
    redis: Redis, events: Events, customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "IN_HAND_MAX", 30)
    release = asyncio.Event()

    async def wait(delivery: Any) -> Any:
        await release.wait()
        return await taken(delivery)

    customer.answering = wait
    await EventGroup(redis, GROUP, "one").open()
    await tell(events, *map(str, range(100)))
    async with sending(redis, customer.url, WEBHOOK_TIMEOUT_S=30):
        await customer.until(20)
        [group] = await redis.xinfo_groups(keys.events())
        assert group["pending"] == 30
        release.set()
        await settled(redis)
    assert sorted(customer.calls(), key=int) == [str(n) for n in range(100)]


async def test_events_trimmed_before_they_were_read_are_counted_and_logged(
    redis: Redis, events: Events, customer: Customer
) -> None:
    async with sending(redis, customer.url):
        pass  # the group is there now, and no sender
    await tell(events, *map(str, range(30)))
    await redis.xtrim(keys.events(), maxlen=10, approximate=False)
    with capture_logs() as logs:
        async with sending(redis, customer.url):
            await customer.until(10)
            await settled(redis)
    [line] = [line for line in logs if line["event"] == "webhooks.events_gone"]
    assert line["count"] == 20 and line["log_level"] == "error"
    [line] = [line for line in logs if line["event"] == "webhooks.stopped"]
    assert {name: line[name] for name in ("taken", "dead", "gone", "left")} == {
        "taken": 10, "dead": 0, "gone": 20, "left": 0,
    }  # fmt: skip


async def test_a_sender_that_stops_finishes_what_is_under_way_and_leaves_the_rest(
    redis: Redis, events: Events, customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "LONGEST_DELAY_S", 60.0)
    release = asyncio.Event()

    async def answer(delivery: Any) -> Any:
        if delivery.call_id == "waits":
            return await status(503, Retry_After="60")(delivery)
        await release.wait()
        return await taken(delivery)

    customer.answering = answer
    async with sending(redis, customer.url, WEBHOOK_ATTEMPTS=100, WEBHOOK_TIMEOUT_S=30) as sender:
        await tell(events, "waits", "under way")
        await customer.until(2)
        sender.stop()
        release.set()
    customer.answering = taken
    async with sending(redis, customer.url, "two"):
        await customer.until(3)  # at once: it was handed back
        await settled(redis)
    assert sorted(customer.calls()) == ["under way", "waits", "waits"]


async def test_a_sender_that_stops_does_not_wait_for_a_receiver_that_hangs(
    redis: Redis, events: Events, customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender_module, "STOP_LIMIT_S", 0.2)
    customer.answering = in_turn(hang, taken)
    async with sending(redis, customer.url, WEBHOOK_TIMEOUT_S=60):
        await tell(events, "one")
        await customer.until(1)
    async with sending(redis, customer.url, "two"):
        await customer.until(2)
        await settled(redis)


async def test_senders_survive_an_outage_of_redis(tmp_path: Any, customer: Customer) -> None:
    with running_redis(tmp_path) as server:
        await _outage(server, customer)


async def _outage(server: RedisServer, customer: Customer) -> None:
    redis = connect(server.url, timeout_s=0.5)
    release = asyncio.Event()

    async def wait(delivery: Any) -> Any:
        await release.wait()
        return await taken(delivery)

    customer.answering = wait
    try:
        with capture_logs() as logs:

            async def logged(name: str) -> None:
                await until(lambda: asyncio.sleep(0, [line for line in logs if line["event"] == name]))

            async with sending(redis, customer.url, WEBHOOK_TIMEOUT_S=60):
                await tell(Events(redis), "before")
                await customer.until(1)
                server.pause()
                await logged("control.unavailable")
                release.set()  # taken, but that cannot be written down
                server.resume()
                await logged("control.available")
                await settled(redis)
                server.restart()  # empty
                await until(lambda: redis.exists(keys.events()))
                await tell(Events(redis), "after")
                await customer.until(2)
                await settled(redis)
        assert customer.calls() == ["before", "after"]
    finally:
        await redis.aclose()
