"""The SIP side of one call: a pjsua2 call whose callbacks become awaitable values on the event loop.

It does not decide when to answer or hang up; `worker/call.py` does. Callbacks run in pjsip's threads with the GIL held:
they copy what they need and hand it to the loop.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import pjsua2 as pj
import structlog
from pjaudioport import AudioPort

from worker.pjsip.dtmf import DIGITS, GAP_MS, PAUSE, PAUSE_S, TONE_MS, KeyPresses, info_digit
from worker.pjsip.invite import Invite, encoded

log = structlog.get_logger()

HANGUP_TIMEOUT_S = 8.0
"""How long pjsip may take to report the end of a call we end. It does so before the BYE goes out, without an answer."""

EVENT_IS_UPDATE = 1
EVENT_IS_END = 2
"""Flags of pjmedia_stream_dtmf_event (pjmedia/stream.h); pjsua2 passes them on without their names."""

EARLY_DIGITS = 32
"""Digits kept until somebody listens; later ones are dropped."""

INFO_TIMEOUT_S = 5.0
"""How long an INFO may take to be answered. pjsip ends the call when one is not answered for 32 s."""


@dataclass(frozen=True, slots=True)
class RtpStats:
    """RTCP's view of the leg, in packets; taken whenever a stream ends, of which a re-INVITE may make another."""

    received: int = 0
    lost: int = 0
    sent: int = 0
    jitter_s: float = 0.0
    """Mean interarrival jitter of what came (RFC 3550 section 6.4.1)."""

    def __add__(self, more: "RtpStats") -> "RtpStats":
        """Returns what two streams come to; their jitter counts by what came on each."""
        received = self.received + more.received
        jitter = (self.jitter_s * self.received + more.jitter_s * more.received) / received if received else 0.0
        return RtpStats(received, self.lost + more.lost, self.sent + more.sent, jitter)


