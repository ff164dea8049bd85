"""Telephone callers in number: SIP from one socket, RTP from one process, an id for each call.

What they do on a call is the benchmark's business; how packets are timed and counted is that of `bench/load`.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.load.clips import RATE, speech, tone
from bench.load.rtp import KEY_BYTES, RtpLoad, SrtpKeys
from bench.load.sdp import offer, parse_answer
from bench.load.sip import Dialog, Refused, SipCaller
from bench.rig import ADDRESS, RigError
from shared.ids import CallId, call_id_for

SPEECH = "speech"

SPEECH_TEXT = (
    "Good morning, I am calling about an order I placed last week. The parcel has not arrived yet, and I would like to "
    "know where it is. The number of the order is four, seven, one, one, eight. I have also moved since then, so please"
    " check the address, and tell me when I can expect the delivery."
)

UTTERANCE = "utterance"
UTTERANCE_S, CYCLE_S = 0.8, 4.0

ANSWER_S = 30.0

AT_ONCE = 8
"""Calls that are being set up at the same time."""


@dataclass(frozen=True, slots=True)
class Caller:
    """One call that is up."""

    number: int
    """Its id in the RTP tool's records."""
    dialog: Dialog

    @property
    def call_id(self) -> CallId:
        """The pool's id of the call."""
        return call_id_for(self.dialog.call_id, self.dialog.from_tag)


class Callers:
    """All callers of one measurement."""

    def __init__(self, sip: SipCaller, rtp: RtpLoad, sip_port: int, srtp: bool) -> None:
        self._sip = sip
        self.rtp = rtp
        self._sip_port = sip_port
        self._srtp = srtp
        self._next = 0
        self.up: list[Caller] = []

    @classmethod
    @asynccontextmanager
    async def open(cls, directory: Path, sip_port: int, cpu: int, *, srtp: bool = False) -> AsyncIterator["Callers"]:
        """Yields callers of the SIP port of a dispatcher or baseline; calls still up at the end are dropped."""
        async with SipCaller.open(ADDRESS) as sip, RtpLoad(directory, ADDRESS, cpu) as rtp:
            await rtp.clip(SPEECH, await asyncio.to_thread(speech, SPEECH_TEXT))
            await rtp.clip(UTTERANCE, _utterance())
            yield cls(sip, rtp, sip_port, srtp)

    async def call(self) -> Caller:
        """Makes a call and returns it once it is answered and RTP flows, silent at first; raises Refused."""
        number, self._next = self._next, self._next + 1
        own = secrets.token_bytes(KEY_BYTES) if self._srtp else None
        sdp = offer(ADDRESS, self.rtp.port, srtp_key=own)
        dialog = await self._sip.invite(ADDRESS, self._sip_port, sdp, timeout_s=ANSWER_S)
        answer = parse_answer(dialog.body)
        keys = None
        if own is not None:
            if answer.srtp_key is None:
                raise RigError("SRTP was offered, and the answer has no key")
            keys = SrtpKeys(own, answer.srtp_key)
        await self.rtp.add(number, answer.host, answer.port, answer.payload_type, keys)
        caller = Caller(number, dialog)
        self.up.append(caller)
        return caller

    async def speak(self, caller: Caller) -> None:
        """Has a caller speak for ever; each is at another word."""
        await self.rtp.loop(caller.number, SPEECH, caller.number * 9973 * 160 % (60 * 8000))

    async def converse(self, caller: Caller) -> None:
        """Has a caller say a tone of 0.8 s every 4 s for ever; each begins a little later than the one before."""
        await self.rtp.loop(caller.number, UTTERANCE, caller.number * 1999 % int(CYCLE_S * RATE) // 160 * 160)

    async def ramp(self, calls: int, per_second: float, *, turns: bool = False) -> None:
        """Makes `calls` calls, one after the other's start, that speak, or that converse if there are to be turns.

        Raises RigError when one is refused.
        """
        talk = self.converse if turns else self.speak
        room = asyncio.Semaphore(AT_ONCE)

        async def one() -> None:
            async with room:
                await talk(await self.call())

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(calls):
                    group.create_task(one())
                    await asyncio.sleep(1 / per_second)
        except* Refused as refusals:
            refused = refusals.exceptions[0]
            raise RigError(f"a call was refused: {refused}; {len(self.up)} of {calls} calls were up") from None

    async def hang_up(self) -> None:
        """Hangs up all calls."""
        room = asyncio.Semaphore(AT_ONCE)

        async def one(caller: Caller) -> None:
            async with room:
                await self.hang_up_one(caller)

        async with asyncio.TaskGroup() as group:
            for caller in list(self.up):
                group.create_task(one(caller))

    async def hang_up_one(self, caller: Caller) -> None:
        """Hangs up a call and stops its RTP."""
        await caller.dialog.bye()
        await self.rtp.remove(caller.number)
        self.up.remove(caller)


def _utterance() -> bytes:
    said = tone(440, UTTERANCE_S, -10.0)
    return said + b"\xff" * (int(CYCLE_S * RATE) - len(said))
