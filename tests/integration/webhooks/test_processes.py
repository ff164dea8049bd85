"""Senders as processes: several, killed and started again; and what an operator does about dead letters."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from admin.webhooks.dead import DeadEvents
from admin.webhooks.sender import GROUP
from shared.control import keys
from shared.control.events import EventName, Events
from tests.integration.logged_process import PATIENCE_S
from tests.integration.webhooks.customer import (
    SECRET,
    Customer,
    command,
    running,
    status,
    taken,
)


async def tell(events: Events, *call_ids: str) -> None:
    """Writes one event for each."""
    for call_id in call_ids:
        await events.tell(EventName.CALL_REFUSED, {"call_id": call_id, "status": 503})


async def grow_old(redis: Redis) -> None:
    """Has all events that somebody was given be untouched for an hour."""
    pending: list[dict[str, Any]] = await redis.xpending_range(keys.events(), GROUP, "-", "+", 1000)
    for entry in pending:
        ids = [entry["message_id"]]
        await redis.xclaim(keys.events(), GROUP, entry["consumer"], 0, ids, idle=3_600_000, justid=True)


async def ran(directory: Path, redis_url: str, *arguments: str, **settings: str) -> tuple[int | None, str, str]:
    """Runs a command to its end: exit code, stdout, stderr."""
    process = await command(directory, *arguments, **{"REDIS_URL": redis_url, **settings})
    async with asyncio.timeout(PATIENCE_S):
        out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


async def test_events_told_while_no_sender_runs_are_delivered_by_the_next(
    tmp_path: Path, redis_url: str, events: Events, customer: Customer
) -> None:
    async with running(tmp_path, redis_url, customer.url) as sender:
        await tell(events, "one")
        await customer.until(1)
        assert await sender.stop() == 0
        assert sender.lines[-1]["event"] == "webhooks.stopped" and sender.lines[-1]["taken"] == 1
    await tell(events, "two", "three")
    async with running(tmp_path, redis_url, customer.url) as sender:
        await customer.until(3)
        assert await sender.stop() == 0
    assert sorted(customer.calls()) == ["one", "three", "two"]
    said = str([line | {"timestamp": ""} for line in sender.lines])
    assert "503" not in said and SECRET not in said


async def test_two_senders_share_the_work(
    tmp_path: Path, redis: Redis, redis_url: str, events: Events, customer: Customer
) -> None:
    calls = [str(number) for number in range(300)]
    async with running(tmp_path, redis_url, customer.url) as one, running(tmp_path, redis_url, customer.url) as two:
        for number in range(0, 300, 30):
            await tell(events, *calls[number : number + 30])
            await customer.until(number + 30)
        assert await one.stop() == 0 and await two.stop() == 0
    assert sorted(customer.calls(), key=int) == calls
    assert (await redis.xpending(keys.events(), GROUP))["pending"] == 0
    both = [sender.lines[-1]["taken"] for sender in (one, two)]
    assert sum(both) == 300


async def test_another_sender_takes_over_from_one_that_was_killed(
    tmp_path: Path, redis: Redis, redis_url: str, events: Events, customer: Customer
) -> None:
    customer.answering = status(503, Retry_After="250")
    async with running(tmp_path, redis_url, customer.url) as first:
        await tell(events, "one", "two")
        await customer.until(2)
        await first.kill()
    customer.answering = taken
    await grow_old(redis)
    async with running(tmp_path, redis_url, customer.url) as second:
        await customer.until(4)
        assert await second.stop() == 0
    assert sorted(customer.calls()) == ["one", "one", "two", "two"]
    ids = {delivery.event["id"] for delivery in customer.deliveries}
    assert len(ids) == 2


async def test_dead_letters_are_shown_and_sent_again(
    tmp_path: Path, redis: Redis, redis_url: str, events: Events, customer: Customer
) -> None:
    customer.answering = status(404)
    async with running(tmp_path, redis_url, customer.url) as sender:
        await tell(events, "one", "two", "three")
        for _ in range(3):
            await sender.event("webhooks.dead")
        assert await sender.stop() == 0
    code, out, _ = await ran(tmp_path, redis_url, "dead", "--json")
    shown = json.loads(out)
    assert code == 0 and {each["call_id"] for each in shown} == {"one", "two", "three"}
    assert {(each["event"], each["error"], each["attempts"]) for each in shown} == {("call.refused", "HTTP 404", 1)}
    code, out, _ = await ran(tmp_path, redis_url, "dead")
    assert code == 0 and all(each["id"] in out for each in shown)

    settings = {"WEBHOOK_URL": customer.url, "WEBHOOK_SECRET": SECRET}
    code, _, err = await ran(tmp_path, redis_url, "redeliver", "--all", **settings)
    assert code == 1 and err.count("HTTP 404") == 3
    customer.answering = taken
    code, out, _ = await ran(tmp_path, redis_url, "redeliver", shown[0]["id"], **settings)
    assert (code, out) == (0, f"{shown[0]['id']} taken\n")
    again = customer.deliveries[-1]
    assert again.event == {name: shown[0][name] for name in ("id", "event", "at_ms", "call_id", "status")}
    assert again.request.headers["X-Voicepool-Delivery"] == f"{shown[0]['id']}/2"
    code, _, err = await ran(tmp_path, redis_url, "redeliver", shown[0]["id"], **settings)
    assert code == 3 and shown[0]["id"] in err
    code, out, _ = await ran(tmp_path, redis_url, "redeliver", "--all", **settings)
    assert code == 0 and out.count("taken") == 2
    assert await DeadEvents(redis).all() == []
    code, out, _ = await ran(tmp_path, redis_url, "dead")
    assert (code, out) == (0, "No event was given up.\n")


@pytest.mark.parametrize(
    ("arguments", "settings", "code", "says"),
    [
        ((), {"WEBHOOK_URL": "ftp://x", "WEBHOOK_SECRET": "too short"}, 2, ("WEBHOOK_URL", "WEBHOOK_SECRET")),
        (("redeliver", "--all"), {}, 2, ("WEBHOOK_URL: is missing",)),
        (("redeliver",), {}, 2, ("--all",)),
        (("redeliver", "1-0", "--all"), {}, 2, ("--all",)),
        (("dead",), {"REDIS_URL": "redis://127.0.0.1:1/0"}, 4, ("does not answer",)),
    ],
)
async def test_exit_codes(
    tmp_path: Path, redis_url: str, arguments: tuple[str, ...], settings: dict[str, str], code: int, says: list[str]
) -> None:
    got, _, err = await ran(tmp_path, redis_url, *arguments, **settings)
    assert got == code and all(text in err for text in says)
    assert "too short" not in err
