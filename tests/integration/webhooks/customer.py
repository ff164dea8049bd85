"""A customer's web server that takes webhooks, or fails in every way one can; and the sender as a process.

It knows nothing of Redis.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from tests.integration.logged_process import PATIENCE_S, LoggedProcess

ROOT = Path(__file__).parents[3]

SECRET = "0123456789abcdef"

Answering = Callable[["Delivery"], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One request."""

    request: web.Request
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        """What was posted."""
        value: dict[str, Any] = json.loads(self.body)
        return value

    @property
    def call_id(self) -> str:
        """The call it is about."""
        return str(self.event["call_id"])


class Customer:
    """Keeps every request, and answers as `answering` does; 204 unless told otherwise."""

    def __init__(self) -> None:
        self.url = ""
        self.deliveries: list[Delivery] = []
        self.answering: Answering = taken
        self._arrived = asyncio.Condition()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        delivery = Delivery(request, await request.read())
        async with self._arrived:
            self.deliveries.append(delivery)
            self._arrived.notify_all()
        return await self.answering(delivery)

    async def until(self, count: int) -> list[Delivery]:
        """Returns the requests once there have been so many."""
        async with asyncio.timeout(PATIENCE_S), self._arrived:
            await self._arrived.wait_for(lambda: len(self.deliveries) >= count)
            return self.deliveries

    def calls(self) -> list[str]:
        """Returns the call of each request, in order."""
        return [delivery.call_id for delivery in self.deliveries]


async def taken(_: Delivery) -> web.StreamResponse:
    """Answers 204."""
    return web.Response(status=204)


def status(code: int, **headers: str) -> Answering:
    """Returns what answers with a status, and headers named with _ for -."""

    async def answer(_: Delivery) -> web.StreamResponse:
        return web.Response(status=code, headers={name.replace("_", "-"): value for name, value in headers.items()})

    return answer


async def hang(_: Delivery) -> web.StreamResponse:
    """Never answers."""
    await asyncio.Event().wait()
    raise AssertionError


async def break_off(delivery: Delivery) -> web.StreamResponse:
    """Closes the connection without an answer."""
    assert delivery.request.transport
    delivery.request.transport.abort()
    return web.Response()


async def babble(delivery: Delivery) -> web.StreamResponse:
    """Answers with what is no HTTP."""
    assert delivery.request.transport
    delivery.request.transport.write(b"SIP/2.0 200 OK\r\n\r\n")
    delivery.request.transport.close()
    return web.Response()


async def never_end(delivery: Delivery) -> web.StreamResponse:
    """Takes the event, and then talks for ever."""
    response = web.StreamResponse()
    await response.prepare(delivery.request)
    while True:
        await response.write(b"x" * 65536)


def in_turn(*answers: Answering) -> Answering:
    """Returns what answers requests in this order, each event by itself, and stays with the last answer."""
    seen: dict[str, int] = {}

    async def answer(delivery: Delivery) -> web.StreamResponse:
        number = seen.get(delivery.event["id"], 0)
        seen[delivery.event["id"]] = number + 1
        return await answers[min(number, len(answers) - 1)](delivery)

    return answer


@asynccontextmanager
async def serving(customer: Customer, port: int = 0) -> AsyncIterator[Customer]:
    """Runs the server for the block."""
    app = web.Application()
    app.router.add_post("/hook", customer.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        customer.url = "http://{}:{}/hook".format(*runner.addresses[0])
        yield customer
    finally:
        await runner.cleanup()


class SenderProcess(LoggedProcess):
    """A running `voicepool webhooks`."""


async def command(directory: Path, *arguments: str, **settings: str) -> asyncio.subprocess.Process:
    """Starts `voicepool webhooks ...` in a directory without .env, with these settings and no others."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from admin.cli import main; main()",
        "webhooks",
        *arguments,
        cwd=directory,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **settings},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@asynccontextmanager
async def running(directory: Path, redis_url: str, url: str, **settings: str) -> AsyncIterator[SenderProcess]:
    """Runs a sender for the block, once it has begun."""
    settings = {"REDIS_URL": redis_url, "WEBHOOK_URL": url, "WEBHOOK_SECRET": SECRET, **settings}
    sender = SenderProcess(await command(directory, **settings))
    try:
        await sender.event("webhooks.started")
        yield sender
    finally:
        if sender.process.returncode is None:
            await sender.kill()
