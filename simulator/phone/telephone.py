"""The telephone itself: a pjsua2 endpoint that dials, with one audio port for each call.

It does not know what is said on a call. pjsip's thread calls back into `Leg`, which copies values and hands them to the
event loop; everything else here runs on the loop's thread.
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import pjsua2 as pj
from pjaudioport import AudioPort

from simulator.phone.analysis import RATE
from simulator.phone.plan import Codec, Refer, Transport
from simulator.phone.transferee import Transferee

log = logging.getLogger(__name__)  # unconfigured: what is a warning or worse goes to stderr

JITTER_MS = 40
"""Fixed jitter buffer: what the caller hears is this much later than the packet, and a packet may be this late."""

_STREAMS = {Transport.TCP: pj.PJSIP_TRANSPORT_TCP, Transport.TLS: pj.PJSIP_TRANSPORT_TLS}

_FROM_TAG = re.compile(r"^(?:From|f)[ \t]*:[^\r\n]*;[ \t]*tag=([^;\s>]+)", re.IGNORECASE | re.MULTILINE)


@dataclass(slots=True)
class LegStatus:
    """What SIP has told about a call so far; read and written on the loop's thread only."""

    sip_call_id: str = ""
    from_tag: str = ""
    status: int = 0
    """Last response to the INVITE."""
    reason: str = ""
    answered: bool = False
    remote_bye: bool = False
    local_bye: bool = False
    """This side hung up an answered call, and did so first."""
    digits: str = ""
    """Keys that the other side sent."""
    refer_target: str | None = None
    """The URI in its last REFER."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    marks: dict[str, float] = field(default_factory=dict)

    def response(self, at_ms: float, status: int, reason: str) -> None:
        """Takes a response to the INVITE."""
        self.status, self.reason = status, reason
        name = "trying" if status == 100 else "ringing" if status < 200 else "answered" if status < 300 else "refused"
        self.marks.setdefault(name, at_ms)
        self.answered = self.answered or 200 <= status < 300
        self.changed.set()

    def identify(self, sip_call_id: str, from_tag: str) -> None:
        """Takes the caller's half of the dialog's name."""
        self.sip_call_id, self.from_tag = sip_call_id, from_tag

    def digit(self, digit: str) -> None:
        """Takes a key of the other side."""
        self.digits += digit
        self.changed.set()

    def refer(self, at_ms: float, target: str) -> None:
        """Takes the other side's REFER."""
        self.refer_target = target
        self.marks.setdefault("refer", at_ms)
        self.changed.set()

    def bye(self, at_ms: float) -> None:
        """Takes the other side's BYE."""
        self.remote_bye = True
        self.marks.setdefault("bye", at_ms)
        self.changed.set()

    def end(self, status: int) -> None:
        """Takes the end of the call, with pjsip's last word on it."""
        if not self.answered and status != self.status:
            self.status, self.reason = status, ""
        self.ended.set()
        self.changed.set()


