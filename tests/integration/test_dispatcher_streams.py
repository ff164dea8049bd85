"""TCP and TLS through the driver, on both event loops: connections, their bounds, and certificates that change."""

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import uvloop

from dispatcher.sip.actions import Action, Address, Order, Report, Send
from dispatcher.transport import streams
from dispatcher.transport.driver import Driver
from dispatcher.transport.tls import Tls, TlsFiles
from tests.integration.redis.conftest import Authority

PATIENCE_S = 20.0

HOST = "127.0.0.1"

PING, PONG = b"\r\n\r\n", b"\r\n"

Main = Callable[[], Coroutine[Any, Any, None]]
Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine on one of the loops."""
    return asyncio.run if request.param == "asyncio" else uvloop.run


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that nobody trusts who is not told to."""
    return Authority(tmp_path_factory.mktemp("authority"))


def message(text: str, body: bytes = b"") -> bytes:
    return f"INFO {text} SIP/2.0\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


class Echo:
    """A core that sends everything back, or to the port that the message says, and notes what it is told."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[tuple[str, object]] = asyncio.Queue()
        self.peers = {HOST}

    def receive(self, data: bytes, source: Address, now: float) -> list[Action]:
        self.events.put_nowait(("received", data))
        words = data.split()[1].decode().split(":")
        if words[0] == "to":
            return [Send(data, Address(words[1], HOST, int(words[2]), int(words[3])))]
        return [Send(data, source)]

    def unreachable(self, address: Address, now: float) -> list[Action]:
        self.events.put_nowait(("unreachable", address))
        return []

    def disconnected(self, connection: Address, now: float) -> list[Action]:
        self.events.put_nowait(("disconnected", connection))
        return []

    def wake(self, now: float) -> list[Action]:
        return []

    def wakes_at(self) -> float | None:
        return None

    def is_worker(self, address: Address) -> bool:
        return False

    def is_peer(self, host: str) -> bool:
        return host in self.peers


class Peer:
    """One end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @property
    def address(self) -> Address:
        """How the dispatcher sees it over TCP."""
        return Address("tcp", *self.writer.get_extra_info("sockname")[:2])

    def send(self, *data: bytes) -> None:
        """Sends something."""
        self.writer.write(b"".join(data))

    async def expect(self, data: bytes) -> None:
        """Fails unless this comes next."""
        async with asyncio.timeout(PATIENCE_S):
            assert await self.reader.readexactly(len(data)) == data

    async def expect_end(self) -> None:
        """Fails unless nothing comes any more."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                assert await self.reader.read() == b""
            except ConnectionResetError:
                return

    async def certificate(self) -> dict[str, Any]:
        """Returns what the other side has shown."""
        shown: dict[str, Any] = self.writer.get_extra_info("peercert")
        return shown


class Bench:
    """A driver with an echo core, listening over TCP and perhaps TLS."""

    def __init__(self, tls: TlsFiles | None = None) -> None:
        self.core = Echo()
        self.notices: asyncio.Queue[Report] = asyncio.Queue()
        self.driver = Driver(self._handle)
        self.port = self.driver.listen(HOST, 0, tcp=True)
        self.tls_port = self.driver.listen_tls(HOST, 0, Tls(tls)) if tls else 0
        self.driver.serve(self.core)
        self._peers: list[Peer] = []

    def _handle(self, order: Order) -> None:
        assert isinstance(order, Report)
        self.notices.put_nowait(order)

    async def peer(self, context: ssl.SSLContext | None = None, host: str = HOST) -> Peer:
        """Returns a connected peer."""
        name = HOST if context else None
        connection = await asyncio.open_connection(
            HOST, self.tls_port if context else self.port, ssl=context, server_hostname=name, local_addr=(host, 0)
        )
        self._peers.append(Peer(*connection))
        return self._peers[-1]

    async def expect_refusal(self, reason: str, context: ssl.SSLContext | None = None) -> None:
        """Fails unless who connects now is sent away for this reason."""
        with suppress(ConnectionError):
            await (await self.peer(context)).expect_end()
        assert await self.notice() == ("sip.connection_refused", reason)

    async def event(self) -> tuple[str, object]:
        """Returns what the core was told next."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.core.events.get()

    async def notice(self) -> tuple[str, str]:
        """Returns event and reason of what was reported next."""
        async with asyncio.timeout(PATIENCE_S):
            report = await self.notices.get()
        assert report.fields["source"]
        return report.event, str(report.fields["reason"])

    async def close(self) -> None:
        """Closes the driver and all peers."""
        self.driver.close()
        for peer in self._peers:
            peer.writer.close()
            with suppress(OSError):
                async with asyncio.timeout(PATIENCE_S):
                    await peer.writer.wait_closed()


