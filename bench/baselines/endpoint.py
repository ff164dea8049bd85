"""The user agent all baselines share: every INVITE is answered 200 at once, until SIGTERM. PCMU only.

The same as in the worker, because its own code makes the settings: bridge at 8 kHz with frames of 20 ms, one SIP
thread, no silence detection, jitter buffer, RTP ports, SRTP switched off, errors logged and nothing else. Done alike
here: null device as clock, no real-time text, and a call's C++ object destroyed in the callback that ends it.

Different: no lease, no dispatcher, no registration, and a call does not wait for its session. What a call is connected
to is each baseline's business.
"""

import asyncio
import gc
import json
import signal
from collections.abc import Callable
from typing import Any

import click
import pjsua2 as pj
import structlog

from admin.ports import free_udp_range
from shared import logs
from shared.choices import MediaSrtp
from shared.settings import PORTS_PER_CALL
from worker.pjsip import endpoint as worker

log = structlog.get_logger()

ADDRESS = "127.0.0.1"

CODEC = "PCMU/8000/1"


class Call(pj.Call):  # type: ignore[misc]
    """One incoming call. All of its methods run in pjsip's one thread, so they need no lock."""

    def __init__(self, account: "Account", pjsip_call: int) -> None:
        super().__init__(account, pjsip_call)
        self._calls = account.calls

    def connect(self, audio: pj.AudioMedia) -> None:
        """Connects the call's audio both ways; called with every change of media."""
        raise NotImplementedError

    def release(self) -> None:
        """Gives back what the call is connected to; called once, when the call is over."""

    def accept(self) -> None:
        """Answers 200 OK."""
        prm = pj.CallOpParam(True)
        prm.statusCode = pj.PJSIP_SC_OK
        prm.opt.audioCount = 1
        prm.opt.videoCount = prm.opt.textCount = 0
        self.answer(prm)

    def onCallState(self, prm: pj.OnCallStateParam) -> None:
        """pjsua2 Call::onCallState: the call is destroyed here and now, as in worker/pjsip/leg.py."""
        try:
            if self.getInfo().state == pj.PJSIP_INV_STATE_DISCONNECTED:
                self._calls.discard(self)
                self.release()
                pj.Call.__swig_destroy__(self)
        except Exception:
            log.exception("baseline.callback_failed", callback="onCallState")

    def onCallMediaState(self, prm: pj.OnCallMediaStateParam) -> None:
        """pjsua2 Call::onCallMediaState."""
        try:
            info = self.getInfo()  # kept in a variable: iterating a temporary's media reads freed memory
            for media in info.media:
                if media.type == pj.PJMEDIA_TYPE_AUDIO and media.status == pj.PJSUA_CALL_MEDIA_ACTIVE:
                    self.connect(self.getAudioMedia(media.index))
        except Exception:
            log.exception("baseline.callback_failed", callback="onCallMediaState")


class Account(pj.Account):  # type: ignore[misc]
    """The one account all calls come in on."""

    def __init__(self, capacity: int, new_call: Callable[["Account", int], Call]) -> None:
        super().__init__()
        self._capacity = capacity
        self._new_call = new_call
        self.calls: set[Call] = set()
        self.answered = 0

    def onIncomingCall(self, prm: pj.OnIncomingCallParam) -> None:
        """pjsua2 Account::onIncomingCall: answers, or refuses with 503 what is one too many."""
        try:
            if len(self.calls) >= self._capacity:
                busy = pj.CallOpParam()
                busy.statusCode = pj.PJSIP_SC_SERVICE_UNAVAILABLE
                pj.Call(self, prm.callId).hangup(busy)
                return
            call = self._new_call(self, prm.callId)
            self.calls.add(call)
            call.accept()
            self.answered += 1
        except Exception:
            log.exception("baseline.callback_failed", callback="onIncomingCall")


class _Endpoint(pj.Endpoint):  # type: ignore[misc]
    """pj.Endpoint that hangs up in pjsip's own thread."""

    def __init__(self) -> None:
        super().__init__()
        self._account: Account | None = None
        self._loop = asyncio.get_running_loop()
        self._hung_up = asyncio.Event()

    async def hang_up(self, account: Account) -> None:
        """Ends all calls of the account."""
        self._account = account
        self.utilTimerSchedule(0, None)
        await self._hung_up.wait()

    def onTimer(self, prm: pj.OnTimerParam) -> None:
        """pjsua2 Endpoint::onTimer, in pjsip's thread. A hang-up calls onCallState before it returns."""
        for call in list(self._account.calls if self._account else ()):
            try:
                call.hangup(pj.CallOpParam(True))
            except pj.Error as error:  # the caller was faster
                log.info("baseline.hangup_failed", status=error.status)
        self._loop.call_soon_threadsafe(self._hung_up.set)


async def serve(
    name: str, calls: int, port: int, new_call: Callable[[Account, int], Call], quality: int | None = None
) -> int:
    """Answers up to `calls` calls at once until SIGTERM, then hangs up; returns how many were answered.

    `port` is the SIP port, 0 a free one. `quality` is that of pjmedia's resampler, where the bridge must resample.
    """
    logs.configure("WARNING")
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    settings = _settings(calls, port)
    writer = worker.LogWriter()  # held to the end: pjsip writes its last lines into it
    config = worker.endpoint_config(settings, writer)
    if quality is not None:
        config.medConfig.quality = quality
    endpoint, account = _Endpoint(), Account(calls, new_call)
    try:
        say("baseline.listening", name=name, host=ADDRESS, port=_start(endpoint, config, account, settings))
        await stop.wait()
        await endpoint.hang_up(account)
        account.shutdown()
    finally:
        await asyncio.to_thread(_destroy, endpoint)  # takes a second, in which BYEs are repeated and answered
    return account.answered


def say(event: str, **values: Any) -> None:
    """Prints one line of JSON."""
    click.echo(json.dumps({"event": event, **values}))


def _settings(calls: int, port: int) -> worker.EndpointSettings:
    ports = calls * PORTS_PER_CALL
    first = free_udp_range(ADDRESS, ports)
    return worker.EndpointSettings(
        bind_address=ADDRESS,
        advertised_address=ADDRESS,
        sip_port=port,
        media_address=ADDRESS,
        media_ports=range(first, first + ports),
        srtp=MediaSrtp.OFF,
        capacity=calls,
    )


def _start(endpoint: _Endpoint, config: pj.EpConfig, account: Account, settings: worker.EndpointSettings) -> int:
    """Starts SIP and media and returns the SIP port; raises ClickException when it cannot be had."""
    endpoint.libCreate()
    try:
        endpoint.libInit(config)
        transport = pj.TransportConfig()
        transport.port, transport.boundAddress = settings.sip_port, ADDRESS
        transport_id = endpoint.transportCreate(pj.PJSIP_TRANSPORT_UDP, transport)
        endpoint.libStart()
    except pj.Error as error:
        raise click.ClickException(f"SIP endpoint on {ADDRESS}:{settings.sip_port}: {error.reason}") from error
    endpoint.audDevManager().setNullDev()  # at once: without a device the bridge has no clock
    for codec in endpoint.codecEnum2():
        endpoint.codecSetPriority(codec.codecId, 128 if codec.codecId == CODEC else 0)
    account.create(worker.account_config(settings, transport_id))
    gc.collect()
    gc.freeze()  # as the worker does
    name: str = endpoint.transportGetInfo(transport_id).localName
    return int(name.rpartition(":")[2])


def _destroy(endpoint: pj.Endpoint) -> None:
    endpoint.libRegisterThread("shutdown")
    endpoint.libDestroy()