class Leg(pj.Call):  # type: ignore[misc]
    """One outgoing call. Keep a reference until `status.ended`: pjsua2 hangs up a call that nobody holds."""

    def __init__(
        self, account: pj.Account, port: AudioPort, loop: asyncio.AbstractEventLoop, transferee: Transferee
    ) -> None:
        super().__init__(account)
        self.port = port
        self._transferee = transferee
        self.status = LegStatus()
        self.rtp: dict[str, int] = {}
        self._loop = loop
        self._identified = False

    def dial(self, uri: str, headers: Sequence[tuple[str, str]]) -> None:
        """Sends the INVITE; raises pj.Error for a URI that cannot be dialled."""
        prm = pj.CallOpParam(True)
        for name, value in headers:
            header = pj.SipHeader()
            header.hName, header.hValue = name, value
            prm.txOption.headers.append(header)
        prm.opt.audioCount = 1
        prm.opt.videoCount = prm.opt.textCount = 0
        self.status.marks["invite"] = now_ms()
        self.makeCall(uri, prm)

    def end(self) -> None:
        """Hangs up: CANCEL before the answer, BYE after it. Harmless when the call is over.

        pjsua2 tells DISCONNECTED at once, in here, and nothing of what the other side answers: 487 is its own word.
        """
        if self.status.ended.is_set():
            return
        if self.status.answered and not self.status.remote_bye:
            self.status.local_bye = True
            self.status.marks.setdefault("bye", now_ms())
        try:
            self.hangup(pj.CallOpParam(True))
        except pj.Error as error:  # the other side was faster, and `ended` follows
            log.info("hang-up: %s", error.reason)

    def onCallTsxState(self, prm: Any) -> None:
        """pjsua2 Call::onCallTsxState: each response to the INVITE, and the other side's BYE."""
        try:
            self._transaction(prm.e.body.tsxState)
        except Exception:
            log.exception("callback failed")

    def onCallState(self, prm: Any) -> None:
        """pjsua2 Call::onCallState."""
        try:
            info = self.getInfo()
            if info.state == pj.PJSIP_INV_STATE_DISCONNECTED:
                self._post(self.status.end, int(info.lastStatusCode))
        except Exception:
            log.exception("callback failed")

    def onCallMediaState(self, prm: Any) -> None:
        """pjsua2 Call::onCallMediaState: connects the port here and now, because slots change hands."""
        try:
            info = self.getInfo()  # in a variable: the media of a temporary is freed memory
            for media in info.media:
                if media.type == pj.PJMEDIA_TYPE_AUDIO and media.status == pj.PJSUA_CALL_MEDIA_ACTIVE:
                    self.port.connect(self.getAudioMedia(media.index).getPortId())
        except Exception:
            log.exception("callback failed")

    def onDtmfDigit(self, prm: Any) -> None:
        """pjsua2 Call::onDtmfDigit: a key, as RFC 4733 event or in an INFO."""
        self._post(self.status.digit, prm.digit)

    def onCallTransferRequest(self, prm: Any) -> None:
        """pjsua2 Call::onCallTransferRequest: after this callback pjsip answers the REFER, and dials unless refused."""
        try:
            self._post(self.status.refer, now_ms(), prm.dstUri.strip().removeprefix("<").removesuffix(">"))
            prm.statusCode, prm.newCall = self._transferee.referred()
            if self._transferee.refer is Refer.BYE:
                self._post(self.end)
        except Exception:
            log.exception("callback failed")

    def onCallRedirected(self, prm: Any) -> int:
        """pjsua2 Call::onCallRedirected: follows a 302 as softphones do; pjsip alone would give up."""
        return int(pj.PJSIP_REDIRECT_ACCEPT_REPLACE)

    def onStreamDestroyed(self, prm: Any) -> None:
        """pjsua2 Call::onStreamDestroyed: the last moment at which statistics can be had."""
        try:
            stat = self.getStreamStat(prm.streamIdx)
            rtp, buffer = stat.rtcp.rxStat, stat.jbuf
            self.rtp = {
                "received": rtp.pkt,
                "lost": rtp.loss,
                "empty": buffer.empty,
                "max_delay_ms": buffer.maxDelayMsec,
            }
        except Exception:
            log.exception("callback failed")

    def _transaction(self, state: Any) -> None:
        tsx, at = state.tsx, now_ms()
        if tsx.method == "INVITE" and tsx.role == pj.PJSIP_ROLE_UAC:
            self._invite_transaction(state, at)
        elif tsx.method == "BYE" and tsx.role == pj.PJSIP_ROLE_UAS:
            self._post(self.status.bye, at)

    def _invite_transaction(self, state: Any, at: float) -> None:
        received = state.type == pj.PJSIP_EVENT_RX_MSG
        if not self._identified and (received or state.type == pj.PJSIP_EVENT_TX_MSG):
            message = state.src.rdata.wholeMsg if received else state.src.tdata.wholeMsg
            if tag := _FROM_TAG.search(message):
                self._identified = True
                info = self.getInfo()
                self._post(self.status.identify, info.callIdString, tag[1])
        # A timeout is a final response that nobody sent: pjsip makes it a 408 (RFC 3261 section 8.1.3.1).
        if state.tsx.statusCode >= 100 and (received or state.type == pj.PJSIP_EVENT_TIMER):
            self._post(self.status.response, at, state.tsx.statusCode, state.tsx.statusText)

    def _post(self, callback: Callable[..., None], *values: object) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback, *values)


