"""What most gateways do: a Python AudioMediaPort for each call, called by pjmedia's clock thread for every frame.

    RTP -> pjmedia -> onFrameReceived -> deque --(every --uplink-ms)--> event loop -> mu-law -> WebSocket
    RTP <- pjmedia <- onFrameRequested <- bytearray <- mu-law <- event loop <- WebSocket

The same as in the worker, because it is the worker's own code: everything in `endpoint.py`, and all of a call's Voice
Live side (connection, session, uplink, downlink) under uvloop. Different: PCM crosses between pjmedia and Python frame
by frame, in two callbacks per call and 20 ms that wait for the GIL, and Python encodes and decodes mu-law. The port
uses the cheapest buffer calls of the binding; the interpreter keeps its default switch interval.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import click
import pjsua2 as pj
import structlog
import uvloop
from azure.core.credentials import AzureKeyCredential

from bench.baselines import g711
from bench.baselines.endpoint import Account, Call, say, serve
from shared.agents.model import Agent, DeadAir, Reconnect
from shared.errors import UpstreamError
from shared.ids import CallId
from shared.telemetry.recorder import Recorder
from worker.call_telemetry import CallTelemetry
from worker.conversation import Conversation, Means
from worker.media.formats import BRIDGE_RATE, G711_ULAW
from worker.timeline import Timeline
from worker.tools.catalogue import Catalogue
from worker.tools.runner import ToolResult
from worker.voicelive.connection import Connection, Resource, open_connection
from worker.voicelive.rules.state import SessionOptions

log = structlog.get_logger()

FRAME_MS = 20
FRAME_SAMPLES = BRIDGE_RATE * FRAME_MS // 1000
FRAME_BYTES = 2 * FRAME_SAMPLES

UPLINK_MAX_FRAMES = 2000 // FRAME_MS
PLAYOUT_MAX_BYTES = 16 * 2 * BRIDGE_RATE
"""2 s and 16 s, as in the worker's port."""

CONNECT_TIMEOUT_S = 8.0

AGENT = Agent(
    name="baseline",
    model="gpt-4.1-mini",
    instructions="You answer the telephone. Be friendly, brief and clear.",
    dead_air=DeadAir(after_s=0.0),
    reconnect=Reconnect(give_up_after_s=0.0),
)
"""The worker's own, less what needs clips."""

OPTIONS = SessionOptions(
    agent=AGENT,
    instructions=AGENT.instructions,
    greeting="",
    encoding=G711_ULAW.encoding,
    rate=G711_ULAW.rate,
    tools=Catalogue(AGENT, {}),
)


