"""The Voice Live side of a call, carried out: connections, audio both ways, tools, timers.

It knows no SIP and decides nothing. What the session decides is in `worker/voicelive/session.py`; here it is only done,
at once and in order: nothing between an event and what follows from it waits for anything.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from shared.agents.model import TransferTool
from shared.clock import steady_s
from shared.ending import CallEnd
from shared.errors import CommandFailed, UpstreamError
from shared.ids import CallId
from worker.call_telemetry import CallTelemetry
from worker.media.downlink import Downlink
from worker.media.formats import WireFormat
from worker.media.port import AudioPort
from worker.media.uplink import Uplink
from worker.timeline import Timeline
from worker.tools.runner import ToolResult
from worker.voicelive import actions as do
from worker.voicelive.connection import Connection
from worker.voicelive.events import SessionUpdated
from worker.voicelive.rules.state import SessionOptions
from worker.voicelive.session import Session

log = structlog.get_logger()

_PLAYOUT_MARKS = {"greeting_audio": "greeting_playout", "answer_audio": "answer_playout"}
"""An answer's first audio is followed by its first packet: two marks, so that the difference can be seen."""

_LOGGED = {
    **dict.fromkeys(("connection_lost", "session_resumed", "gave_up", "stuck"), logging.INFO),
    "barge_in": logging.DEBUG,
}
"""Marks that an operator looks for beside the call record, and those of which a call may have a hundred."""

TRANSFER_TIMEOUT_S = 30.0
"""Longest wait for a transfer that no tool of the agent says more about."""


class Telephone(Protocol):
    """What can be done with the caller's side: the leg."""

    async def send_digits(self, digits: str) -> bool: ...
    async def transfer(self, target: str, timeout_s: float) -> int: ...


RunTool = Callable[[str, dict[str, Any], dict[str, str]], Coroutine[Any, Any, ToolResult]]
"""Runs a tool: its name, checked arguments, and the sensitive digits behind placeholders."""


@dataclass(frozen=True, slots=True)
class Means:
    """What a conversation works with."""

    call_id: CallId
    wire: WireFormat
    port: AudioPort
    telephone: Telephone
    timeline: Timeline
    telemetry: CallTelemetry
    open_connection: Callable[[], AbstractAsyncContextManager[Connection]]
    connect_timeout_s: float
    """Longest wait for a connection to be set up; the first time with all attempts together."""
    spend: Callable[[int], None]
    """Told of tokens as responses take them."""
    run_tool: RunTool
    filler: bytes = field(repr=False)
    apology: bytes = field(repr=False)
    """Clips in the wire format; empty is none."""