class Telephone:
    """A running endpoint; `async with` starts and ends it. One per process: pjsua keeps its state in globals."""

    def __init__(
        self,
        address: str,
        codec: Codec,
        calls: int,
        *,
        user: str = "caller",
        refer: Refer = Refer.REJECT,
        transport: Transport = Transport.UDP,
    ) -> None:
        """`user` is the user part of From."""
        self._address = address
        self._transport = transport
        self._codec = codec
        self._user = user
        self._config = endpoint_config(calls)
        self._endpoint = pj.Endpoint()
        self._account = pj.Account()
        self._transferee = Transferee(self._account, refer)
        self._legs: list[Leg] = []

    async def __aenter__(self) -> Self:
        self._endpoint.libCreate()
        self._endpoint.libInit(self._config)
        transport = pj.TransportConfig()
        transport.boundAddress = self._address
        transport_id = self._endpoint.transportCreate(pj.PJSIP_TRANSPORT_UDP, transport)
        if self._transport is not Transport.UDP:
            self._endpoint.transportCreate(_STREAMS[self._transport], transport)
            transport_id = pj.INVALID_ID  # what is dialled names its transport; a transferee's exchange has UDP only
        self._endpoint.libStart()
        # At once: without a device the bridge has no clock.
        self._endpoint.audDevManager().setNullDev()
        self._choose_codecs()
        config = account_config(self._address, transport_id, self._user)
        self._account.create(config, True)
        await self._transferee.open(self._address, config)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for leg in self._legs:
            leg.end()
        for leg in self._legs:
            await leg.status.ended.wait()
            leg.port.close()
        self._legs.clear()
        self._account.shutdown()
        self._endpoint.libDestroy()  # takes a second, in which BYE and CANCEL are still repeated and answered
        self._transferee.close()

    def dial(self, uri: str, headers: Sequence[tuple[str, str]] = ()) -> Leg:
        """Sends an INVITE to `uri` and returns the call; raises pj.Error for a URI that cannot be dialled."""
        port = AudioPort(bridge_rate=RATE, encoding="pcm16", rate=RATE)
        leg = Leg(self._account, port, asyncio.get_running_loop(), self._transferee)
        self._legs.append(leg)
        self._transferee.dial_directly()
        if self._transport is not Transport.UDP:
            uri += f";transport={self._transport}"
        try:
            leg.dial(uri, headers)
        except pj.Error:
            leg.status.end(0)
            raise
        return leg

    def _choose_codecs(self) -> None:
        wanted = [Codec.PCMU, Codec.PCMA] if self._codec is Codec.ANY else [self._codec]
        codecs = self._endpoint.codecEnum2()
        for codec in codecs:
            self._endpoint.codecSetPriority(codec.codecId, 0)
        for rank, name in enumerate(wanted):
            self._endpoint.codecSetPriority(f"{name}/8000/1", 255 - rank)


def now_ms() -> float:
    """Returns Unix time in ms."""
    return time.time() * 1000


def endpoint_config(calls: int) -> pj.EpConfig:
    """Returns pjsua2's settings for `calls` calls at once."""
    config = pj.EpConfig()
    config.uaConfig.userAgent = "voicepool telephone"
    config.uaConfig.maxCalls = 2 * calls + 1  # each may be referred
    config.uaConfig.threadCnt = 1
    config.uaConfig.mainThreadOnly = False
    config.logConfig.level = config.logConfig.consoleLevel = 0  # stdout is for the result
    media = config.medConfig
    media.clockRate = media.sndClockRate = RATE
    media.audioFramePtime = 20
    media.maxMediaPorts = 3 * calls + 16
    media.noVad = True
    media.ecTailLen = 0
    media.sndAutoCloseTime = -1  # the null device is the bridge's clock and must outlive the last call
    media.jbInit = media.jbMinPre = media.jbMaxPre = JITTER_MS
    media.jbMax = 300
    # Otherwise pjmedia cuts 10 ms out of the middle of speech whenever it finds the buffer fuller than it need be.
    media.jbDiscardAlgo = pj.PJMEDIA_JB_DISCARD_NONE
    return config


def account_config(address: str, transport_id: int, user: str) -> pj.AccountConfig:
    """Returns the settings of the one account all calls go out on; it registers nowhere."""
    config = pj.AccountConfig()
    config.idUri = f"sip:{user}@{address}"
    config.sipConfig.transportId = transport_id
    config.natConfig.contactRewriteUse = 0
    config.natConfig.contactUseSrcPort = 0  # over TCP it can be reached where it listens, as an SBC can
    config.natConfig.viaRewriteUse = 0
    config.natConfig.sdpNatRewriteUse = 0
    config.mediaConfig.lockCodecEnabled = False
    config.mediaConfig.transportConfig.boundAddress = address
    return config
