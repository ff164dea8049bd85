"""The RTP side of many calls: builds rtp.c when first used, runs it, and gives its commands as methods.

What the commands do is told at the head of rtp.c. SIP is not its business: who calls whom, at which ports and with
which keys, the caller of `add` knows.
"""

import asyncio
import hashlib
import json
import os
import subprocess
import tempfile
from base64 import b64encode
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from bench.load.packets import Packets

SOURCE = Path(__file__).with_name("rtp.c")
FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Wconversion")
LIBRARIES = ("-lsrtp2",)

KEY_BYTES = 30
"""Key and salt of AES_CM_128_HMAC_SHA1_80 (RFC 4568, 6.2)."""

_ANSWER_TIMEOUT_S = 10.0  # it answers within milliseconds; a process that takes this long is stuck
_RECORDS = "packets.bin"


class RtpLoadError(Exception):
    """The tool cannot be built or has ended, or it refused a command; the message says why."""


@dataclass(frozen=True, slots=True)
class SrtpKeys:
    """Key and salt of both directions of one call, `KEY_BYTES` each."""

    send: bytes
    receive: bytes


@dataclass(frozen=True, slots=True)
class LoadStats:
    """Counters since the start; lateness and missed ticks since the last `record(True)`."""

    sent: int
    received: int
    unknown_source: int
    """Packets from addresses that are no call's: of removed calls, mostly."""
    malformed: int
    send_errors: int
    srtp_errors: int
    receive_drops: int
    """Packets that found the socket's buffer full."""
    ticks_missed: int
    """Milliseconds that were made up for later, because the process did not run in time."""
    late_p99_us: int
    """Time from when a packet was due to when it was sent."""
    late_max_us: int


class RtpLoad:
    """One running tool: `async with RtpLoad(directory) as load`.

    Files go to `directory`. `cpu` pins the process to one core. Every method raises RtpLoadError.
    """

    def __init__(self, directory: Path, address: str = "127.0.0.1", cpu: int | None = None) -> None:
        self._directory = directory.absolute()
        self._address = address
        self._cpu = cpu
        self._turn = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self.port = 0
        """The even UDP port that all calls send from and receive at; RTCP may be sent to the next one."""

    @property
    def pid(self) -> int:
        """The process id of the tool."""
        return self._running().pid

    async def __aenter__(self) -> Self:
        executable = await asyncio.to_thread(build)
        self._directory.mkdir(parents=True, exist_ok=True)
        self._process = await asyncio.create_subprocess_exec(
            executable,
            self._address,
            _RECORDS,
            cwd=self._directory,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the benchmark, which then ends this one
        )
        try:
            if self._cpu is not None:
                os.sched_setaffinity(self._process.pid, {self._cpu})
            with suppress(PermissionError):  # where we may: callers wait for nobody
                os.sched_setscheduler(self._process.pid, os.SCHED_RR, os.sched_param(1))
            self.port = int((await self._answer())["port"])
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def clip(self, name: str, data: bytes) -> None:
        """Makes a clip of raw G.711 bytes known; all calls may play it."""
        file = self._directory / f"{name}.g711"
        file.write_bytes(data)
        await self._command("clip", name, file.name)

    async def add(self, call: int, host: str, port: int, payload_type: int, keys: SrtpKeys | None = None) -> None:
        """Begins to send silence to an IPv4 address, and to take what comes from there as this call's."""
        encoded = (b64encode(key).decode() for key in ((keys.send, keys.receive) if keys else ()))
        await self._command("add", call, host, port, payload_type, *encoded)

    async def loop(self, call: int, clip: str, offset_bytes: int = 0) -> None:
        """Plays a clip for ever."""
        await self._command("loop", call, clip, offset_bytes)

    async def play(self, call: int, clip: str) -> None:
        """Plays a clip once, from its start and the next packet on."""
        await self._command("play", call, clip)

    async def silence(self, call: int) -> None:
        """Stops what is played."""
        await self._command("silence", call)

    async def capture(self, call: int) -> Path:
        """Keeps the call's payloads until it is removed; returns the file for `Capture.load`."""
        name = f"call-{call}.capture"
        await self._command("capture", call, name)
        return self._directory / name

    async def remove(self, call: int) -> None:
        """Stops sending; what still comes counts as of unknown source."""
        await self._command("remove", call)

    async def record(self, on: bool) -> None:
        """Switches on or off that packets are noted; at first they are not."""
        await self._command("record", "on" if on else "off")

    async def stats(self) -> LoadStats:
        """Returns the counters, with all that has arrived by now."""
        return LoadStats(**await self._command("stats"))

    async def finish(self) -> Packets:
        """Ends the tool and returns all it has noted."""
        await self._command("quit")
        if await self._running().wait():
            raise await self._failure()
        return await asyncio.to_thread(Packets.load, self._directory / _RECORDS)

    async def _command(self, *words: object) -> dict[str, Any]:
        line = " ".join(map(str, words)) + "\n"
        async with self._turn:
            stdin = self._running().stdin
            assert stdin is not None
            stdin.write(line.encode())
            answer = await self._answer()
        if "error" in answer:
            raise RtpLoadError(f"{words[0]}: {answer['error']}")
        return answer

    async def _answer(self) -> dict[str, Any]:
        stdout = self._running().stdout
        assert stdout is not None
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                line = await stdout.readline()
        except TimeoutError:
            raise RtpLoadError(f"the RTP tool has not answered for {_ANSWER_TIMEOUT_S:.0f} s") from None
        if not line:
            raise await self._failure()
        return dict(json.loads(line))

    async def _failure(self) -> RtpLoadError:
        process = self._running()
        assert process.stderr is not None
        text = (await process.stderr.read()).decode(errors="replace").strip()
        return RtpLoadError(f"the RTP tool has ended with status {await process.wait()}: {text or 'no word'}")

    async def _end(self) -> None:
        """Ends the process, whatever state it is in."""
        process = self._running()
        if process.returncode is None:
            process.kill()
        await process.communicate()

    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise RtpLoadError("the RTP tool has not been started")
        return self._process


def build() -> Path:
    """Returns the executable, from the user's cache if it has been built before; raises RtpLoadError."""
    digest = hashlib.sha256(repr((FLAGS, LIBRARIES)).encode() + SOURCE.read_bytes()).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "voicepool"
    executable = cache / f"bench-{digest}"
    if executable.exists():
        return executable
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        made = Path(scratch) / "rtp"
        command = ["cc", *FLAGS, str(SOURCE), "-o", str(made), *LIBRARIES]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except FileNotFoundError:
            raise RtpLoadError("there is no C compiler (cc); on Debian: apt-get install build-essential") from None
        if done.returncode:
            if "srtp2" in done.stderr:
                raise RtpLoadError("libsrtp2 is not installed; on Debian: apt-get install libsrtp2-dev")
            raise RtpLoadError(f"{SOURCE.name} cannot be compiled:\n{done.stderr}")
        made.rename(executable)
    return executable
