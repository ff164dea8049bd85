"""The HTTP API, put together.

It listens on nothing (`serve.py`).
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI

from admin.api import acting, metrics, problems, reading, stream
from admin.api.access import Access
from admin.api.frame import BODY_MAX, Frame
from admin.api.tokens import TokenFile
from shared.control.address import RedisAddress
from shared.control.connection import connect
from shared.telemetry.certificates import of_redis

LOOPBACK_HOSTS = ("127.0.0.1", "[::1]", "localhost")

_DESCRIPTION = """\
The pool as operators see it, and what they can have it do: the same as the command line `voicepool`.

Every request but the probes needs `Authorization: Bearer` and a token. Tokens have one of two roles: `read` looks,
`operate` also acts and sees whole call records. Errors are problem details (RFC 9457) with the `X-Request-Id` under
which the server's log has them too. Where an id is asked for, it may be given by how it begins.
"""


def make_app(redis: RedisAddress, tokens: TokenFile | None, stopping: Callable[[], bool]) -> Frame:
    """Returns the app; `stopping` says that event streams are to end.

    Without tokens it serves everybody, as long as they ask for this host by one of LOOPBACK_HOSTS.
    """
    app = FastAPI(
        title="voicepool",
        version="1",
        description=_DESCRIPTION,
        docs_url=None,  # its page would load scripts from elsewhere
        redoc_url=None,
        max_body_size=BODY_MAX,  # for those that do not say how long they are
        lifespan=_lifespan,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.redis = connect(redis, client_name="voicepool-api")
    app.state.certificates = of_redis(redis)
    app.state.access = Access(tokens)
    app.state.stopping = stopping
    app.state.streams = 0
    problems.install(app)
    for router in (stream.router, reading.router, acting.router, reading.figures, metrics.router, reading.probes):
        app.include_router(router)
    return Frame(app, () if tokens else LOOPBACK_HOSTS)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    await app.state.redis.aclose()
