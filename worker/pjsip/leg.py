"""The SIP side of one call: a pjsua2 call whose callbacks become awaitable values on the event loop.

It does not decide when to answer or hang up; `worker/call.py` does. Callbacks run in pjsip's threads with the GIL held:
they copy what they need and hand it to the loop.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pjsua2 as pj
import structlog
from pjaudioport import AudioPort

from worker.pjsip.invite import Invite

log = structlog.get_logger()

HANGUP_TIMEOUT_S = 8.0
"""How long pjsip may take to report the end of a call we end. It does so before the BYE goes out, without an answer."""


@dataclass(frozen=True, slots=True)
class RtpStats:
    """RTCP's view of the leg, in packets; taken when the stream ends."""

    received: int = 0
    lost: int = 0
    sent: int = 0


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
        self._loop = loop
        self._forget = forget
        self._port: AudioPort | None = None
        self.disconnected = asyncio.Event()
        """Set once the call is over, whoever ended it."""
        self.acknowledged = True
        """False when the call ended because the caller's side had stopped answering (408)."""
        self._ending = False
        self._gone = False
        """The C++ call is destroyed: nothing of pj.Call may be called any more."""

    def attach(self, port: AudioPort) -> None:
        """Has the call's audio go through `port` from the first media on, also after each re-INVITE."""
        self._port = port

    def ring(self) -> None:
        """Answers 180 Ringing."""
        self._respond(180)

    def answer(self) -> None:
        """Answers 200 OK; media starts at once."""
        self._respond(200)

    def end(self, status: int) -> None:
        """Ends the call: `status` as final response before the answer, BYE after it. Ending twice is harmless."""
        if self._ending or self._gone:
            return
        self._ending = True
        prm = pj.CallOpParam()
        prm.statusCode = status
        try:
            self.hangup(prm)
        except pj.Error as error:  # the other side was faster: onCallState tells
            log.debug("sip.hangup_failed", status=error.status)

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
            log.debug("sip.response_failed", sip_status=status, status=error.status)

    def onCallState(self, prm: pj.OnCallStateParam) -> None:
        """pjsua2 Call::onCallState. On DISCONNECTED the C++ call is destroyed here and now.

        Its destructor hangs up whichever call has its number, and pjsip gives the number to the next INVITE as soon as
        this callback returns: a destructor left to the collector would hang up somebody else. pjsua2 allows it: after
        this callback it does not touch the object again.
        """
        try:
            info = self.getInfo()
            if info.state == pj.PJSIP_INV_STATE_DISCONNECTED:
                self.acknowledged = info.lastStatusCode != pj.PJSIP_SC_REQUEST_TIMEOUT
                self._gone = True
                pj.Call.__swig_destroy__(self)
                self._post(self._on_disconnected)
        except Exception:
            log.exception("sip.callback_failed", callback="onCallState")

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
                    return
        except Exception:
            log.exception("sip.callback_failed", callback="onCallMediaState")

    def onStreamDestroyed(self, prm: pj.OnStreamDestroyedParam) -> None:
        """pjsua2 Call::onStreamDestroyed: the last moment at which statistics can be had."""
        try:
            rtcp = self.getStreamStat(prm.streamIdx).rtcp
            self.rtp = RtpStats(received=rtcp.rxStat.pkt, lost=rtcp.rxStat.loss, sent=rtcp.txStat.pkt)
        except Exception:
            log.exception("sip.callback_failed", callback="onStreamDestroyed")

    def _post(self, callback: Callable[[], None]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback)

    def _on_disconnected(self) -> None:
        self.disconnected.set()
        self._forget(self)