class PythonPort(pj.AudioMediaPort):  # type: ignore[misc]
    """A worker.media.port.AudioPort in Python, and its counters (in samples, `underruns` in frames).

    The clock thread and the event loop share a deque and a bytearray, and touch them in single operations only, which
    the GIL makes atomic.
    """

    id = 0

    def __init__(self, uplink_ms: int, wake: Callable[[], None]) -> None:
        super().__init__()
        self._chunk_frames = uplink_ms // FRAME_MS
        self._wake = wake
        self._heard: deque[bytearray] = deque()
        self.listening = False
        """Nothing is kept before the session is set up: the worker's caller would not have been answered yet."""
        self._playout = bytearray()
        self._answering = False
        """In the middle of an answer: its audio has begun to arrive, its end has not."""
        self._playing = False
        self.captured = self.uplink_dropped = self.written = self.played = self.flushed = self.underruns = 0
        self.frames = 0
        """Frames requested."""
        self.playout_started_ns = 0
        layout = pj.MediaFormatAudio()
        layout.init(pj.PJMEDIA_FORMAT_PCM, BRIDGE_RATE, 1, FRAME_MS * 1000, 16)
        self.createPort("python", layout)

    def onFrameReceived(self, frame: pj.MediaFrame) -> None:
        """pjsua2 AudioMediaPort::onFrameReceived, in the clock thread. A frame without audio is silence."""
        if not self.listening:
            return
        if len(self._heard) >= UPLINK_MAX_FRAMES:
            self.uplink_dropped += FRAME_SAMPLES
            return
        samples = bytearray(FRAME_BYTES)
        if frame.size:
            frame.buf.copy_to_bytearray(samples)
        self._heard.append(samples)
        self.captured += FRAME_SAMPLES
        if len(self._heard) >= self._chunk_frames:
            self._wake()

    def onFrameRequested(self, frame: pj.MediaFrame) -> None:
        """pjsua2 AudioMediaPort::onFrameRequested, in the clock thread. A frame left alone is silence."""
        self.frames += 1
        samples = self._playout[:FRAME_BYTES]
        if len(samples) < FRAME_BYTES and self._answering:
            self.underruns += 1
        if not samples:
            self._playing = False
            return
        del self._playout[:FRAME_BYTES]
        if not self._playing:
            self._playing, self.playout_started_ns = True, time.time_ns()
        self.played += len(samples) // 2
        frame.type = pj.PJMEDIA_FRAME_TYPE_AUDIO
        frame.buf.assign_from_bytes(samples.ljust(FRAME_BYTES, b"\0"))

    def read(self) -> bytes:
        """Returns what was heard since the last time, as mu-law."""
        return g711.encode(b"".join([self._heard.popleft() for _ in range(len(self._heard))]))

    def write(self, audio: bytes) -> int:
        """Queues mu-law audio and returns how many bytes were taken."""
        taken = audio[: (PLAYOUT_MAX_BYTES - len(self._playout)) // 2]
        self._playout.extend(g711.decode(taken))
        self.written += len(taken)
        self._answering = True
        return len(taken)

    def finish(self) -> bool:
        """Takes the end of an answer."""
        self._answering = False
        return True

    def flush(self) -> int:
        """Drops the playout and returns its samples."""
        dropped = self.queued
        self._playout.clear()
        self._answering = False
        self.flushed += dropped
        return dropped

    @property
    def queued(self) -> int:
        """Samples not played yet."""
        return len(self._playout) // 2

    def counters(self) -> "PythonPort":
        """Returns the port, which counts for itself."""
        return self


class NoTelephone:
    """A worker.conversation.Telephone of an agent that has no tools for it."""

    async def send_digits(self, digits: str) -> bool:
        """Returns that nothing was sent."""
        return False

    async def transfer(self, target: str, timeout_s: float) -> int:
        """Returns 603 Decline."""
        return 603


async def run_no_tool(name: str, arguments: dict[str, Any], digits: dict[str, str]) -> ToolResult:
    """Never called: the agent has no tools."""
    raise NotImplementedError


@dataclass(slots=True)
class Gateway:
    """What the calls have in common, and what they add up to."""

    resource: Resource
    uplink_ms: int
    loop: asyncio.AbstractEventLoop
    tasks: asyncio.TaskGroup
    underruns: int = 0
    frames: int = 0

    def open_connection(self) -> AbstractAsyncContextManager[Connection]:
        """Opens a connection to the model."""
        return open_connection(self.resource)


class GatewayCall(Call):
    """A call with a port and a session; the session is carried by a task on the event loop."""

    def __init__(self, account: Account, pjsip_call: int, gateway: Gateway) -> None:
        super().__init__(account, pjsip_call)
        self._gateway = gateway
        self._port = PythonPort(gateway.uplink_ms, self._chunk_heard)
        self._conversation: Conversation | None = None
        self._task: asyncio.Task[None] | None = None
        gateway.loop.call_soon_threadsafe(self._start)

    def connect(self, audio: pj.AudioMedia) -> None:
        """Connects the call with the port, both ways."""
        audio.startTransmit(self._port)
        self._port.startTransmit(audio)

    def release(self) -> None:
        """Destroys the port, while it is referenced: `del` crashes in the clock thread (pjproject 2.17)."""
        pj.AudioMediaPort.__swig_destroy__(self._port)
        self._gateway.loop.call_soon_threadsafe(self._stop)

    def _chunk_heard(self) -> None:
        self._gateway.loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if self._conversation is not None:
            self._conversation.wake()

    def _start(self) -> None:
        self._task = self._gateway.tasks.create_task(self._carry())

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._gateway.underruns += self._port.underruns
        self._gateway.frames += self._port.frames

    async def _carry(self) -> None:
        means = Means(
            call_id=CallId("baseline"),
            wire=G711_ULAW,
            port=self._port,
            telephone=NoTelephone(),
            timeline=Timeline(),
            telemetry=CallTelemetry(Recorder()),
            open_connection=self._gateway.open_connection,
            spend=lambda tokens: None,
            connect_timeout_s=CONNECT_TIMEOUT_S,
            run_tool=run_no_tool,
            filler=b"",
            apology=b"",
        )
        self._conversation = Conversation(OPTIONS, means, self._ready)
        try:
            await self._conversation.run()
        except* UpstreamError as failures:
            log.warning("baseline.session_failed", reason=str(failures.exceptions[0]))

    def _ready(self) -> None:
        self._port.listening = True


async def run(calls: int, port: int, endpoint: str, uplink_ms: int) -> None:
    """Serves until SIGTERM and says what the calls added up to."""
    resource = Resource(endpoint, AzureKeyCredential("baseline"), AGENT.model)
    async with asyncio.TaskGroup() as tasks:
        gateway = Gateway(resource, uplink_ms, asyncio.get_running_loop(), tasks)
        answered = await serve("python_port", calls, port, partial(GatewayCall, gateway=gateway))
    say("baseline.ended", calls=answered, underruns=gateway.underruns, frames=gateway.frames)


@click.command()
@click.option("--calls", type=click.IntRange(1, 500), required=True, help="Calls at once; one more gets 503.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="SIP port; 0 is a free one.")
@click.option("--endpoint", metavar="WS_URL", required=True, help="The model's side: ws://HOST:PORT of the simulator.")
@click.option(
    "--uplink-ms", type=click.Choice(["20", "40", "60", "80", "100"]), default="20", show_default=True,
    help="Caller audio per message.",
)  # fmt: skip
def main(calls: int, port: int, endpoint: str, uplink_ms: str) -> None:
    """Answer every call with a Python AudioMediaPort and a Voice Live session, until SIGTERM."""
    uvloop.run(run(calls, port, endpoint, int(uplink_ms)))


if __name__ == "__main__":
    main()