class Conversation:
    """One session and the audio both ways. `wake()` is called whenever the port has caller audio waiting."""

    def __init__(self, options: SessionOptions, means: Means, on_ready: Callable[[], None]) -> None:
        """`on_ready` is called once the caller may be answered."""
        self._means = means
        self._telemetry = means.telemetry
        self._log = log.bind(call_id=means.call_id, trace_id=means.telemetry.trace_id)
        self._on_ready = on_ready
        self._agent = options.agent
        self._timeline = means.timeline
        self._port = means.port
        self._uplink = Uplink(means.port, means.wire)
        self._downlink = Downlink(means.port, means.wire)
        self.session = Session(options, lambda: self._uplink.sent_ms)
        self._loop = asyncio.get_running_loop()
        self._connections: dict[int, Connection] = {}
        self._holders: dict[int, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended: asyncio.Future[CallEnd] = self._loop.create_future()
        self._order: asyncio.Future[str] | None = None
        """The outcome of the transfer that an operator waits for: why it failed, empty when it did not."""
        self._heard_at = 0.0
        """When the latest of what happened was heard of."""
        self._ready = False
        self._last_error = UpstreamError("no session in time")
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0.0
        self._playout_check: asyncio.Handle | None = None
        self._playout_mark = ""
        self._playout_before_ns = 0

    async def run(self) -> CallEnd:
        """Carries the conversation until it ends by itself, and returns how; a caller who hangs up cancels it.

        Raises UpstreamError when there is no session to answer the call with.
        """
        patience = self._loop.call_later(self._means.connect_timeout_s, self._no_session)
        try:
            async with asyncio.TaskGroup() as self._group:
                self._perform(self.session.start)
                try:
                    return await self._ended
                finally:
                    for task in self._tasks:
                        task.cancel()
        finally:
            patience.cancel()
            self._close()

    def digit(self, digit: str) -> None:
        """The caller pressed a key."""
        self._heard_at = now = steady_s()
        self._perform(lambda: self.session.digit(digit, now))

    def say(self, text: str) -> None:
        """Has the agent say a text word for word; raises CommandFailed when it cannot."""
        self._check_order()
        self._perform(lambda: self.session.say(text, steady_s()))

    async def transfer(self, name: str, uri: str) -> None:
        """Transfers the caller and returns when that is done; raises CommandFailed with why it is not."""
        self._check_order()
        self._order = order = self._loop.create_future()
        self._perform(lambda: self.session.transfer(name, uri, steady_s()))
        if failure := await order:
            raise CommandFailed(failure)

    def _check_order(self) -> None:
        if refusal := self.session.refusal:
            raise CommandFailed(refusal)

    def wake(self) -> None:
        """Moves audio: caller audio is waiting, and the playout may have room again."""
        self._uplink.send()
        self._downlink.top_up()
        if self._playout_mark:
            self._note_playout()

    def counters(self) -> dict[str, int]:
        """Returns the call's audio and session counters; audio in samples at the bridge rate."""
        port = self._port.counters()
        return {
            "captured": port.captured,
            "uplink_dropped": port.uplink_dropped,
            "uplink_dropped_bytes": self._uplink.dropped_bytes,
            "played": port.played,
            "flushed": port.flushed,
            "underruns": port.underruns,
            "downlink_dropped_bytes": self._downlink.dropped_bytes,
            "session_errors": self.session.errors,
        }

    # -------------------------------------------------------------------------------------------- what is to be done

    def _perform(self, decide: Callable[[], list[do.Action]]) -> None:
        """Has the session decide and does what it says; whatever goes wrong in that ends the call."""
        try:
            for action in decide():
                self._do(action)
        except Exception as error:
            self._fail(error)
        self._set_alarm()

    def _do(self, action: do.Action) -> None:
        match action:
            case do.Play():
                self._downlink.play(action.item_id, action.audio)
            case do.Send():
                if (connection := self._connections.get(action.connection)) is not None:
                    connection.send(action.message)
            case do.FinishAnswer():
                self._finish()
            case do.FlushPlayout():
                self._flush()
            case do.Mark():
                self._mark(action.name)
            case do.PlayFiller():
                self._play_clip(self._means.filler)
            case do.PlayApology():
                self._play_clip(self._means.apology)
            case do.Listen() | do.Hold() | do.Deafen() | do.Retain():
                self._turn_ear(action)
            case do.Connect():
                self._holders[action.connection] = self._start(self._hold(action.connection, action.after_s))
            case do.Disconnect():
                if (holder := self._holders.get(action.connection)) is not None:
                    holder.cancel()
            case do.RunTool():
                self._start(self._run_tool(action))
            case do.SendDigits():
                self._start(self._send_digits(action))
            case do.Transfer():
                self._start(self._transfer(action))
            case do.OrderOver():
                self._order_over(action.failure)
            case do.Spend():
                self._means.spend(action.tokens)
                self._telemetry.spent(self.session.memory.usage[-1])
            case do.Ready():
                self._ready = True
                self._on_ready()
                self._perform(lambda: self.session.answered(steady_s()))
            case do.Fail():
                self._fail(action.error)
            case do.HangUp():
                if not self._ended.done():
                    self._ended.set_result(action.end)
            case do.UpdateSession():
                raise AssertionError("done where it can be waited for: in `_hold`")

    def _fail(self, error: Exception) -> None:
        if not self._ended.done():
            self._ended.set_exception(error)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # --------------------------------------------------------------------------------------------------- connections

    async def _hold(self, number: int, after_s: float) -> None:
        """Opens a connection and hears what it says, until it is lost."""
        try:
            await asyncio.sleep(after_s)
            self._telemetry.connecting(number)
            async with asyncio.timeout(self._means.connect_timeout_s) as deadline:
                async with self._means.open_connection() as connection:
                    self._connections[number] = connection
                    await self._hear(number, connection, deadline)
        except UpstreamError as error:
            self._lost(number, error)
        except TimeoutError:
            self._lost(number, UpstreamError("no session in time"))
        finally:
            self._telemetry.left(number)
            self._connections.pop(number, None)
            self._holders.pop(number, None)

    async def _hear(self, number: int, connection: Connection, deadline: asyncio.Timeout) -> None:
        async for event in connection.events():
            if isinstance(event, SessionUpdated):
                deadline.reschedule(None)
                self._connected(number)
            self._heard_at = steady_s()
            for action in self.session.receive(event, number, self._heard_at):
                if isinstance(action, do.UpdateSession):
                    await connection.update_session(action.session)
                else:
                    self._do(action)
            self._set_alarm()

    def _connected(self, number: int) -> None:
        self._telemetry.connected(number)
        self._log.info("voicelive.connected", connection=number)

    def _lost(self, number: int, error: UpstreamError) -> None:
        self._last_error = error
        self._telemetry.disconnected(number, error)
        self._log.warning("voicelive.lost", reason=str(error), status=error.status, connection=number)
        self._perform(lambda: self.session.lost(number, error, steady_s()))

    def _no_session(self) -> None:
        if not self._ready:
            self._fail(self._last_error)

    # --------------------------------------------------------------------------------------------------------- audio

    def _turn_ear(self, action: do.Listen | do.Hold | do.Deafen | do.Retain) -> None:
        match action:
            case do.Listen():
                if (connection := self._connections.get(action.connection)) is not None:
                    self._uplink.listen(connection)
            case do.Hold():
                self._uplink.hold()
            case do.Deafen():
                self._uplink.deafen()
            case do.Retain():
                self._uplink.retain(action.utterance)

    def _play_clip(self, clip: bytes) -> None:
        self._downlink.play("", clip)
        self._finish()

    def _finish(self) -> None:
        self._downlink.finish()
        self._check_playout()

    def _check_playout(self) -> None:
        """Tells the session when everything has been heard, or looks again when it should have been."""
        if self._playout_check is not None:
            self._playout_check.cancel()
        left_ms = self._downlink.queued_ms
        if left_ms:
            self._playout_check = self._loop.call_later(left_ms / 1000, self._check_playout)
        else:  # not within the event that has just been heard: what is to be done goes in order
            self._playout_check = self._loop.call_soon(self._playout_over)

    def _playout_over(self) -> None:
        self._playout_check = None
        self._turn_over()
        self._perform(lambda: self.session.playout_over(steady_s()))

    def _flush(self) -> None:
        if self._playout_check is not None:
            self._playout_check.cancel()
            self._playout_check = None
        for action in self.session.cut_off(self._cut_off(), steady_s()):
            self._do(action)
        self._turn_over()

    def _cut_off(self) -> list[tuple[str, int]]:
        return [(item.item_id, item.heard_ms) for item in self._downlink.flush()]

    def _turn_over(self) -> None:
        if turns := self.session.memory.turns:
            self._telemetry.turn_over(turns[-1])

    def _mark(self, name: str) -> None:
        self._timeline.mark(name)
        self._telemetry.marked(name, self._heard_at)
        if name in _LOGGED:
            self._log.log(_LOGGED[name], f"voicelive.{name}")
        if name in _PLAYOUT_MARKS:
            self._playout_mark = _PLAYOUT_MARKS[name]
            self._playout_before_ns = self._port.counters().playout_started_ns

    def _note_playout(self) -> None:
        started_ns = self._port.counters().playout_started_ns
        if started_ns != self._playout_before_ns:
            self._timeline.mark(self._playout_mark, started_ns // 1_000_000)
            self._playout_mark = ""
            self.session.playout_started(started_ns / 1e9)

    # --------------------------------------------------------------------------------------------------- tools, time

    async def _run_tool(self, action: do.RunTool) -> None:
        since = steady_s()
        result = await self._means.run_tool(action.name, action.arguments, dict(self.session.hidden_digits))
        self._telemetry.tool_over(action.name, since, failed=result.failed)
        done = self.session.tool_done
        self._perform(lambda: done(action.call_id, result.output, steady_s(), failed=result.failed))

    async def _send_digits(self, action: do.SendDigits) -> None:
        sent = await self._means.telephone.send_digits(action.digits)
        output = '{"result": "sent"}' if sent else '{"error": "the digits could not be sent"}'
        self._perform(lambda: self.session.tool_done(action.call_id, output, steady_s(), failed=not sent))

    async def _transfer(self, action: do.Transfer) -> None:
        tool = next((tool for tool in self._agent.tools if isinstance(tool, TransferTool)), None)
        timeout_s = TRANSFER_TIMEOUT_S if tool is None else tool.timeout_s
        since = steady_s()
        status = await self._means.telephone.transfer(action.target, timeout_s)
        self._telemetry.transferred(since, status)
        self._perform(lambda: self.session.transferred(status, steady_s()))

    def _order_over(self, failure: str) -> None:
        if self._order is not None and not self._order.done():
            self._order.set_result(failure)

    def _set_alarm(self) -> None:
        """Has the session asked again when it wants to be. An alarm that was put off is left: it is looked at then."""
        at = self.session.next_wake
        if at is None or (self._alarm is not None and self._alarm_at <= at):
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = at
        self._alarm = self._loop.call_later(max(0.0, at - steady_s()) + 0.001, self._advance)

    def _advance(self) -> None:
        self._alarm = None
        self._perform(lambda: self.session.advance(steady_s()))

    def _close(self) -> None:
        for timer in (self._alarm, self._playout_check):
            if timer is not None:
                timer.cancel()
        self.session.ended(self._cut_off(), steady_s())
        self._turn_over()
        self._order_over("the call has ended")
