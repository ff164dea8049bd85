"""The worker's connection to Voice Live, against the simulator over a real WebSocket."""

import asyncio
import json
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from azure.core.credentials import AccessToken, AzureKeyCredential
from azure.core.credentials_async import AsyncTokenCredential

from shared.agents.model import Agent
from shared.agents.model import Resource as VoiceLiveResource
from shared.errors import UpstreamError
from tests.acceptance.process import PoolProcess
from worker.voicelive import events, messages
from worker.voicelive.configuration import session_update
from worker.voicelive.connection import Connection, Resource, _seconds, open_connection
from worker.voicelive.credentials import Credentials

UPDATE = session_update(Agent(name="test", model="gpt-4.1-mini"), "", "g711_ulaw", 8000, [])


class Simulator:
    """A simulator process and its control API."""

    def __init__(self, process: PoolProcess) -> None:
        first = process.wait_for("simulator.listening")[0]
        self.url = f"http://{first['host']}:{first['port']}"

    def order(self, **faults: Any) -> None:
        body = json.dumps(faults).encode()
        request = urllib.request.Request(
            f"{self.url}/simulator/faults", body, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status < 300

    def resource(self, credential: Any = None) -> Resource:
        return Resource(self.url, credential or AzureKeyCredential("any"), "gpt-4.1-mini")


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    process = PoolProcess(
        "simulator", ["simulator", "--port", "0", "--pace", "instant"], {}, tmp_path_factory.mktemp("simulator")
    )
    try:
        yield Simulator(process)
    finally:
        process.end()
        process.close()


async def until(connection: Connection, kind: type[Any]) -> Any:
    async with asyncio.timeout(20):
        async for event in connection.events():
            if isinstance(event, kind):
                return event
    raise AssertionError("events() ended without an exception")


async def test_a_session_is_created_and_updated(simulator: Simulator) -> None:
    async with open_connection(simulator.resource()) as connection:
        assert (await until(connection, events.SessionCreated)).session.id
        await connection.update_session(UPDATE)
        assert (await until(connection, events.SessionUpdated)).session.expires_at


async def test_audio_goes_up_and_the_parrot_answers_with_the_same_bytes(simulator: Simulator) -> None:
    loud, silent = bytes(range(0x00, 0x80, 8)) * 10 * 40, b"\xff" * 160 * 60
    async with open_connection(simulator.resource()) as connection:
        await until(connection, events.SessionCreated)
        await connection.update_session(UPDATE)
        await until(connection, events.SessionUpdated)
        for audio in (silent, loud, silent):
            for at in range(0, len(audio), 320):
                connection.append(audio[at : at + 320])
        await until(connection, events.SpeechStarted)
        await until(connection, events.SpeechStopped)
        answer = b""
        async with asyncio.timeout(20):
            async for event in connection.events():
                if isinstance(event, events.AudioDelta):
                    answer += event.delta
                if isinstance(event, events.ResponseDone):
                    break
        assert loud in answer


async def test_an_entra_token_is_sent_as_bearer(simulator: Simulator) -> None:
    class Credential(AsyncTokenCredential):
        asked: tuple[str, ...] = ()

        async def get_token(self, *scopes: str, **_: Any) -> AccessToken:
            self.asked = scopes
            return AccessToken("a-token", 4_000_000_000)

        async def close(self) -> None: ...

        async def __aexit__(self, *_: Any) -> None: ...

    credential = Credential()
    async with open_connection(simulator.resource(credential)) as connection:
        assert await until(connection, events.SessionCreated)
    assert credential.asked == ("https://ai.azure.com/.default",)


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_refused_handshake_tells_its_status(simulator: Simulator, status: int) -> None:
    simulator.order(next_handshake={"status": status, "count": 1})
    with pytest.raises(UpstreamError) as refused:
        async with open_connection(simulator.resource()):
            raise AssertionError("the handshake was not refused")
    assert refused.value.status == status


async def test_too_many_connections_tell_when_to_come_back(simulator: Simulator) -> None:
    simulator.order(next_handshake={"status": 429, "retry_after": 3, "count": 1})
    with pytest.raises(UpstreamError) as refused:
        async with open_connection(simulator.resource()):
            raise AssertionError("the handshake was not refused")
    assert (refused.value.status, refused.value.retry_after_s) == (429, 3.0)


async def test_nobody_listening_is_an_upstream_error() -> None:
    with pytest.raises(UpstreamError, match="cannot connect"):
        async with open_connection(Resource("ws://127.0.0.1:9", AzureKeyCredential("k"), "gpt-4.1-mini")):
            raise AssertionError("somebody listens on the discard port")


@pytest.mark.parametrize("kind", ["abort", "close", "oversize"])
async def test_a_broken_connection_ends_the_events_with_an_error(simulator: Simulator, kind: str) -> None:
    simulator.order(sessions=[{"kind": kind, "session": "next", "on": "session.updated"}])
    async with open_connection(simulator.resource()) as connection:
        await until(connection, events.SessionCreated)
        await connection.update_session(UPDATE)
        with pytest.raises(UpstreamError):
            await until(connection, events.ResponseDone)


@pytest.mark.parametrize("kind", ["unknown_event", "warning", "binary", "bad_json"])
async def test_messages_that_mean_nothing_are_dropped(simulator: Simulator, kind: str) -> None:
    simulator.order(sessions=[{"kind": kind, "session": "next", "on": "session.created"}])
    async with open_connection(simulator.resource()) as connection:
        await until(connection, events.SessionCreated)
        await connection.update_session(UPDATE)
        assert await until(connection, events.SessionUpdated)
        assert connection.malformed == (kind in ("binary", "bad_json"))


async def collect(source: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in source]


async def test_appending_to_a_closed_connection_is_harmless(simulator: Simulator) -> None:
    simulator.order(sessions=[{"kind": "close", "session": "next", "on": "session.created"}])
    async with open_connection(simulator.resource()) as connection:
        with pytest.raises(UpstreamError):
            await collect(connection.events())
        connection.append(b"\xff" * 160)
        assert not connection.congested


async def test_a_server_that_does_not_read_congests_the_connection() -> None:
    async def deaf(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        transport = request.transport
        assert transport is not None
        transport.pause_reading()
        await released.wait()
        return socket

    released = asyncio.Event()
    application = web.Application()
    application.router.add_get("/voice-live/realtime", deaf)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    resource = Resource(f"ws://127.0.0.1:{runner.addresses[0][1]}", AzureKeyCredential("key"), "model")
    async with open_connection(resource) as connection:
        assert not connection.congested
        async with asyncio.timeout(20):
            while not connection.congested:
                connection.append(b"\xff" * 64_000)  # until the sockets' buffers are full
                await asyncio.sleep(0)
        released.set()
    await runner.cleanup()


def test_entra_is_imported_only_when_there_is_no_api_key() -> None:
    program = (
        "import asyncio, sys\n"
        "from pydantic import SecretStr\n"
        "from shared.agents.model import Resource\n"
        "from worker.voicelive.credentials import Credentials\n"
        "async def use(key):\n"
        "    async with Credentials() as credentials:\n"
        "        resource = Resource(endpoint='https://example.org', api_key=key and SecretStr(key))\n"
        "        await credentials.prepare(resource)\n"
        "        return type(credentials.of(resource)).__name__\n"
        "print(asyncio.run(use('key')), 'azure.identity' in sys.modules)\n"
        "print(asyncio.run(use(None)), 'azure.identity' in sys.modules)\n"
    )
    root = Path(__file__).parents[2]
    output = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=60)
    assert output.stdout.splitlines() == ["AzureKeyCredential False", "DefaultAzureCredential True"], output.stderr


async def test_one_credential_of_entra_serves_all_resources_without_a_key() -> None:
    async with Credentials() as credentials:
        first, second = (VoiceLiveResource(endpoint=f"https://{name}.example.org") for name in ("one", "two"))
        await credentials.prepare(first)
        await credentials.prepare(second)
        assert credentials.of(first) is credentials.of(second)


async def test_any_other_client_event_reaches_the_service_in_order(simulator: Simulator) -> None:
    async with open_connection(simulator.resource()) as connection:
        await until(connection, events.SessionCreated)
        await connection.update_session(UPDATE)
        connection.send(messages.user_message("Grüße, \u0000 and 😀", "told_1"))
        connection.send(messages.user_message("second", "told_2"))
        assert (await until(connection, events.ItemCreated)).item.id == "told_1"
        assert (await until(connection, events.ItemCreated)).item.id == "told_2"


@pytest.mark.parametrize(
    ("header", "seconds"), [("3", 3.0), ("", None), ("soon", None), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0)]
)
def test_retry_after_is_seconds_or_a_date(header: str, seconds: float | None) -> None:
    assert _seconds(header) == seconds
