"""One call, from INVITE to call record: joins the SIP leg and the Voice Live side.

It parses no SIP, speaks no WebSocket and moves no audio itself. It is the only place that ends a call.

    admit the lease -> ring -> open the session -> answer -> carry audio both ways -> hang up -> release, once
"""

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

import structlog
from pydantic import ValidationError

from shared.agents.facts import CallFacts
from shared.agents.model import TransferTarget
from shared.clock import now_ms, steady_s
from shared.control.dispatchers import Dispatchers
from shared.control.leases import Leases
from shared.ending import CallEnd
from shared.errors import CommandFailed, ControlUnavailable, LeaseLost, NoCapacity, TokenInvalid, UpstreamError
from shared.messages import CallRecord, Lease
from shared.states import CALL_TRANSITIONS, CallEvent, CallState, advance
from shared.telemetry.recorder import Recorder
from worker import farewell
from worker.admission import Admission
from worker.call_telemetry import CallTelemetry
from worker.conversation import Conversation, Means
from worker.copies import Copies
from worker.keeping import kept
from worker.media.formats import wire_format
from worker.pjsip.endpoint import SipEndpoint
from worker.pjsip.invite import answered
from worker.pjsip.leg import HANGUP_TIMEOUT_S, Leg
from worker.record_file import append_record
from worker.resources import Resources
from worker.staff import Answerer, Staff
from worker.timeline import Timeline
from worker.tools.context import ToolContext
from worker.tools.runner import ToolResult
from worker.voicelive import recovery
from worker.voicelive.connection import Connection

log = structlog.get_logger()
E = TypeVar("E", bound=Exception)

RELEASE_RETRY_S = 2.0
RELEASE_ATTEMPTS = 45
"""A call that ends while Redis is away keeps its record for 90 s; its slot on this worker is free at once."""

ORDERED = "operator"
"""Name of a transfer to a URI that an operator named, in the place of one of the agent's names."""


@dataclass(frozen=True, slots=True)
class Services:
    """What all calls of a worker share."""

    staff: Staff
    endpoint: SipEndpoint
    admission: Admission
    leases: Leases
    dispatchers: Dispatchers
    resources: Resources
    copies: Copies
    recorder: Recorder
    connect_timeout_s: float
    record_file: str
    """Where records go beside Redis; empty is nowhere."""


class _Ended(Exception):
    """Leaves the call's TaskGroup, which is the hang-up."""

    def __init__(self, end: CallEnd) -> None:
        super().__init__(end)
        self.end = end