@asynccontextmanager
async def bench(tls: TlsFiles | None = None) -> AsyncIterator[Bench]:
    """Runs a driver for the block."""
    running = Bench(tls)
    try:
        yield running
    finally:
        await running.close()


@asynccontextmanager
async def listener() -> AsyncIterator[tuple[int, "asyncio.Queue[Peer]"]]:
    """Listens over TCP for the block; yields the port and whoever connects."""
    connected: asyncio.Queue[Peer] = asyncio.Queue()
    server = await asyncio.start_server(lambda *ends: connected.put_nowait(Peer(*ends)), HOST, 0)
    peers: list[Peer] = []
    try:
        yield server.sockets[0].getsockname()[1], connected
    finally:
        server.close()
        while not connected.empty():
            peers.append(connected.get_nowait())
        for peer in peers:
            peer.writer.close()


def files_of(authority: Authority, name: str, *, mutual: bool = False) -> TlsFiles:
    certificate, key = authority.issue(name, f"IP:{HOST}")
    return TlsFiles(str(certificate), str(key), str(authority.certificate) if mutual else "")


def trusting(authority: Authority, shown: TlsFiles | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.certificate))
    if shown:
        context.load_cert_chain(shown.certificate, shown.key)
    return context


def test_messages_come_in_whole_and_answers_go_back_over_the_same_connection(run: Run) -> None:
    async def main() -> None:
        async with bench() as scene:
            first, second = await scene.peer(), await scene.peer()
            one, two = message("one", b"body"), message("two")
            first.send(one[:20])
            second.send(two)
            await second.expect(two)
            first.send(one[20:], two)
            await first.expect(one + two)

    run(main())


def test_a_keep_alive_is_answered(run: Run) -> None:
    async def main() -> None:
        async with bench() as scene:
            peer = await scene.peer()
            peer.send(PING)
            await peer.expect(PONG)
            peer.send(PONG, message("one"), PING)
            await peer.expect(message("one") + PONG)

    run(main())