class Leg(pj.Call):  # type: ignore[misc]
    """One incoming call. Keep a reference until `disconnected` is done: pjsip hangs up a call nobody holds."""

    def __init__(
        self,
        account: pj.Account,
        pjsip_call: int,
        invite: Invite,
        loop: asyncio.AbstractEventLoop,
        forget: Callable[["Leg"], None],
    ) -> None:
        super().__init__(account, pjsip_call)
        self.invite = invite
        self.rtp = RtpStats()
        self.log = log.bind(call_id=invite.call_id)
        """Its logger, which may be replaced by one that says more of the call."""
        self._loop = loop
        self._forget = forget
        self._port: AudioPort | None = None
        self.disconnected = asyncio.Event()
        """Set once the call is over, whoever ended it."""
        self.acknowledged = True
        """False when the call ended because the caller's side had stopped answering (408)."""
        self.confirmed = asyncio.Event()
        """Set once the caller's side has acknowledged our answer (ACK)."""
        self.on_media: Callable[[], None] | None = None
        """Called on the loop whenever media has become active: at the answer, and after each re-INVITE."""
        self.on_final: Callable[[int, bytes], None] | None = None
        """Called on the loop with the status and the bytes of our final response to the INVITE, once it was sent."""
        self._answered = False
        self._ending = False
        self._gone = False
        """The C++ call is destroyed: nothing of pj.Call may be called any more."""
        self._presses = KeyPresses()
        self._on_digit: Callable[[str], None] | None = None
        self._early_digits: deque[str] = deque()
        self._info: asyncio.Future[int] | None = None
        """The final response to the INFO on its way."""
        self._transfer: asyncio.Future[int] | None = None
        """The outcome of the transfer under way."""
        self._refer_accepted = False

    @property
    def on_digit(self) -> Callable[[str], None] | None:
        """Called on the loop with each key that the caller presses: one of DIGITS. Gets at once what came before."""
        return self._on_digit

    @on_digit.setter
    def on_digit(self, callback: Callable[[str], None] | None) -> None:
        self._on_digit = callback
        while callback and self._early_digits:
            callback(self._early_digits.popleft())

    def attach(self, port: AudioPort) -> None:
        """Has the call's audio go through `port` from the first media on, also after each re-INVITE."""
        self._port = port

    def ring(self) -> None:
        """Answers 180 Ringing."""
        self._respond(180)

    def answer(self) -> None:
        """Answers 200 OK; media starts at once."""
        self._answered = True
        self._respond(200)

    def end(self, status: int) -> None:
        """Ends the call: `status` as final response before the answer, BYE after it. Ending twice is harmless."""
        if self._ending or self._gone:
            return
        self._ending = True
        if not self._answered:
            self._respond(status)  # `hangup` would not tell what it sent
        if self._gone:
            return
        prm = pj.CallOpParam()
        prm.statusCode = status
        try:
            self.hangup(prm)
        except pj.Error as error:  # the other side was faster: onCallState tells
            self.log.debug("sip.hangup_failed", status=error.status)

    async def send_digits(self, digits: str) -> bool:
        """Sends DIGITS and PAUSEs and returns once they are out; False as soon as one cannot be sent.

        As RFC 4733 events, in which time they are all that the caller's side hears. As INFO (`application/dtmf-relay`)
        when its SDP takes no events.
        """
        for digit in digits:
            sent = await self._stays(PAUSE_S) if digit == PAUSE else await self._send_digit(digit.upper())
            if not sent:
                return False
        return True

    async def transfer(self, target: str, timeout_s: float) -> int:
        """Refers the caller's side to a URI (RFC 3515, blind) and returns the outcome as a SIP status; the leg stays.

        The last NOTIFY's status, or that with which the REFER itself was refused. 200 also when the other side hangs up
        after it accepted: many an SBC tells nothing more. 408 when nothing is known after `timeout_s`; 487 when the
        call ended for another reason, 491 while another transfer is under way. A REFER that is not answered at all
        costs the call after 32 s, since pjsip then ends the dialog (RFC 3261 section 12.2.1.2).
        """
        if self._transfer:
            return 491
        outcome: asyncio.Future[int] = self._loop.create_future()
        self._transfer = outcome
        self._refer_accepted = False
        try:
            if self._gone:
                return 487
            self.xfer(f"<{target}>", pj.CallOpParam())
            async with asyncio.timeout(timeout_s):
                return await outcome
        except pj.Error as error:
            self.log.warning("sip.refer_failed", status=error.status)
            return 487 if self._gone else 400
        except TimeoutError:
            return 408
        finally:
            self._transfer = None

    async def _send_digit(self, digit: str) -> bool:
        if digit not in DIGITS or self._gone:
            return False
        try:
            self.sendDtmf(_dtmf(digit, pj.PJSUA_DTMF_METHOD_RFC2833))
        except pj.Error:  # no events in the caller's SDP, or no media at all
            return await self._send_info(digit)
        return await self._stays((TONE_MS + GAP_MS) / 1000)

    async def _send_info(self, digit: str) -> bool:
        if self._gone:
            return False
        answered: asyncio.Future[int] = self._loop.create_future()
        self._info = answered
        try:
            self.sendDtmf(_dtmf(digit, pj.PJSUA_DTMF_METHOD_SIP_INFO))
            async with asyncio.timeout(INFO_TIMEOUT_S):
                return 200 <= await answered < 300
        except (pj.Error, TimeoutError):
            return False
        finally:
            self._info = None

    async def _stays(self, seconds: float) -> bool:
        """Returns after `seconds`, or False at once when the call ends."""
        try:
            async with asyncio.timeout(seconds):
                await self.disconnected.wait()
        except TimeoutError:
            return True
        return False

    def _respond(self, status: int) -> None:
        prm = pj.CallOpParam(True)
        prm.statusCode = status
        prm.opt.audioCount = 1
        # Real-time text is on by default in pjsip: a thread per call, and up to 300 ms in which a hang-up blocks.
        prm.opt.videoCount = prm.opt.textCount = 0
        if self._gone:  # a CANCEL was faster
            return
        try:
            pj.Call.answer(self, prm)
        except pj.Error as error:
            # A CANCEL or BYE that arrived meanwhile: `disconnected` follows and ends the call.
            self.log.debug("sip.response_failed", sip_status=status, status=error.status)

    def onCallState(self, prm: pj.OnCallStateParam) -> None:
        """pjsua2 Call::onCallState. On DISCONNECTED the C++ call is destroyed here and now.

        Its destructor hangs up whichever call has its number, and pjsip gives the number to the next INVITE as soon as
        this callback returns: a destructor left to the collector would hang up somebody else. pjsua2 allows it: after
        this callback it does not touch the object again.
        """
        try:
            info = self.getInfo()
            if final := _final_response(prm.e):
                self._post(self._on_final, *final)
            if info.state == pj.PJSIP_INV_STATE_CONFIRMED:
                self._post(self.confirmed.set)
            if info.state == pj.PJSIP_INV_STATE_DISCONNECTED:
                self.acknowledged = info.lastStatusCode != pj.PJSIP_SC_REQUEST_TIMEOUT
                self._gone = True
                pj.Call.__swig_destroy__(self)
                self._post(self._on_disconnected)
        except Exception:
            self.log.exception("sip.callback_failed", callback="onCallState")

    def onCallMediaState(self, prm: pj.OnCallMediaStateParam) -> None:
        """pjsua2 Call::onCallMediaState: connects the port here and now.

        Not later on the loop: the slot may have changed hands by then, and pjmedia 2.17's bridge has a race between
        a late connect and the removal of the old stream.
        """
        try:
            info = self.getInfo()  # kept in a variable: iterating a temporary's media reads freed memory
            for media in info.media:
                if media.type == pj.PJMEDIA_TYPE_AUDIO and media.status == pj.PJSUA_CALL_MEDIA_ACTIVE:
                    slot = self.getAudioMedia(media.index).getPortId()
                    if self._port is not None:
                        self._port.connect(slot)
                    self._post(self._on_media)
                    return
        except Exception:
            self.log.exception("sip.callback_failed", callback="onCallMediaState")

    def onStreamDestroyed(self, prm: pj.OnStreamDestroyedParam) -> None:
        """pjsua2 Call::onStreamDestroyed: the last moment at which statistics can be had."""
        try:
            statistics = self.getStreamStat(prm.streamIdx)  # kept in a variable, for the same reason
            came, went = statistics.rtcp.rxStat, statistics.rtcp.txStat
            self.rtp += RtpStats(came.pkt, came.loss, went.pkt, came.jitterUsec.mean / 1e6)
        except Exception:
            self.log.exception("sip.callback_failed", callback="onStreamDestroyed")

    def onDtmfEvent(self, prm: pj.OnDtmfEventParam) -> None:
        """pjsua2 Call::onDtmfEvent: packets of RFC 4733 events. onDtmfDigit would not tell which event they are of.

        What came as INFO is told here too, but with a code such as 10 cut to its first digit: see onCallTsxState.
        """
        try:
            if prm.method == pj.PJSUA_DTMF_METHOD_RFC2833:
                update, end = bool(prm.flags & EVENT_IS_UPDATE), bool(prm.flags & EVENT_IS_END)
                self._post(self._on_event, prm.digit, prm.timestamp, update, end)
        except Exception:
            self.log.exception("sip.callback_failed", callback="onDtmfEvent")

    def onCallTsxState(self, prm: pj.OnCallTsxStateParam) -> None:
        """pjsua2 Call::onCallTsxState: INFO requests, and answers to our own.

        pjsip answers 200 to `application/dtmf-relay`, and 500 to `application/dtmf`, which it does not know; there is
        no way to answer it from here.
        """
        try:
            state = prm.e.body.tsxState
            if state.tsx.method != "INFO":
                return
            if state.tsx.role == pj.PJSIP_ROLE_UAC:
                # Once: a transaction that was answered terminates later, with the same status.
                if state.tsx.statusCode >= 200 and state.prevState != pj.PJSIP_TSX_STATE_COMPLETED:
                    self._post(self._on_info_answered, state.tsx.statusCode)
            elif state.tsx.state == pj.PJSIP_TSX_STATE_TRYING and state.type == pj.PJSIP_EVENT_RX_MSG:
                if digit := info_digit(state.src.rdata.wholeMsg):
                    self._post(self._on_info, digit)
        except Exception:
            self.log.exception("sip.callback_failed", callback="onCallTsxState")

    def onCallTransferStatus(self, prm: pj.OnCallTransferStatusParam) -> None:
        """pjsua2 Call::onCallTransferStatus: 100 once a REFER was accepted, then what each NOTIFY says."""
        try:
            self._post(self._on_transfer_status, prm.statusCode)
        except Exception:
            self.log.exception("sip.callback_failed", callback="onCallTransferStatus")

    def onCallTransferRequest(self, prm: pj.OnCallTransferRequestParam) -> None:
        """pjsua2 Call::onCallTransferRequest: refused. pjsip would have this worker dial whatever a caller names."""
        prm.statusCode = pj.PJSIP_SC_DECLINE

    def _post(self, callback: Callable[..., None], *values: object) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback, *values)

    def _on_final(self, status: int, response: bytes) -> None:
        if self.on_final:
            self.on_final(status, response)

    def _on_media(self) -> None:
        if self.on_media:
            self.on_media()

    def _on_event(self, digit: str, timestamp: int, update: bool, end: bool) -> None:
        if self._presses.event(digit, timestamp, update=update, end=end):
            self._pressed(digit)

    def _on_info(self, digit: str) -> None:
        if self._presses.info():
            self._pressed(digit)

    def _pressed(self, digit: str) -> None:
        if self._on_digit:
            self._on_digit(digit)
        elif len(self._early_digits) < EARLY_DIGITS:
            self._early_digits.append(digit)

    def _on_info_answered(self, status: int) -> None:
        _settle(self._info, status)

    def _on_transfer_status(self, status: int) -> None:
        if status >= 200:
            _settle(self._transfer, status)
        else:
            self._refer_accepted = True

    def _on_disconnected(self) -> None:
        self.disconnected.set()
        hung_up = self.acknowledged and not self._ending
        _settle(self._transfer, 200 if self._refer_accepted and hung_up else 487)
        _settle(self._info, 487)
        self._forget(self)


def _final_response(event: pj.SipEvent) -> tuple[int, bytes] | None:
    """Returns status and bytes of the final response to the INVITE, if that it was sent is what has happened."""
    if event.type != pj.PJSIP_EVENT_TSX_STATE:
        return None
    state = event.body.tsxState
    if state.type != pj.PJSIP_EVENT_TX_MSG or state.tsx.method != "INVITE" or state.tsx.statusCode < 200:
        return None
    return state.tsx.statusCode, encoded(state.src.tdata.wholeMsg)


def _dtmf(digit: str, method: int) -> pj.CallSendDtmfParam:
    prm = pj.CallSendDtmfParam()
    prm.digits, prm.method, prm.duration = digit, method, TONE_MS
    return prm


def _settle(future: asyncio.Future[int] | None, status: int) -> None:
    if future and not future.done():
        future.set_result(status)
