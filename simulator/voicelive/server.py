"""The HTTP server: the Voice Live endpoint and the control API. Does not know what happens inside a session.

GET  [/any/prefix]/voice-live/realtime   the WebSocket
GET  /simulator/sessions                 every session, ended ones too: state, counts, audio, turn marks
GET  /simulator/sessions/{id}            one of them
GET  /simulator/faults                   what waits to happen
POST /simulator/faults                   order faults (format: see `faults`)
DELETE /simulator/faults                 take back what has not happened
"""

import asyncio
import ssl
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

import structlog
from aiohttp import web

from simulator.voicelive.behaviour import Behaviour
from simulator.voicelive.connection import MAX_FRAME_BYTES, Connection
from simulator.voicelive.faults import BadFault, FaultOrder, HandshakeFault, ServerFaults, parse_order
from simulator.voicelive.handshake import REFUSALS, HandshakeRefused, admit
from simulator.voicelive.script import Script
from simulator.voicelive.session import Opening, Session
from simulator.voicelive.speech import Speech
from simulator.voicelive.trace import Trace

# Ended sessions that `GET /simulator/sessions` still shows.
_MAX_ENDED = 500

# How often a stalled handshake looks whether its client is still there.
_STALL_CHECK_S = 0.2

# How long a close waits for the client's close frame.
_CLOSE_TIMEOUT_S = 2.0

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Where and how to serve. Port 0 takes a free one; `api_key` None accepts any key; `trace` stays the caller's."""

    host: str = "127.0.0.1"
    port: int = 0
    api_key: str | None = None
    behaviour: Behaviour = field(default_factory=Behaviour)
    faults: FaultOrder = field(default_factory=FaultOrder)
    voice: str = "en-us"
    tls: ssl.SSLContext | None = None
    trace: Trace | None = None


class Server:
    """A running simulator, as an async context manager; `port` is the one it really listens on."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._speech = Speech(settings.voice)
        self._faults = ServerFaults()
        self._faults.order(settings.faults)
        shared = settings.behaviour.script_scope == "process"
        self._script = Script(settings.behaviour.scenario) if shared else None
        self._connections: dict[str, Connection] = {}
        self._ended: deque[dict[str, Any]] = deque(maxlen=_MAX_ENDED)
        self._stopping = asyncio.Event()
        self._flushing: asyncio.Task[None] | None = None
        self._runner = web.AppRunner(self._application(), access_log=None, shutdown_timeout=_CLOSE_TIMEOUT_S)
        self.port = 0

    @property
    def url(self) -> str:
        """The endpoint to give to the SDK."""
        return f"{'wss' if self._settings.tls else 'ws'}://{self._settings.host}:{self.port}"

    async def __aenter__(self) -> "Server":
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._settings.host, self._settings.port, ssl_context=self._settings.tls)
        await site.start()
        self.port = self._runner.addresses[0][1]
        if self._settings.trace is not None:
            self._flushing = asyncio.create_task(self._settings.trace.flush_regularly(), name="flushes of the trace")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopping.set()
        for connection in self._connections.values():
            connection.close(1001, "The server is stopping.")
        await self._runner.cleanup()
        if self._flushing is not None:
            self._flushing.cancel()

    def _application(self) -> web.Application:
        application = web.Application()
        application.add_routes(
            [
                web.get(r"/{prefix:(.+/)?}voice-live/realtime", self._realtime),
                web.get("/simulator/sessions", self._get_sessions),
                web.get("/simulator/sessions/{id}", self._get_session),
                web.get("/simulator/faults", self._get_faults),
                web.post("/simulator/faults", self._post_faults),
                web.delete("/simulator/faults", self._delete_faults),
            ]
        )
        return application

    async def _realtime(self, request: web.Request) -> web.StreamResponse:
        fault = self._faults.take_handshake()
        if fault is not None:
            return await self._fail_handshake(request, fault)
        try:
            admission = admit(request.query, request.headers, self._settings.api_key)
        except HandshakeRefused as refusal:
            return _http_error(refusal.status, refusal.code, refusal.message)
        socket = web.WebSocketResponse(autoping=False, max_msg_size=MAX_FRAME_BYTES, timeout=_CLOSE_TIMEOUT_S)
        await socket.prepare(request)
        transport = request.transport
        if transport is not None:
            await self._carry(socket, transport, Opening(admission.model, admission.agent, _epoch_s()))
        return socket

    async def _carry(self, socket: web.WebSocketResponse, transport: asyncio.Transport, opening: Opening) -> None:
        session = Session(opening, self._settings.behaviour, time.monotonic(), script=self._script)
        connection = Connection(socket, transport, session, self._speech, self._settings.trace)
        self._connections[session.id] = connection
        _log.info("session opened", session=session.id)
        try:
            await connection.run(self._faults.take_session())
        finally:
            del self._connections[session.id]
            closed = {"code": connection.close_code, "at_ms": session.record.wall_ms(time.monotonic())}
            self._ended.append({**session.shown(), "state": "closed", "closed": closed})
            _log.info("session closed", session=session.id, code=connection.close_code)

    async def _fail_handshake(self, request: web.Request, fault: HandshakeFault) -> web.Response:
        _log.info("handshake fault", status=fault.status, stall=fault.stall)
        while fault.stall and not self._stopping.is_set() and request.transport is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_STALL_CHECK_S):
                    await self._stopping.wait()
        status = fault.status or 503
        response = _http_error(status, *REFUSALS.get(status, (str(status), "Simulated failure.")))
        if fault.retry_after is not None:
            over = formatdate(time.time() + fault.retry_after, usegmt=True)
            response.headers["Retry-After"] = over if fault.http_date else str(fault.retry_after)
        return response

    async def _get_sessions(self, _request: web.Request) -> web.Response:
        return web.json_response({"sessions": self._shown()})

    async def _get_session(self, request: web.Request) -> web.Response:
        for shown in self._shown():
            if shown["id"] == request.match_info["id"]:
                return web.json_response(shown)
        return _http_error(404, "NotFound", "No such session.")

    async def _get_faults(self, _request: web.Request) -> web.Response:
        return web.json_response(self._faults.shown())

    async def _post_faults(self, request: web.Request) -> web.Response:
        try:
            running = self._faults.order(parse_order(await request.read()))
        except BadFault as error:
            return _http_error(400, "BadRequest", str(error))
        struck = 0
        for fault in running:
            for connection in list(self._connections.values()):
                if fault.session in ("all", connection.session.id):
                    connection.order(fault)
                    struck += 1
        return web.json_response({**self._faults.shown(), "applied": struck})

    async def _delete_faults(self, _request: web.Request) -> web.Response:
        self._faults.clear()
        return web.json_response(self._faults.shown())

    def _shown(self) -> list[dict[str, Any]]:
        running = [{**connection.session.shown(), "closed": None} for connection in self._connections.values()]
        return [*self._ended, *running]


def _http_error(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"error": {"code": code, "message": message}}, status=status)


def _epoch_s() -> float:
    """Unix time minus the time that sessions run on."""
    return time.time() - time.monotonic()
