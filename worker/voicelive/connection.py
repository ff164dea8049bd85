"""One WebSocket to Voice Live: the SDK connects, signs in and updates the session; audio goes the short way.

It does not decide anything about the conversation; `session.py` does. Audio does not pass through the SDK's typed
models: they cost more per message than everything else a call does (ARCHITECTURE.md, "Why not").

    events, session.update      SDK -> aiohttp -> transport
    caller audio                append_frame -----> transport     no task, no await: it happens 50 times a second
    other client events         event_frame ------> transport     no await either: what is decided is sent in its order
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import structlog
from aiohttp import WSMsgType
from azure.ai.voicelive.aio import ConnectionError as VoiceLiveConnectionError
from azure.ai.voicelive.aio import VoiceLiveConnection, connect
from azure.core.credentials import AzureKeyCredential
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError, ClientAuthenticationError

from shared.agents.model import FoundryAgent
from shared.errors import UpstreamError
from worker.voicelive.events import MalformedEvent, Other, ServerEvent, decode
from worker.voicelive.frames import append_frame, event_frame

log = structlog.get_logger()

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""Largest server message accepted: a minute of 24 kHz audio in base64; a larger one ends the connection."""

PING_INTERVAL_S = 20.0
"""A WebSocket ping goes out this often, and the connection counts as dead when half that time brings no pong."""

BACKLOG_MAX_BYTES = 16 * 1024
"""Bytes on their way out beyond which no more audio should be appended: about a second of it in most formats."""


@dataclass(frozen=True, slots=True)
class Resource:
    """Where a session is opened, as whom, and who answers there."""

    endpoint: str
    credential: AzureKeyCredential | AsyncTokenCredential
    model: str = ""
    foundry_agent: FoundryAgent | None = None
    """Answers instead of a model."""


class Connection:
    """An open connection; `events()` ends with UpstreamError when the other side goes away."""

    def __init__(self, sdk: VoiceLiveConnection) -> None:
        self._sdk = sdk
        # The SDK has no public way to send prepared bytes, nor one to learn the real close code.
        self._socket: aiohttp.ClientWebSocketResponse = sdk._connection
        # A whole frame may be written between those of aiohttp unless those are compressed, which we do not ask for.
        assert not self._socket.compress
        self._transport = self._socket._writer.transport
        self.malformed = 0
        """Messages that were no events; they are dropped."""

    async def events(self) -> AsyncIterator[ServerEvent | Other]:
        """Yields server events in order; raises UpstreamError once the connection is closed or broken."""
        while True:
            message = await self._socket.receive()
            if message.type is WSMsgType.TEXT or message.type is WSMsgType.BINARY:
                try:
                    yield decode(message.data)
                except MalformedEvent as error:
                    self._drop(error)
            else:
                raise UpstreamError("connection closed", status=self._socket.close_code)

    def _drop(self, error: MalformedEvent) -> None:
        self.malformed += 1
        if self.malformed == 1:  # the first says it all, a thousand would say no more
            log.warning("voicelive.malformed_event", reason=str(error))

    @property
    def congested(self) -> bool:
        """Whether what was sent has not gone out yet: more audio would only wait here."""
        return self._transport.get_write_buffer_size() > BACKLOG_MAX_BYTES

    def append(self, audio: bytes) -> None:
        """Sends caller audio (input_audio_buffer.append) in the session's input format.

        It never waits; see `congested`. On a connection that is closing it does nothing: `events()` says so.
        """
        if not self._transport.is_closing():
            self._transport.write(append_frame(audio))

    async def update_session(self, session: dict[str, Any]) -> None:
        """Sends session.update."""
        try:
            await self._sdk.session.update(session=session)
        except VoiceLiveConnectionError as error:
            raise UpstreamError("connection closed", status=self._socket.close_code) from error

    def send(self, event: dict[str, Any]) -> None:
        """Sends any other client event. It never waits; on a connection that is closing it does nothing."""
        if not self._transport.is_closing():
            self._transport.write(event_frame(event))


@asynccontextmanager
async def open_connection(resource: Resource) -> AsyncIterator[Connection]:
    """Opens a connection and closes it on leaving; raises UpstreamError with the HTTP status of a refusal.

    The SDK has no handshake timeout: the caller bounds the time.
    """
    opening = connect(
        credential=resource.credential,
        endpoint=resource.endpoint,
        connection_options={
            "max_msg_size": MAX_MESSAGE_BYTES,
            "heartbeat": PING_INTERVAL_S,
            "vendor_options": {"timeout": aiohttp.ClientWSTimeout(ws_close=1.0)},
        },
        **_answering(resource),
    )
    try:
        sdk = await opening.__aenter__()
    except (AzureError, aiohttp.ClientError, OSError) as error:
        raise _refused(error) from error
    try:
        yield Connection(sdk)
    finally:
        await opening.__aexit__(None, None, None)


def _answering(resource: Resource) -> dict[str, Any]:
    agent = resource.foundry_agent
    if agent is None:
        return {"model": resource.model}
    named = {"agent_name": agent.name, "project_name": agent.project}
    rest = {"agent_version": agent.version, "conversation_id": agent.conversation_id}
    return named | {name: value for name, value in rest.items() if value is not None}


def _refused(error: Exception) -> UpstreamError:
    if isinstance(error, ClientAuthenticationError):
        # What Entra says in detail names tenants and accounts: it stays out of the logs.
        return UpstreamError("cannot sign in with Microsoft Entra: log in (az login) or set AZURE_VOICELIVE_API_KEY")
    cause = error.__cause__ if isinstance(error, VoiceLiveConnectionError) else error
    if isinstance(cause, aiohttp.WSServerHandshakeError):
        return UpstreamError(
            f"handshake refused with {cause.status}",
            status=cause.status,
            retry_after_s=_seconds(cause.headers.get("Retry-After", "") if cause.headers else ""),
        )
    return UpstreamError(f"cannot connect: {type(cause or error).__name__}")


def _seconds(retry_after: str) -> float | None:
    """Returns how long a Retry-After asks to wait (RFC 9110 section 10.2.3): seconds or a date; None for neither."""
    if retry_after.isdigit():
        return float(retry_after)
    try:
        at = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, (at - datetime.now(UTC)).total_seconds())
