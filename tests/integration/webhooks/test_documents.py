"""What docs/events.md shows works: the fields of events, the consumer, the receiver."""

import asyncio
import json
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from redis.asyncio import Redis

from admin.webhooks.receiver import body_of, receiver, signature
from admin.webhooks.settings import WebhookSettings
from shared.control import keys
from shared.control.events import Event, EventName, Events
from shared.settings import load
from tests.integration.logged_process import PATIENCE_S
from tests.integration.redis.drive import drive
from tests.integration.webhooks.customer import ROOT, SECRET

TEXT = (ROOT / "docs" / "events.md").read_text("utf-8")
EVENT = Event("1-0", "call.ended", 1, {"call_id": "one"})


async def test_events_have_the_fields_that_are_documented(redis: Redis, events: Events) -> None:
    rows = re.findall(r"^\| `([a-z]+\.[a-z]+)` \| (.+?) \|", TEXT, re.MULTILINE)
    documented = {name: set(re.findall(r"`(\w+)`", fields)) for name, fields in rows}
    await drive(redis, redis)
    told = await events.read(1000)
    assert {event.name for event in told} >= {"call.started", "call.ended", "worker.joined", "dispatcher.joined"}
    for event in told:
        assert set(event.about) == documented[event.name], event.name


class Consumer:
    """docs/events_consumer.py as a process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def calls(self, count: int) -> list[str]:
        """Returns the calls of the next events it prints."""
        assert self.process.stdout
        async with asyncio.timeout(PATIENCE_S):
            return [json.loads(await self.process.stdout.readline())["call_id"] for _ in range(count)]


@asynccontextmanager
async def consumer(directory: Path, redis_url: str, group: str, reader: str) -> AsyncIterator[Consumer]:
    """Runs it for the block, and kills it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(ROOT / "docs" / "events_consumer.py"),
        group,
        reader,
        cwd=directory,
        env={"PATH": os.environ["PATH"], "REDIS_URL": redis_url},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Consumer(process)
    finally:
        process.send_signal(signal.SIGKILL)
        await process.wait()


async def tell(events: Events, *call_ids: str) -> None:
    """Writes one event for each."""
    for call_id in call_ids:
        await events.tell(EventName.CALL_REFUSED, {"call_id": call_id, "status": 503, "reason": "no_capacity"})


async def waiting(redis: Redis) -> None:
    """Returns once the consumer waits for the next event, which Redis does not announce."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            clients: dict[str, Any] = await redis.info("clients")
            if clients["blocked_clients"]:
                return
            await asyncio.sleep(0.02)


async def test_the_consumer_reads_every_event_and_goes_on_where_it_was(
    tmp_path: Path, redis_url: str, redis: Redis, events: Events
) -> None:
    await tell(events, "before")
    async with consumer(tmp_path, redis_url, "example", "one") as one:
        assert await one.calls(1) == ["before"]
        await tell(events, "now")
        assert await one.calls(1) == ["now"]
    await tell(events, "meanwhile")
    async with consumer(tmp_path, redis_url, "example", "two") as two:
        assert await two.calls(1) == ["meanwhile"]
        for call_id in ("anew", "and again"):
            await redis.flushall()  # as a Redis that starts empty
            await tell(events, call_id)
            assert await two.calls(1) == [call_id]
            await waiting(redis)


async def test_the_consumer_takes_over_from_a_dead_one_and_resumes_its_own(
    tmp_path: Path, redis_url: str, redis: Redis, events: Events
) -> None:
    await tell(events, "trimmed", "of the dead", "of the same name")
    await redis.xgroup_create(keys.events(), "example", "0")
    given: Any = await redis.xreadgroup("example", "dead", {keys.events(): ">"}, count=2)
    await redis.xreadgroup("example", "one", {keys.events(): ">"}, count=1)
    ids = [entry_id for entry_id, _ in given[0][1]]
    await redis.xclaim(keys.events(), "example", "dead", 0, ids, idle=3_600_000, justid=True)
    await redis.xtrim(keys.events(), maxlen=2, approximate=False)
    async with consumer(tmp_path, redis_url, "example", "one") as one:
        assert await one.calls(2) == ["of the same name", "of the dead"]


async def test_the_consumer_passes_over_its_own_events_that_were_trimmed(
    tmp_path: Path, redis_url: str, redis: Redis, events: Events
) -> None:
    await tell(events, "trimmed", "kept")
    await redis.xgroup_create(keys.events(), "example", "0")
    await redis.xreadgroup("example", "one", {keys.events(): ">"})
    await redis.xtrim(keys.events(), maxlen=1, approximate=False)
    async with consumer(tmp_path, redis_url, "example", "one") as one:
        assert await one.calls(1) == ["kept"]


@pytest.fixture
async def documented() -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """The receiver of the document, running: its URL, and what it takes."""
    [source] = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    taken: list[dict[str, Any]] = []
    names: dict[str, Any] = {"SECRET": SECRET.encode(), "take": taken.append}
    exec(source, names)
    app = web.Application()
    app.router.add_post("/hook", names["receive"])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield "http://{}:{}/hook".format(*runner.addresses[0]), taken
    finally:
        await runner.cleanup()


async def test_the_receiver_takes_what_the_sender_has_signed(documented: tuple[str, list[dict[str, Any]]]) -> None:
    url, taken = documented
    async with receiver(load(WebhookSettings, WEBHOOK_URL=url, WEBHOOK_SECRET=SECRET)) as to:
        assert await to.offer(EVENT, 1) is None
    assert taken == [EVENT.flat()]


@pytest.mark.parametrize(
    ("key", "age_s", "change"),
    [
        (b"another secret..", 0, b""),
        (SECRET.encode(), 301, b""),
        (SECRET.encode(), -301, b""),
        (SECRET.encode(), 0, b" "),
    ],
)
async def test_the_receiver_refuses_what_is_forged_old_or_changed(
    documented: tuple[str, list[dict[str, Any]]], key: bytes, age_s: int, change: bytes
) -> None:
    url, taken = documented
    body = body_of(EVENT)
    header = signature(key, body, int(time.time()) - age_s)
    assert await post(url, body + change, header) == 401 and taken == []


@pytest.mark.parametrize("header", ["", "t=,v1=", "v1=00", "t=x,v1=\u00e9", ",,==,", "t=1"])
async def test_the_receiver_refuses_what_is_no_signature(
    documented: tuple[str, list[dict[str, Any]]], header: str
) -> None:
    url, taken = documented
    assert await post(url, body_of(EVENT), header) == 401 and taken == []


async def post(url: str, body: bytes, header: str) -> int:
    """Returns the status."""
    async with aiohttp.ClientSession() as session:
        async with session.post(url, data=body, headers={"X-Voicepool-Signature": header}) as response:
            return response.status
