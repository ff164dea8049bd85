"""One call, from INVITE to call record: joins the SIP leg and the Voice Live side.

It parses no SIP, speaks no WebSocket and moves no audio itself. It is the only place that ends a call.

    admit the lease -> ring -> open the session -> answer -> carry audio both ways -> hang up -> release, once
"""

import asyncio
from dataclasses import dataclass
from typing import TypeVar

import structlog

from shared.choices import AudioFormat
from shared.clock import now_ms
from shared.control.leases import Leases
from shared.ending import CallEnd
from shared.errors import ControlUnavailable, LeaseLost, NoCapacity, TokenInvalid, UpstreamError
from shared.messages import CallRecord, Lease
from shared.states import CALL_TRANSITIONS, CallEvent, CallState, advance
from worker.admission import Admission
from worker.conversation import Conversation
from worker.media.formats import wire_format
from worker.pjsip.endpoint import SipEndpoint
from worker.pjsip.leg import HANGUP_TIMEOUT_S, Leg
from worker.timeline import Timeline
from worker.voicelive.connection import Resource, open_connection
from worker.voicelive.session import SessionOptions

log = structlog.get_logger()
E = TypeVar("E", bound=Exception)

RELEASE_RETRY_S = 2.0
RELEASE_ATTEMPTS = 45
"""A call that ends while Redis is away keeps its record for 90 s; its slot on this worker is free at once."""


@dataclass(frozen=True, slots=True)
class Agent:
    """Who answers: the same for every call of a worker."""

    resource: Resource
    voice: str
    instructions: str
    greeting: str
    max_output_tokens: int | None
    auto_truncate: bool
    audio_format: AudioFormat
    uplink_ms: int
    connect_timeout_s: float


class _Ended(Exception):
    """Leaves the call's TaskGroup, which is the hang-up."""

    def __init__(self, end: CallEnd) -> None:
        super().__init__(end)
        self.end = end


