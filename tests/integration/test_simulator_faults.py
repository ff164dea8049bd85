"""What the real SDK sees of each fault, and the control API that orders them."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import pytest
from azure.ai.voicelive.aio import ConnectionClosed, ConnectionError, VoiceLiveConnection, connect
from azure.core.credentials import AzureKeyCredential

from simulator.voicelive.behaviour import Behaviour
from simulator.voicelive.faults import MAX_DURATION_REASON
from simulator.voicelive.server import Server, ServerSettings


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with Server(ServerSettings(api_key="secret", behaviour=Behaviour(pace="instant"))) as server:
        yield server


@pytest.fixture
async def control(server: Server) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(f"http://127.0.0.1:{server.port}") as client:
        yield client


def connecting(server: Server, key: str = "secret", model: str | None = "gpt-4.1-mini", **options: Any) -> Any:
    return connect(credential=AzureKeyCredential(key), endpoint=server.url, model=model, **options)


async def order(control: aiohttp.ClientSession, **fields: object) -> dict[str, Any]:
    async with control.post("/simulator/faults", json=fields) as response:
        assert response.status == 200
        answer: dict[str, Any] = await response.json()
        return answer


async def refused(connecting: Any) -> aiohttp.WSServerHandshakeError:
    with pytest.raises(ConnectionError) as failure:
        async with connecting:
            pass
    assert isinstance(failure.value.__cause__, aiohttp.WSServerHandshakeError)
    return failure.value.__cause__


async def closed(connection: VoiceLiveConnection) -> ConnectionClosed:
    """The exception that ends the connection."""
    async with asyncio.timeout(10):
        with pytest.raises(ConnectionClosed) as failure:
            while True:
                await connection.recv()
    return failure.value


@pytest.mark.parametrize("status", [401, 403, 404, 429, 503])
async def test_a_handshake_can_be_refused_with_any_status(
    server: Server, control: aiohttp.ClientSession, status: int
) -> None:
    await order(control, next_handshake={"status": status, "retry_after": 3, "count": 2})
    for _ in range(2):
        failure = await refused(connecting(server))
        assert failure.status == status
        assert failure.headers is not None and failure.headers["Retry-After"] == "3"
    async with connecting(server) as connection:
        assert (await connection.recv()).type == "session.created"


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (401, "401", "invalid subscription key"),
        (403, "AuthenticationTypeDisabled", "Key based authentication is disabled"),
        (404, "404", "Resource not found"),
        (429, "429", "rate limit"),
    ],
)
async def test_a_refused_handshake_says_why_in_its_body(
    control: aiohttp.ClientSession, status: int, code: str, words: str
) -> None:
    await order(control, next_handshake={"status": status})
    async with control.get("/voice-live/realtime") as response:
        assert response.status == status
        error = (await response.json())["error"]
    assert error["code"] == code and words in error["message"]


async def test_the_time_to_retry_after_can_be_a_date(server: Server, control: aiohttp.ClientSession) -> None:
    await order(control, next_handshake={"status": 429, "retry_after": 3600, "http_date": True})
    failure = await refused(connecting(server))
    assert failure.headers is not None
    over = parsedate_to_datetime(failure.headers["Retry-After"])
    assert timedelta(minutes=50) < over - datetime.now(UTC) < timedelta(minutes=70)


async def test_an_update_can_be_refused_or_stay_unanswered(server: Server, control: aiohttp.ClientSession) -> None:
    async with connecting(server) as connection:
        await connection.recv()
        await order(control, sessions=[{"kind": "refuse_update"}, {"kind": "mute_update"}])
        await connection.session.update(session={})  # muted
        await connection.session.update(session={})  # refused
        await connection.session.update(session={})
        error, updated = await connection.recv(), await connection.recv()
    assert (error.type, error.error.param, updated.type) == ("error", "session.voice", "session.updated")


async def test_a_wrong_key_a_missing_model_and_a_wrong_version_are_refused(server: Server) -> None:
    assert (await refused(connecting(server, key="other"))).status == 401
    assert (await refused(connecting(server, model=None))).status == 400
    assert (await refused(connecting(server, api_version="1999-01-01"))).status == 400


async def test_a_stalled_handshake_is_never_answered(server: Server, control: aiohttp.ClientSession) -> None:
    await order(control, next_handshake={"stall": True})
    # not through the SDK, which leaks its ClientSession when connecting is cancelled
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await control.ws_connect("/voice-live/realtime")
    async with connecting(server) as connection:
        assert (await connection.recv()).type == "session.created"


async def test_an_aborted_connection_is_a_1006(server: Server, control: aiohttp.ClientSession) -> None:
    async with connecting(server) as connection:
        assert (await order(control, sessions=[{"kind": "abort"}]))["applied"] == 1
        await closed(connection)
        assert connection._connection.close_code == 1006


async def test_a_close_carries_code_and_reason(server: Server, control: aiohttp.ClientSession) -> None:
    async with connecting(server) as connection:
        await connection.recv()
        await order(control, sessions=[{"kind": "close"}])
        message = await connection._connection.receive()
        assert (message.type, message.data, message.extra) == (aiohttp.WSMsgType.CLOSE, 1001, MAX_DURATION_REASON)
    (session,) = await ended_sessions(control)
    assert (session["state"], session["closed"]["code"]) == ("closed", 1001)


async def test_a_session_ends_at_its_time_limit() -> None:
    async with Server(ServerSettings(behaviour=Behaviour(max_session_s=0.2))) as server:
        async with connecting(server) as connection:
            await connection.recv()
            error = await connection.recv()
            assert error.error.message == MAX_DURATION_REASON
            assert (await closed(connection)).code == 1001


async def test_an_oversize_frame_kills_the_sdks_connection(server: Server, control: aiohttp.ClientSession) -> None:
    async with connecting(server) as connection:
        await order(control, sessions=[{"kind": "oversize"}])
        await closed(connection)


@pytest.mark.parametrize("kind", ["binary", "bad_json"])
async def test_what_is_not_json_raises_in_the_sdk(server: Server, control: aiohttp.ClientSession, kind: str) -> None:
    async with connecting(server) as connection:
        await connection.recv()
        await order(control, sessions=[{"kind": kind}])
        with pytest.raises(ConnectionError, match="Failed to parse message"):
            await connection.recv()
        await connection.response.cancel()
        assert (await connection.recv()).type == "error"


async def test_pings_are_answered(server: Server) -> None:
    async with connecting(server, connection_options={"heartbeat": 0.1}) as connection:
        await connection.recv()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await connection.recv()
        await connection.session.update(session={})
        assert (await connection.recv()).type == "session.updated"


async def test_without_pongs_the_sdk_gives_up(server: Server, control: aiohttp.ClientSession) -> None:
    await order(control, sessions=[{"kind": "no_pong", "session": "next"}])
    async with connecting(server, connection_options={"heartbeat": 0.2}) as connection:
        await closed(connection)
        assert connection._connection.close_code == 1006


@pytest.mark.parametrize("kind", ["unknown_event", "warning", "error"])
async def test_odd_events_reach_the_sdk_and_the_call_goes_on(
    server: Server, control: aiohttp.ClientSession, kind: str
) -> None:
    async with connecting(server) as connection:
        await connection.recv()
        await order(control, sessions=[{"kind": kind}])
        event = await connection.recv()
        assert event.type == {"unknown_event": "response.hologram.delta"}.get(kind, kind)
        await connection.session.update(session={})
        assert (await connection.recv()).type == "session.updated"


async def test_a_hung_session_stays_open_and_silent(server: Server, control: aiohttp.ClientSession) -> None:
    async with connecting(server) as connection:
        await connection.recv()
        await order(control, sessions=[{"kind": "hang"}])
        await connection.session.update(session={})
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await connection.recv()
        (session,) = await sessions(control)
        assert session["state"] == "silent"
        assert session["received"] == {"session.update": 1}


async def test_a_fault_can_wait_for_an_event_in_the_next_session(
    server: Server, control: aiohttp.ClientSession
) -> None:
    fault = {"kind": "abort", "session": "next", "on": "session.updated", "nth": 2}
    assert (await order(control, sessions=[fault]))["sessions"][0]["nth"] == 2
    async with connecting(server) as connection:
        for _ in range(2):
            await connection.session.update(session={})
        await closed(connection)
    (session,) = await ended_sessions(control)
    assert session["sent"]["session.updated"] == 2
    assert session["closed"]["code"] == 1006


async def test_a_fault_can_name_one_session(server: Server, control: aiohttp.ClientSession) -> None:
    async with connecting(server) as spared, connecting(server) as struck:
        await spared.recv()
        session_id = (await struck.recv()).session.id
        await order(control, sessions=[{"kind": "abort", "session": session_id}])
        await closed(struck)
        await spared.session.update(session={})
        assert (await spared.recv()).type == "session.updated"


async def test_waiting_faults_can_be_taken_back(server: Server, control: aiohttp.ClientSession) -> None:
    await order(control, next_handshake={"status": 429}, sessions=[{"kind": "abort", "session": "every"}])
    async with control.delete("/simulator/faults") as response:
        assert await response.json() == {"next_handshake": None, "sessions": []}
    async with connecting(server) as connection:
        await connection.session.update(session={})
        assert [(await connection.recv()).type for _ in range(2)] == ["session.created", "session.updated"]
    async with control.get("/simulator/faults") as response:
        assert (await response.json())["next_handshake"] is None


async def test_a_bad_order_is_a_bad_request(control: aiohttp.ClientSession) -> None:
    async with control.post("/simulator/faults", data=b'{"sessions": [{"kind": "flood"}]}') as response:
        assert response.status == 400
        assert "flood" in (await response.json())["error"]["message"]


async def test_a_running_session_can_be_looked_at(server: Server, control: aiohttp.ClientSession) -> None:
    before_ms = time.time() * 1000
    async with connecting(server) as connection:
        session_id = (await connection.recv()).session.id
        async with control.get(f"/simulator/sessions/{session_id}") as response:
            session = await response.json()
        assert (session["state"], session["model"], session["closed"]) == ("listening", "gpt-4.1-mini-2025-04-14", None)
        (opened,) = session["marks"]
        assert opened["kind"] == "opened"
        assert before_ms - 1000 < opened["at_ms"] < time.time() * 1000 + 1000
    async with control.get("/simulator/sessions/sess_nobody") as response:
        assert response.status == 404


async def test_a_stopping_server_closes_its_sessions() -> None:
    async with Server(ServerSettings()) as server:
        connection = await connecting(server).__aenter__()
        await connection.recv()
        end = asyncio.create_task(closed(connection))
    assert (await end).code == 1001
    await connection.close()


async def sessions(control: aiohttp.ClientSession) -> list[dict[str, Any]]:
    async with control.get("/simulator/sessions") as response:
        shown: list[dict[str, Any]] = (await response.json())["sessions"]
        return shown


async def ended_sessions(control: aiohttp.ClientSession) -> list[dict[str, Any]]:
    """All sessions, as soon as the server has noticed that they ended."""
    async with asyncio.timeout(10):
        while True:
            shown = await sessions(control)
            if all(session["closed"] for session in shown):
                return shown