def test_garbage_closes_the_connection_with_one_line(run: Run) -> None:
    async def main() -> None:
        async with bench() as scene:
            peer = await scene.peer()
            peer.send(message("one"), b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n")
            await peer.expect(message("one"))
            await peer.expect_end()
            assert await scene.notice() == ("sip.connection_closed", "no Content-Length")
            assert scene.notices.empty()

    run(main())


def test_who_is_not_allowed_is_not_even_shaken_hands_with(run: Run, authority: Authority) -> None:
    async def main() -> None:
        async with bench(files_of(authority, "server")) as scene:
            scene.core.peers.clear()
            for context in (None, trusting(authority)):
                await scene.expect_refusal("not allowed", context)
            assert scene.notices.empty()

    run(main())


def test_a_connection_that_is_gone_is_told_of_and_made_anew(run: Run) -> None:
    async def main() -> None:
        async with bench() as scene, listener() as (port, connected):
            peer = await scene.peer()
            gone = peer.address
            peer.send(message("one"))
            await peer.expect(message("one"))
            peer.writer.close()
            assert [await scene.event(), await scene.event()] == [
                ("received", message("one")),
                ("disconnected", gone),
            ]
            other = await scene.peer()
            to = message(f"to:tcp:{gone.port}:{port}")
            other.send(to, to)
            called = await connected.get()
            await called.expect(to + to)
            called.send(message("back"))
            await called.expect(message("back"))
            other.send(to)
            await called.expect(to)
            called.writer.close()

    run(main())


def test_where_nobody_listens_all_that_waits_is_told_so(run: Run) -> None:
    async def main() -> None:
        async with bench() as scene, listener() as (port, _):
            pass
        async with bench() as scene:
            peer = await scene.peer()
            to = message(f"to:tcp:{port}:{port}")
            peer.send(to)
            assert await scene.event() == ("received", to)
            assert await scene.event() == ("unreachable", Address("tcp", HOST, port, port))
            event, _ = await scene.notice()
            assert event == "sip.connection_failed"

    run(main())


def test_one_connection_too_many_is_closed_unheard(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "CONNECTIONS_MAX", 2)

    async def main() -> None:
        async with bench() as scene:
            kept = [await scene.peer(), await scene.peer()]
            for peer in kept:
                peer.send(PING)
                await peer.expect(PONG)
            await scene.expect_refusal("too many connections")
            to = message("to:tcp:9:9")
            kept[0].send(to)
            assert await scene.event() == ("received", to)
            assert await scene.event() == ("unreachable", Address("tcp", HOST, 9, 9))

    run(main())


def test_a_host_with_many_connections_gives_up_the_one_silent_for_longest(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "HOST_CONNECTIONS_MAX", 2)

    async def main() -> None:
        async with bench() as scene:
            scene.core.peers.add("127.0.0.2")
            first, second, other = await scene.peer(), await scene.peer(), await scene.peer(host="127.0.0.2")
            for peer in (other, first, second, first):
                peer.send(PING)
                await peer.expect(PONG)
            third = await scene.peer()
            await second.expect_end()
            assert await scene.notice() == ("sip.connection_closed", "too many connections")
            for peer in (first, third, other):
                peer.send(PING)
                await peer.expect(PONG)

    run(main())


def test_a_message_that_never_ends_and_a_silent_beginning_end_the_connection(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "SWEEP_S", 0.01)
    monkeypatch.setattr(streams, "MESSAGE_S", 0.05)

    async def main() -> None:
        async with bench() as scene:
            slow, quiet = await scene.peer(), await scene.peer()
            quiet.send(message("one"))
            await quiet.expect(message("one"))
            slow.send(message("one")[:-1])
            await slow.expect_end()
            assert await scene.notice() == ("sip.connection_closed", "message takes too long")
            quiet.send(PING)
            await quiet.expect(PONG)
        monkeypatch.setattr(streams, "FIRST_S", 0.05)
        async with bench() as scene:
            silent = await scene.peer()
            await silent.expect_end()
            assert scene.notices.empty()

    run(main())


def test_a_peer_that_reads_nothing_is_cut_off(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "UNSENT_MAX", 1000)

    async def main() -> None:
        async with bench() as scene:
            peer = await scene.peer()
            async with asyncio.timeout(PATIENCE_S):
                while scene.notices.empty():
                    peer.send(message("one", b"x" * 10_000))
                    await scene.core.events.get()
            assert await scene.notice() == ("sip.connection_closed", "reads nothing")

    run(main())


def test_calls_go_over_tls(run: Run, authority: Authority) -> None:
    async def main() -> None:
        async with bench(files_of(authority, "server")) as scene:
            peer = await scene.peer(trusting(authority))
            peer.send(PING, message("one", b"x" * 15_000)[:100])
            await peer.expect(PONG)
            peer.send(message("one", b"x" * 15_000)[100:])
            await peer.expect(message("one", b"x" * 15_000))

    run(main())


def test_what_is_no_tls_is_refused(run: Run, authority: Authority) -> None:
    async def main() -> None:
        async with bench(files_of(authority, "server")) as scene:
            plain = Peer(*await asyncio.open_connection(HOST, scene.tls_port))
            plain.send(message("one"))
            await plain.expect_end()
            plain.writer.close()
            event, _ = await scene.notice()
            assert event == "sip.connection_failed"
            assert scene.core.events.empty()

    run(main())


def test_a_handshake_that_never_ends_is_given_up(
    run: Run, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "HANDSHAKE_S", 0.05)

    async def main() -> None:
        async with bench(files_of(authority, "server")) as scene:
            silent = Peer(*await asyncio.open_connection(HOST, scene.tls_port))
            await silent.expect_end()
            assert await scene.notice() == ("sip.connection_failed", "timeout")
            silent.writer.close()

    run(main())


def test_with_an_authority_only_its_certificates_are_taken(run: Run, authority: Authority, tmp_path: Path) -> None:
    stranger = Authority(tmp_path)

    async def main() -> None:
        async with bench(files_of(authority, "server", mutual=True)) as scene:
            known = await scene.peer(trusting(authority, files_of(authority, "sbc")))
            known.send(message("one"))
            await known.expect(message("one"))
            for shown in (None, files_of(stranger, "sbc")):
                with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
                    unknown = await scene.peer(trusting(authority, shown))
                    unknown.send(message("one"))
                    await unknown.expect(message("one"))
                event, _ = await scene.notice()
                assert event == "sip.connection_failed"

    run(main())


def test_a_peer_is_connected_to_over_tls_and_must_be_of_the_authority(
    run: Run, authority: Authority, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path)

    async def main() -> None:
        ours = files_of(authority, "server", mutual=True)
        async with bench(files_of(authority, "peer", mutual=True)) as peer, bench(ours) as scene:
            caller = await scene.peer(trusting(authority, files_of(authority, "sbc")))
            caller.send(message(f"to:tls:9:{peer.tls_port}"))
            assert (await scene.event())[0] == "received"
            assert await peer.event() == ("received", message(f"to:tls:9:{peer.tls_port}"))
            async with bench(files_of(stranger, "peer")) as imposter:
                caller.send(message(f"to:tls:9:{imposter.tls_port}"))
                assert (await scene.event())[0] == "received"
                assert await scene.event() == ("unreachable", Address("tls", HOST, 9, imposter.tls_port))

    run(main())


def test_a_new_certificate_is_shown_to_whoever_comes_next_and_a_bad_one_to_nobody(
    run: Run, authority: Authority, tmp_path: Path
) -> None:
    used = TlsFiles(str(tmp_path / "tls.crt"), str(tmp_path / "tls.key"))

    def put(files: TlsFiles) -> None:
        shutil.copy(files.key, used.key)
        shutil.copy(files.certificate, used.certificate)

    async def subject(scene: Bench) -> object:
        peer = await scene.peer(trusting(authority))
        peer.send(PING)
        await peer.expect(PONG)
        return (await peer.certificate())["subject"][0][0][1]

    async def main() -> None:
        put(files_of(authority, "before"))
        async with bench(used) as scene:
            assert await subject(scene) == "before"
            shutil.copy(used.certificate, used.key)
            assert await subject(scene) == "before"
            put(files_of(authority, "after"))
            assert await subject(scene) == "after"

    run(main())


def test_a_certificate_behind_a_link_is_read_again_when_the_link_is_changed(
    authority: Authority, tmp_path: Path
) -> None:
    """As Kubernetes swaps what is in a Secret: with one rename of a link to a directory."""
    for name in ("one", "two"):
        files = files_of(authority, name)
        (tmp_path / name).mkdir()
        shutil.copy(files.certificate, tmp_path / name / "tls.crt")
        shutil.copy(files.key, tmp_path / name / "tls.key")
    (tmp_path / "data").symlink_to("one")
    tls = Tls(TlsFiles(str(tmp_path / "data" / "tls.crt"), str(tmp_path / "data" / "tls.key")))
    before = tls.server
    assert tls.server is before
    (tmp_path / "new").symlink_to("two")
    (tmp_path / "new").rename(tmp_path / "data")
    assert tls.server is not before


@pytest.mark.parametrize(
    ("certificate", "key", "ca", "problem"),
    [
        ("missing", "key", "", ("SIP_TLS_CERT_FILE", "cannot be read (No such file or directory)")),
        ("key", "key", "", ("SIP_TLS_CERT_FILE", "holds no certificate in PEM format")),
        ("certificate", "missing", "", ("SIP_TLS_KEY_FILE", "cannot be read (No such file or directory)")),
        (
            "certificate",
            "certificate",
            "",
            ("SIP_TLS_KEY_FILE", "holds no unlocked key that belongs to the certificate"),
        ),
        ("certificate", "", "", ("SIP_TLS_KEY_FILE", "holds no unlocked key that belongs to the certificate")),
        ("certificate", "other", "", ("SIP_TLS_KEY_FILE", "holds no unlocked key that belongs to the certificate")),
        ("certificate", "key", "missing", ("SIP_TLS_CA_FILE", "cannot be read (No such file or directory)")),
        ("certificate", "key", "key", ("SIP_TLS_CA_FILE", "holds no certificate in PEM format")),
        ("certificate", "key", "certificate", None),
        ("certificate", "key", "", None),
    ],
)
def test_bad_files_are_named(
    authority: Authority, certificate: str, key: str, ca: str, problem: tuple[str, str] | None
) -> None:
    good, other = files_of(authority, "server"), files_of(authority, "other")
    paths = {"certificate": good.certificate, "key": good.key, "other": other.key, "missing": "/nowhere", "": ""}
    assert TlsFiles(paths[certificate], paths[key], paths[ca]).problem() == problem


def test_a_port_that_is_taken_over_tcp_is_an_error(run: Run) -> None:
    async def main() -> None:
        async with listener() as (port, _):
            with pytest.raises(OSError, match=r"in use \(TCP\)"):
                Driver(lambda _: None).listen(HOST, port, tcp=True)

    run(main())


def test_replicas_on_one_host_share_the_connections(run: Run) -> None:
    async def main() -> None:
        drivers, cores = [], []
        port = 0
        for _ in range(2):
            driver, core = Driver(lambda _: None), Echo()
            port = driver.share(HOST, port, tcp=True)
            driver.listen(HOST, 0)
            driver.serve(core)
            drivers.append(driver)
            cores.append(core)
        for _ in range(30):
            peer = Peer(*await asyncio.open_connection(HOST, port))
            peer.send(message("one"))
            await peer.expect(message("one"))
            peer.writer.close()
        served = [sum(kind == "received" for kind, _ in core.events._queue) for core in cores]  # type: ignore[attr-defined]
        assert sum(served) == 30
        assert all(served)
        for driver in drivers:
            driver.close()

    run(main())