class Call:
    """A call and its parts. `run()` carries it to its end and does not raise for what a peer does."""

    def __init__(self, leg: Leg, agent: Agent, endpoint: SipEndpoint, admission: Admission, leases: Leases) -> None:
        self._leg = leg
        self._agent = agent
        self._endpoint = endpoint
        self._admission = admission
        self._leases = leases
        self._state = CallState.INCOMING
        self._lease: Lease | None = None
        self._conversation: Conversation | None = None
        self._timeline = Timeline()
        self._counters: dict[str, int] = {}
        self._stop: asyncio.Future[CallEnd] = asyncio.get_running_loop().create_future()
        self._log = log.bind(call=leg.invite.call_id)

    async def run(self) -> None:
        """Carries the call; afterwards the leg is gone, the lease released and the record written."""
        try:
            end = await self._converse()
        except Exception:
            self._log.exception("call.failed")
            end = CallEnd.INTERNAL_ERROR
        await self._finish(end)

    def stop(self, end: CallEnd) -> None:
        """Ends the call from outside: the worker stops or the lease is lost."""
        if not self._stop.done():
            self._stop.set_result(end)

    async def _converse(self) -> CallEnd:
        try:
            self._lease = await self._admission.admit(self._leg.invite.call_id, self._leg.invite.lease_token)
        except (TokenInvalid, LeaseLost) as error:
            self._log.warning("call.lease_refused", reason=str(error))
            return CallEnd.LEASE_INVALID
        except NoCapacity as error:
            self._log.warning("call.no_slot", reason=str(error))
            return CallEnd.NO_CAPACITY
        self._timeline.mark("invite", self._lease.invite_at_ms)
        self._timeline.mark("lease", self._lease.offered_at_ms)
        self._timeline.mark("claimed")
        self._set_state(CallEvent.CLAIMED)
        end = CallEnd.INTERNAL_ERROR
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._until_disconnected(), name="leg")
                group.create_task(self._until_stopped(), name="stop")
                group.create_task(self._carry(), name="carry")
        except* UpstreamError as failures:
            failure = _first(failures)
            self._log.warning("voicelive.failed", reason=str(failure), status=failure.status)
            end = CallEnd.SESSION_LOST if self._state is CallState.TALKING else CallEnd.SESSION_UNAVAILABLE
        except* _Ended as endings:  # last, so that a hang-up outweighs a session that failed in the same moment
            end = _first(endings).end
        return end

    async def _until_disconnected(self) -> None:
        await self._leg.disconnected.wait()
        self._timeline.mark("hangup")
        if self._state is not CallState.TALKING:
            raise _Ended(CallEnd.CALLER_CANCELLED)
        raise _Ended(CallEnd.CALLER_HANGUP if self._leg.acknowledged else CallEnd.CALLER_UNREACHABLE)

    async def _until_stopped(self) -> None:
        raise _Ended(await self._stop)

    async def _carry(self) -> None:
        """Opens the session while the phone rings, answers when it is ready, and carries audio from then on."""
        self._leg.ring()
        wire = wire_format(self._agent.audio_format, self._leg.invite.codec)
        with self._endpoint.new_port(wire, self._agent.uplink_ms) as port:
            options = SessionOptions(
                voice=self._agent.voice,
                instructions=self._agent.instructions,
                audio_format=wire.encoding,
                audio_rate=wire.rate,
                greeting=self._agent.greeting,
                max_output_tokens=self._agent.max_output_tokens,
                auto_truncate=self._agent.auto_truncate,
            )
            self._conversation = conversation = Conversation(options, wire, port, self._timeline)
            self._leg.attach(port)
            self._endpoint.pump.add(port.id, conversation.wake)
            try:
                async with asyncio.timeout(self._agent.connect_timeout_s) as deadline:
                    async with open_connection(self._agent.resource) as connection:
                        await conversation.run(connection, on_ready=lambda: self._answer(deadline))
            except TimeoutError:
                raise UpstreamError("no session in time") from None
            finally:
                self._endpoint.pump.remove(port.id)
                self._counters |= conversation.counters()

    def _answer(self, deadline: asyncio.Timeout) -> None:
        deadline.reschedule(None)
        self._leg.answer()
        self._timeline.mark("answered")
        self._set_state(CallEvent.ANSWERED)

    async def _finish(self, end: CallEnd) -> None:
        if not self._leg.disconnected.is_set():
            self._timeline.mark("hangup")
        self._set_state(CallEvent.HANGUP)
        self._leg.end(end.sip_status)
        try:
            async with asyncio.timeout(HANGUP_TIMEOUT_S):
                await self._leg.disconnected.wait()
        except TimeoutError:
            self._log.warning("sip.hangup_unanswered")
        if self._lease is not None:
            await self._release(self._lease, end)
        self._set_state(CallEvent.RELEASED)
        self._log.info("call.ended", result=end.result, reason=end)

    async def _release(self, lease: Lease, end: CallEnd) -> None:
        """Gives the slot back and writes the record, in one step."""
        self._timeline.mark("ended")
        self._admission.forget(lease)
        record = self._record(lease, end)
        for _ in range(RELEASE_ATTEMPTS):
            try:
                await self._leases.release(lease, record)
                return
            except ControlUnavailable:
                await asyncio.sleep(RELEASE_RETRY_S)
        self._log.error("call.record_lost")

    def _record(self, lease: Lease, end: CallEnd) -> CallRecord:
        rtp = self._leg.rtp
        return CallRecord(
            call_id=lease.call_id,
            lease_id=lease.lease_id,
            worker_id=lease.worker_id,
            result=end.result,
            reason=end,
            invite_at_ms=lease.invite_at_ms,
            answered_at_ms=self._timeline.at("answered"),
            ended_at_ms=now_ms(),
            session_id=self._conversation.session_id if self._conversation else "",
            audio_format=self._agent.audio_format,
            marks=self._timeline.marks,
            counters=self._counters
            | {
                "turns": self._timeline.count("speech_stopped"),
                "barge_ins": self._timeline.count("barge_in"),
                "rtp_received": rtp.received,
                "rtp_lost": rtp.lost,
                "rtp_sent": rtp.sent,
            },
        )

    def _set_state(self, event: CallEvent) -> None:
        before, self._state = self._state, advance(CALL_TRANSITIONS, self._state, event)
        self._log.info("call.state", before=before, after=self._state)


def _first(group: BaseExceptionGroup[E]) -> E:
    """Returns the first exception at the bottom of a group; groups nest as deep as TaskGroups do."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
