"""The relay before a server: what it lets through, holds up and breaks."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bench.faults.relay import Relay, RelayThread

PATIENCE_S = 10.0


class Line:
    """One connection through the relay to an echo."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def say(self, data: bytes) -> None:
        """Sends it."""
        self._writer.write(data)

    async def hear(self, count: int) -> bytes:
        """Returns that many bytes of the echo."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._reader.readexactly(count)

    async def ended(self) -> bytes:
        """Returns all that comes until the other side ends the connection."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._reader.read()

    def close(self) -> None:
        self._writer.close()


@asynccontextmanager
async def line(relay: Relay) -> AsyncIterator[Line]:
    async with asyncio.timeout(PATIENCE_S):
        connected = Line(*await asyncio.open_connection(relay.host, relay.port))
    try:
        yield connected
    finally:
        connected.close()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Says what it hears, until it hears `bye`."""
    try:
        while (data := await reader.read(65536)) and data != b"bye":
            writer.write(data)
            await writer.drain()
    except ConnectionResetError:
        pass
    finally:
        writer.close()


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    """A relay before an echo."""
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, Relay("127.0.0.1", server.sockets[0].getsockname()[1]) as relay:
        yield relay


async def test_everything_passes_in_order(relay: Relay) -> None:
    data = bytes(range(256)) * 20_000  # more than any buffer on the way
    async with line(relay) as connected:
        connected.say(data)
        assert await connected.hear(len(data)) == data


async def test_a_slow_way_delays_each_direction_and_keeps_the_order(relay: Relay) -> None:
    async with line(relay) as connected:
        connected.say(b"a")
        await connected.hear(1)
        await relay.slow(50)
        loop = asyncio.get_running_loop()
        begin = loop.time()
        connected.say(b"b")
        await asyncio.sleep(0)
        connected.say(b"c")
        assert await connected.hear(2) == b"bc"
        assert loop.time() - begin >= 0.1


async def test_a_frozen_way_accepts_and_moves_nothing_until_it_is_healed(relay: Relay) -> None:
    async with line(relay) as before:
        before.say(b"a")
        assert await before.hear(1) == b"a"
        await relay.freeze()
        async with line(relay) as after:
            before.say(b"b")
            after.say(b"c")
            for connected in (before, after):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await connected.hear(1)
            await relay.heal()
            assert (await before.hear(1), await after.hear(1)) == (b"b", b"c")


async def test_a_cut_way_resets_connections_and_refuses_new_ones(relay: Relay) -> None:
    async with line(relay) as connected:
        connected.say(b"a")
        await connected.hear(1)
        assert relay.connections == 1
        await relay.cut()
        with pytest.raises(ConnectionResetError):
            await connected.ended()
        assert relay.connections == 0
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(relay.host, relay.port)
    port = relay.port
    await relay.heal()
    assert relay.port == port
    async with line(relay) as again:
        again.say(b"b")
        assert await again.hear(1) == b"b"


async def test_a_frozen_way_can_be_cut(relay: Relay) -> None:
    await relay.freeze()
    async with line(relay) as connected:
        connected.say(b"a")
        await relay.cut()
        with pytest.raises(ConnectionResetError):
            await connected.ended()


async def test_what_a_server_says_last_still_arrives(relay: Relay) -> None:
    await relay.slow(20)
    async with line(relay) as connected:
        connected.say(b"last words")
        assert await connected.hear(10) == b"last words"
        connected.say(b"bye")
        assert await connected.ended() == b""


async def test_a_server_that_is_not_there_shows_as_a_reset() -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    async with Relay("127.0.0.1", port) as relay, line(relay) as connected:
        with pytest.raises(ConnectionResetError):
            await connected.ended()


def test_a_relay_on_a_thread_obeys_callers_without_a_loop() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        relay = RelayThread("127.0.0.1", server.getsockname()[1])
        try:
            with socket.create_connection((relay.host, relay.port), PATIENCE_S) as near:
                far, _ = server.accept()
                with far:
                    near.sendall(b"a")
                    assert far.recv(1) == b"a"
                    relay.cut()
                    with pytest.raises(ConnectionResetError):
                        near.recv(1)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((relay.host, relay.port), PATIENCE_S)
            relay.heal()
            socket.create_connection((relay.host, relay.port), PATIENCE_S).close()
        finally:
            relay.close()