class Call:
    """A call and its parts. `run()` carries it to its end and does not raise for what a peer does."""

    def __init__(self, leg: Leg, services: Services) -> None:
        self._leg = leg
        self._services = services
        self._state = CallState.INCOMING
        self._lease: Lease | None = None
        self._facts = CallFacts(leg.invite.caller, leg.invite.called, leg.invite.headers, "", datetime.now(UTC))
        self._answerer: Answerer | None = None
        self._conversation: Conversation | None = None
        self._connected = False
        """A connection has been opened, or tried."""
        self._answered_at: float | None = None
        self._answer_sent: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        """Our 200 OK."""
        self._timeline = Timeline()
        self._telemetry = CallTelemetry(services.recorder)
        self._counters: dict[str, int] = {}
        self._stop: asyncio.Future[CallEnd] = asyncio.get_running_loop().create_future()
        self._log = log.bind(call_id=leg.invite.call_id)
        leg.on_final = self._responded
        leg.on_media = self._media_active

    @property
    def lease(self) -> Lease | None:
        """The lease, once it is claimed; None again as soon as the call is ending."""
        return self._lease if self._state in (CallState.CONNECTING, CallState.TALKING) else None

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

    # ------------------------------------------------------------------------------------------ what operators ask for

    def hang_up(self) -> None:
        """Ends the call now."""
        self.stop(CallEnd.OPERATOR_HANGUP)

    def say(self, text: str) -> None:
        """Has the agent say a text word for word, as soon as nobody speaks; raises CommandFailed when it cannot."""
        self._talking().say(text)

    def destination(self, where: str) -> tuple[str, str]:
        """Returns the name and the URI of a transfer of the agent's, or of a URI; raises CommandFailed for neither."""
        self._talking()
        assert self._answerer is not None, "who talks has an agent"
        known = self._answerer.agent.transfers.get(where)
        if known is not None:
            return where, known.uri
        try:
            return ORDERED, TransferTarget(uri=where).uri
        except ValidationError:
            raise CommandFailed("neither a transfer of the agent nor a sip:, sips: or tel: URI") from None

    async def transfer(self, name: str, uri: str) -> None:
        """Transfers the caller as the model would, and returns when that is done; raises CommandFailed with why not."""
        await self._talking().transfer(name, uri)

    def _talking(self) -> Conversation:
        if self._conversation is None or self._state is not CallState.TALKING:
            raise CommandFailed("the call has not been answered yet")
        return self._conversation

    # -------------------------------------------------------------------------------------------------- the call's life

    async def _converse(self) -> CallEnd:
        try:
            invite = self._leg.invite
            self._lease = await self._services.admission.admit(invite.call_id, invite.lease_token)
        except (TokenInvalid, LeaseLost) as error:
            self._log.warning("call.lease_refused", reason=str(error))
            self._telemetry.refused()
            return CallEnd.LEASE_INVALID
        except NoCapacity as error:
            self._log.warning("call.no_slot", reason=str(error))
            self._telemetry.refused()
            return CallEnd.NO_CAPACITY
        self._facts = replace(self._facts, trunk=self._lease.peer)
        self._timeline.mark("invite", self._lease.invite_at_ms)
        self._timeline.mark("lease", self._lease.offered_at_ms)
        self._timeline.mark("claimed")
        self._telemetry.admitted(self._lease)
        self._leg.log = self._log = self._log.bind(trace_id=self._telemetry.trace_id)
        self._log.info("call.claimed", lease=self._lease.lease_id)
        self._set_state(CallEvent.CLAIMED)
        end = CallEnd.INTERNAL_ERROR
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._until_disconnected(), name="leg")
                group.create_task(self._until_stopped(), name="stop")
                group.create_task(self._follow_answer(self._lease), name="answer")
                group.create_task(self._carry(self._lease), name="carry")
        except* UpstreamError as failures:
            failure = _first(failures)
            self._log.warning("voicelive.failed", reason=str(failure), status=failure.status)
            end = CallEnd.SESSION_LOST if self._state is CallState.TALKING else recovery.ending(failure)
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

    def _responded(self, status: int, response: bytes) -> None:
        """The leg has sent its final response."""
        through = self._leg.invite.dispatcher
        if status >= 300 and through is not None:
            self._services.copies.refused(response, through)
        elif status < 300 and not self._answer_sent.done():
            self._answer_sent.set_result(response)

    def _media_active(self) -> None:
        self._leg.on_media = None  # a re-INVITE is no news
        self._log.info("sip.media_active")

    async def _follow_answer(self, lease: Lease) -> None:
        """Once the call is answered, tells the pool its dialog, and sees to it that the caller gets the answer."""
        response = await self._answer_sent
        services, invite = self._services, self._leg.invite
        self._lease = lease = replace(
            lease, answered_at_ms=self._timeline.at("answered"), dialog=answered(invite.dialog, response)
        )
        services.admission.update(lease)
        try:
            if await services.leases.renew(lease.worker_id, [lease]):
                self.stop(CallEnd.WORKER_LOST)
        except ControlUnavailable:
            self._log.debug("lease.dialog_untold")  # the next renewal tells it
        if invite.dispatcher is not None:
            await services.copies.until_acknowledged(response, invite.dispatcher, self._leg.confirmed)

    async def _carry(self, lease: Lease) -> None:
        """Opens the session while the phone rings, answers when it is ready, and carries audio from then on."""
        leg, services = self._leg, self._services
        leg.ring()
        self._answerer = answerer = services.staff.answerer(self._facts, lease.resource)
        self._log.info("call.agent", agent=answerer.agent.name, resource=answerer.resource_name)
        self._telemetry.assigned(answerer.agent.name, answerer.resource_name)
        wire = wire_format(answerer.agent.audio_format, leg.invite.codec)
        with services.endpoint.new_port(wire, answerer.agent.uplink_ms) as port:
            means = Means(
                call_id=leg.invite.call_id,
                wire=wire,
                port=port,
                telephone=leg,
                timeline=self._timeline,
                telemetry=self._telemetry,
                open_connection=lambda: self._open(answerer, lease),
                spend=lambda tokens: services.resources.spend(answerer.resource_name, tokens),
                connect_timeout_s=services.connect_timeout_s,
                run_tool=self._run_tool,
                filler=answerer.filler(wire),
                apology=answerer.apology(wire),
            )
            options = answerer.session_options(wire, self._facts)
            self._conversation = conversation = Conversation(options, means, self._answer)
            leg.attach(port)
            services.endpoint.pump.add(port.id, conversation.wake)
            leg.on_digit = conversation.digit
            try:
                end = await conversation.run()
            finally:
                leg.on_digit = None
                services.endpoint.pump.remove(port.id)
                self._counters |= conversation.counters()
                self._telemetry.audio_over(self._counters, wire.bytes_per_ms)
        # One who never acknowledged the answer was never there: that they were silent, say, tells nothing.
        raise _Ended(end if leg.confirmed.is_set() else CallEnd.CALLER_UNREACHABLE)

    def _open(self, answerer: Answerer, lease: Lease) -> AbstractAsyncContextManager[Connection]:
        # The lease has paid for one connection, at the resource that it names.
        paid = not self._connected and answerer.resource_name == lease.resource
        self._connected = True
        return self._services.resources.open(answerer.resource_name, answerer.resource, paid=paid)

    async def _run_tool(self, name: str, arguments: dict[str, Any], digits: dict[str, str]) -> ToolResult:
        assert self._answerer is not None
        context = ToolContext(self._leg.invite.call_id, self._facts, digits, self._telemetry.trace_id)
        return await self._services.staff.tools.run(self._answerer.agent, name, arguments, context)

    def _answer(self) -> None:
        self._leg.answer()
        self._answered_at = steady_s()
        self._timeline.mark("answered")
        self._telemetry.answered()
        self._set_state(CallEvent.ANSWERED)
        self._log.info("sip.call_answered")

    async def _finish(self, end: CallEnd) -> None:
        bye_at: float | None = None
        if not self._leg.disconnected.is_set():
            self._timeline.mark("hangup")
            bye_at = steady_s()
        self._set_state(CallEvent.HANGUP)
        self._leg.end(end.sip_status)
        try:
            async with asyncio.timeout(HANGUP_TIMEOUT_S):
                await self._leg.disconnected.wait()
        except TimeoutError:
            self._log.warning("sip.hangup_unanswered")
        if self._lease is not None:
            await self._release(self._lease, end, bye_at)
        self._set_state(CallEvent.RELEASED)
        self._log.info("call.ended", result=end.result, reason=end)

    async def _release(self, lease: Lease, end: CallEnd, bye_at: float | None) -> None:
        """Gives the slot back and writes the record, in one step. `bye_at` is when we hung up, if it was us."""
        self._timeline.mark("ended")
        self._services.admission.forget(lease)
        record = self._record(lease, end)
        self._telemetry.ended(record, self._leg.rtp)
        for _ in range(RELEASE_ATTEMPTS):
            try:
                orphan = bye_at is not None and await self._is_orphan(lease, bye_at)
                await self._services.leases.release(lease, record, orphan=orphan)
                break
            except ControlUnavailable:
                await asyncio.sleep(RELEASE_RETRY_S)
        else:
            self._log.error("call.record_lost")
        if self._services.record_file:
            await append_record(self._services.record_file, record)

    async def _is_orphan(self, lease: Lease, bye_at: float) -> bool:
        """Returns whether the caller cannot hear of our BYE, and has to be told by another dispatcher."""
        through = self._leg.invite.bye_through
        if lease.dialog is None or through is None:
            return False
        return not await farewell.arrives(self._services.dispatchers, through, bye_at)

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
            marks=self._timeline.marks,
            counters=self._counters
            | {
                "turns": len(self._conversation.session.memory.turns) if self._conversation else 0,
                "barge_ins": self._timeline.count("barge_in"),
                "rtp_received": rtp.received,
                "rtp_lost": rtp.lost,
                "rtp_sent": rtp.sent,
            },
            **self._said(),
        )

    def _said(self) -> dict[str, Any]:
        """Returns the fields of the record that are about the conversation."""
        if self._answerer is None or self._conversation is None:
            return {}
        agents, agent = self._answerer.agents, self._answerer.agent
        session = self._conversation.session
        return {
            "session_id": session.session_ids[0] if session.session_ids else "",
            "sessions": session.session_ids,
            "audio_format": agent.audio_format,
            "transfer": session.transferred_to,
            **kept(session.memory, agent, agents.prices, self._answered_at, self._facts, agents.currency),
        }

    def _set_state(self, event: CallEvent) -> None:
        before, self._state = self._state, advance(CALL_TRANSITIONS, self._state, event)
        self._log.debug("call.state", before=before, after=self._state)


def _first(group: BaseExceptionGroup[E]) -> E:
    """Returns the first exception at the bottom of a group; groups nest as deep as TaskGroups do."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
