"""This worker's SIP endpoint: one pjsua2 instance with its own SIP port, RTP port range and conference bridge.

It knows nothing of leases or Voice Live: an INVITE becomes a Leg and is handed to whoever runs the worker.

Threads: pjsip's worker thread polls SIP and calls back into Python; pjmedia's clock thread moves audio and never does.
"""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass

import pjsua2 as pj
import structlog
from pjaudioport import AudioPort, take_ready, take_ticks, wake_fd

from shared.choices import MediaSrtp
from shared.errors import ConfigError, PeerError
from worker.media.formats import BRIDGE_RATE, WireFormat
from worker.media.pump import Pump
from worker.pjsip import invite as invites
from worker.pjsip.leg import Leg

log = structlog.get_logger()

CODECS = ("PCMU/8000/1", "PCMA/8000/1")
"""What is offered and accepted; the caller's order decides."""

_SRTP = {
    MediaSrtp.OFF: pj.PJMEDIA_SRTP_DISABLED,
    MediaSrtp.OPTIONAL: pj.PJMEDIA_SRTP_OPTIONAL,
    MediaSrtp.MANDATORY: pj.PJMEDIA_SRTP_MANDATORY,
}

REFUSAL_SLOTS = 8
"""pjsip calls beyond the capacity, so that a call too many is refused by us with 503 and not by pjsip with 486."""

PROBE_TIMEOUT_S = 2.0
"""A SIP stack that does not come back from a timer within this time counts as stuck."""

JITTER_BUFFER_INIT_MS = 20
JITTER_BUFFER_MIN_MS = 20
JITTER_BUFFER_MAX_PREFETCH_MS = 100
JITTER_BUFFER_MAX_MS = 240
"""Adaptive: one frame on a quiet network, up to 100 ms kept back on a bad one, 240 ms in a burst."""

_USER_PART = re.compile(r"(sips?:)[^@\s>]+@")


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """Where the endpoint lives and how much it carries."""

    bind_address: str
    advertised_address: str
    """Put into Contact."""
    sip_port: int
    """0 takes any free one."""
    media_address: str
    """Put into SDP."""
    media_ports: range
    srtp: MediaSrtp
    capacity: int


class SipEndpoint:
    """The endpoint; one per process, because pjsua keeps its state in globals."""

    def __init__(self, settings: EndpointSettings, on_leg: Callable[[Leg], None]) -> None:
        self._settings = settings
        self._on_leg = on_leg
        self._loop = asyncio.get_running_loop()
        self._endpoint = _Endpoint(self._loop)
        self._log_writer = LogWriter()
        self._account: _Account | None = None
        self._legs: set[Leg] = set()  # by object: pjsip gives a call's number to the next one at once
        self.pump = Pump(wake_fd(), take_ready)

    def start(self) -> int:
        """Starts SIP and media and returns the SIP port; raises ConfigError when a port or address cannot be had."""
        settings = self._settings
        self._endpoint.libCreate()
        try:
            self._endpoint.libInit(endpoint_config(settings, self._log_writer))
            transport = pj.TransportConfig()
            transport.port = settings.sip_port
            transport.boundAddress = settings.bind_address
            transport.publicAddress = settings.advertised_address
            transport_id = self._endpoint.transportCreate(pj.PJSIP_TRANSPORT_UDP, transport)
            self._endpoint.libStart()
        except pj.Error as error:
            self._endpoint.libDestroy()
            where = f"{settings.bind_address}:{settings.sip_port}"
            raise ConfigError([f"SIP endpoint on {where}: {error.reason}"]) from error
        # Right after libStart, and before any port: without a device the bridge has no clock.
        self._endpoint.audDevManager().setNullDev()
        self._choose_codecs()
        self._account = _Account(self._accept)
        self._account.create(account_config(settings, transport_id))
        self.pump.start()
        return _port_of(self._endpoint.transportGetInfo(transport_id).localName)

    def new_port(self, wire: WireFormat, uplink_ms: int) -> AudioPort:
        """Returns an audio port for one call; raises RuntimeError when the bridge has no room."""
        return AudioPort(bridge_rate=BRIDGE_RATE, encoding=wire.encoding, rate=wire.rate, wake_ms=uplink_ms)

    def take_ticks(self) -> tuple[int, int, int]:
        """Returns the ticks of the bridge's clock since the last call, the late ones, and the longest in ns."""
        return take_ticks()

    async def probe(self) -> None:
        """Returns once pjsip's thread has answered; raises TimeoutError when it is stuck."""
        # Not asyncio.wait_for: on Python 3.11 it swallows a cancellation that arrives with the tick.
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            await self._endpoint.tick()

    async def stop(self) -> None:
        """Hangs up what is left and ends SIP and media."""
        for leg in list(self._legs):
            leg.end(503)
        self.pump.stop()
        if self._account is not None:
            # Shuts it down. Left to the collector, it would shut down the next endpoint's account of that number.
            pj.Account.__swig_destroy__(self._account)
        # Takes about a second, in which pjsip still calls back into the loop.
        await asyncio.to_thread(self._destroy)
        # Not left to the collector: a process has room for one, and the next one would abort it.
        pj.Endpoint.__swig_destroy__(self._endpoint)

    def _destroy(self) -> None:
        self._endpoint.libRegisterThread("shutdown")
        self._endpoint.libDestroy()

    def _choose_codecs(self) -> None:
        for codec in self._endpoint.codecEnum2():
            self._endpoint.codecSetPriority(codec.codecId, 0)
        for codec_id in CODECS:
            self._endpoint.codecSetPriority(codec_id, 128)

    def _accept(self, pjsip_call: int, message: str) -> None:
        """Runs in pjsip's thread for each INVITE."""
        try:
            invite = invites.parse(message)
        except PeerError as error:
            log.info("sip.invite_refused", reason=str(error), sip_status=error.sip_status)
            self._refuse(pjsip_call, error.sip_status)
            return
        leg = Leg(self._account, pjsip_call, invite, self._loop, self._legs.discard)
        self._legs.add(leg)
        self._loop.call_soon_threadsafe(self._on_leg, leg)

    def _refuse(self, pjsip_call: int, status: int) -> None:
        call = pj.Call(self._account, pjsip_call)
        prm = pj.CallOpParam()
        prm.statusCode = status
        call.hangup(prm)


