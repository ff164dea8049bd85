"""A web service for agents' tools, in a thread of the test: it keeps what it was asked, and can be slow."""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from aiohttp import web

from shared.clock import now_ms


class WebService:
    """Answers with JSON by path, whatever the method; `slow` are the seconds a path takes, `together` those paths that
    answer only once two requests for them are there."""

    def __init__(
        self, answers: Mapping[str, Any], *, slow: Mapping[str, float] | None = None, together: tuple[str, ...] = ()
    ) -> None:
        self._answers = answers
        self._slow = slow or {}
        self._together = {path: asyncio.Barrier(2) for path in together}
        self.asked: list[tuple[str, str | None, str]] = []
        """Raw path, Authorization and body of each request, in order."""
        self.answered_at_ms: dict[str, int] = {}
        """When it last answered, by path, in Unix ms."""

    def of(self, path: str) -> list[tuple[str | None, str]]:
        """Returns Authorization and body of each request for a raw path."""
        return [(authorization, body) for asked, authorization, body in self.asked if asked == path]

    async def handle(self, request: web.Request) -> web.Response:
        path = request.raw_path
        self.asked.append((path, request.headers.get("Authorization"), await request.text()))
        if path in self._together:
            async with asyncio.timeout(8.0):
                await self._together[path].wait()
        await asyncio.sleep(self._slow.get(path, 0.0))
        self.answered_at_ms[path] = now_ms()
        return web.json_response(self._answers[path])


@contextmanager
def serving(service: WebService) -> Iterator[str]:
    """Runs the service during the block, and gives its URL."""
    loop = asyncio.new_event_loop()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", service.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
    loop.run_until_complete(runner.setup())
    loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", 0).start())
    thread = threading.Thread(target=loop.run_forever, name="web service")
    thread.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10.0)
        loop.run_until_complete(runner.cleanup())
        loop.close()
