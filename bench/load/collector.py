"""What a pool's telemetry goes to under load: a collector that takes everything and keeps nothing."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web


class Collector:
    """Where OTLP is sent to (`url`), and how much has come."""

    def __init__(self) -> None:
        self.url = ""
        self.received_bytes = 0

    async def take(self, request: web.Request) -> web.Response:
        """Answers that everything was taken."""
        self.received_bytes += len(await request.read())
        return web.Response(content_type="application/x-protobuf")


@asynccontextmanager
async def collecting(address: str) -> AsyncIterator[Collector]:
    """Runs a collector in this process, on any free port."""
    collector = Collector()
    app = web.Application()
    app.router.add_post("/{path:.*}", collector.take)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, address, 0).start()
        collector.url = f"http://{address}:{runner.addresses[0][1]}"
        yield collector
    finally:
        await runner.cleanup()