class _Endpoint(pj.Endpoint):  # type: ignore[misc]
    """pj.Endpoint with a timer that can be awaited."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop
        self._waiting: list[asyncio.Future[None]] = []

    async def tick(self) -> None:
        waiting = self._loop.create_future()
        self._waiting.append(waiting)
        self.utilTimerSchedule(0, None)
        await waiting

    def onTimer(self, prm: pj.OnTimerParam) -> None:
        """pjsua2 Endpoint::onTimer, in pjsip's thread."""
        self._loop.call_soon_threadsafe(self._ticked)

    def _ticked(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)


class _Account(pj.Account):  # type: ignore[misc]
    """The one account all calls come in on."""

    def __init__(self, accept: Callable[[int, str], None]) -> None:
        super().__init__()
        self._accept = accept

    def onIncomingCall(self, prm: pj.OnIncomingCallParam) -> None:
        """pjsua2 Account::onIncomingCall. A call without a Call object is answered 500 by pjsua2."""
        try:
            self._accept(prm.callId, prm.rdata.wholeMsg)
        except Exception:
            log.exception("sip.callback_failed", callback="onIncomingCall")


class LogWriter(pj.LogWriter):  # type: ignore[misc]
    """Takes pjsip's error lines; only errors, because this runs with the GIL in every pjsip thread."""

    def write(self, entry: pj.LogEntry) -> None:
        """pjsua2 LogWriter::write."""
        log.error("pjsip.error", text=_USER_PART.sub(r"\1***@", entry.msg.strip()), thread=entry.threadName)


def endpoint_config(settings: EndpointSettings, writer: LogWriter) -> pj.EpConfig:
    """Returns what pjsua2 is initialised with; `writer` must live as long as the endpoint."""
    config = pj.EpConfig()
    config.uaConfig.userAgent = "voicepool"
    config.uaConfig.maxCalls = settings.capacity + REFUSAL_SLOTS
    config.uaConfig.threadCnt = 1
    config.uaConfig.mainThreadOnly = False
    config.logConfig.level = 1
    config.logConfig.consoleLevel = 0
    config.logConfig.writer = writer
    media = config.medConfig
    media.clockRate = media.sndClockRate = BRIDGE_RATE
    media.audioFramePtime = 20
    media.maxMediaPorts = 2 * (settings.capacity + REFUSAL_SLOTS) + 16
    media.noVad = True  # silence is sent too: gaps would look like lost packets to the caller's side
    media.ecTailLen = 0
    media.sndAutoCloseTime = -1  # the null device is the bridge's clock and must outlive the last call
    media.jbInit = JITTER_BUFFER_INIT_MS
    media.jbMinPre = JITTER_BUFFER_MIN_MS
    media.jbMaxPre = JITTER_BUFFER_MAX_PREFETCH_MS
    media.jbMax = JITTER_BUFFER_MAX_MS
    # The default algorithm cuts 10 ms out of speech after every hiccup of 30 ms; this one only shortens long delays.
    media.jbDiscardAlgo = pj.PJMEDIA_JB_DISCARD_STATIC
    return config


def account_config(settings: EndpointSettings, transport_id: int) -> pj.AccountConfig:
    """Returns the account that all calls come in on, with its RTP ports."""
    config = pj.AccountConfig()
    config.idUri = f"sip:voicepool@{settings.advertised_address}"
    config.sipConfig.transportId = transport_id
    # These act on registrations and guessed NATs; behind an SBC or proxy addresses are configured.
    config.natConfig.contactRewriteUse = 0
    config.natConfig.viaRewriteUse = 0
    config.natConfig.sdpNatRewriteUse = 0
    config.mediaConfig.lockCodecEnabled = False  # saves a re-INVITE per call
    config.mediaConfig.srtpUse = _SRTP[settings.srtp]
    # Keys travel in SDP: whether SIP is encrypted on the way here is between the caller's side and the dispatcher.
    config.mediaConfig.srtpSecureSignaling = 0
    transport = config.mediaConfig.transportConfig
    transport.port = settings.media_ports.start
    # pjsip takes its upper bound as inclusive for RTP, with RTCP one above: two less keeps neighbours apart.
    transport.portRange = len(settings.media_ports) - 2
    # Ports are given out in turn from a random one on: a worker that replaces a dead one would else begin with those
    # that the dead one's callers still send to, and pjmedia would take such a stranger for the new caller.
    transport.randomizePort = True
    transport.boundAddress = settings.bind_address
    transport.publicAddress = settings.media_address
    return config


def _port_of(local_name: str) -> int:
    return int(local_name.rpartition(":")[2])
