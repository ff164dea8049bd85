"""Copies of final responses to INVITEs, for a caller whose dispatcher died after it had sent the INVITE on.

A response goes to the dispatcher that the topmost Via names, and to no other (RFC 3261 section 18.2.2). When that one
is dead, pjsip repeats it in vain. Any other dispatcher of the pool passes a copy on: the branch tells it that the
response is the pool's own. The copies come from a socket of our own, beside pjsip's, and nothing is ever read from it.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NoReturn, Protocol

import structlog

from shared.clock import steady_s
from shared.control.dispatchers import DispatcherRow
from shared.errors import ControlUnavailable

log = structlog.get_logger()

ANSWER_AFTER_S = 1.0
"""An answer (2xx) that nobody has acknowledged by then is copied: twice the T1 after which pjsip repeats it itself."""

ANSWER_INTERVAL_S = 2.0
ANSWER_COPIES = 5
"""How often and how many times, unless it is acknowledged: a caller that takes longer is gone."""

REFUSAL_AFTER_S = 4.0
"""A refusal (3xx to 6xx), whose ACK we never see, is looked at after this long: its dispatcher, if it was dead when the
refusal was sent, has fallen out of the table by then (HEARTBEAT_TTL_S)."""

REFUSALS_MAX = 256
"""Refusals kept that long, of some hundred bytes each. Full: the oldest is dropped."""

SipAddress = tuple[str, int]
"""IP address and UDP port."""


class DispatcherTable(Protocol):
    """Where the living dispatchers are found (`shared/control/dispatchers.py`)."""

    async def table(self) -> list[DispatcherRow]: ...


class Copies:
    """Sends copies; `run` takes care of refusals for as long as there may be calls."""

    def __init__(self, dispatchers: DispatcherTable, send: Callable[[bytes, SipAddress], None]) -> None:
        self._dispatchers = dispatchers
        self._send = send
        self._refusals: deque[tuple[float, bytes, SipAddress]] = deque(maxlen=REFUSALS_MAX)
        self._refused = asyncio.Event()

    async def until_acknowledged(self, answer: bytes, through: SipAddress, acknowledged: asyncio.Event) -> None:
        """Copies a 2xx to an INVITE that came `through` this dispatcher; returns when nothing is left to be done."""
        wait_s = ANSWER_AFTER_S
        for _ in range(ANSWER_COPIES):
            try:
                async with asyncio.timeout(wait_s):
                    await acknowledged.wait()
                return
            except TimeoutError:
                wait_s = ANSWER_INTERVAL_S
            await self._copy(answer, through)

    def refused(self, refusal: bytes, through: SipAddress) -> None:
        """Takes a final response other than 2xx, which has just been sent."""
        self._refusals.append((steady_s() + REFUSAL_AFTER_S, refusal, through))
        self._refused.set()

    async def run(self) -> NoReturn:
        """Copies refusals whose dispatcher turns out to be dead."""
        while True:
            while self._refusals:
                due, refusal, through = self._refusals.popleft()
                await asyncio.sleep(max(0.0, due - steady_s()))
                await self._copy(refusal, through, if_dead=True)
            self._refused.clear()
            await self._refused.wait()

    async def _copy(self, response: bytes, through: SipAddress, *, if_dead: bool = False) -> None:
        """Sends a response to all living dispatchers but that one; with `if_dead` only when it is not among them."""
        try:
            living = {address_of(row) for row in await self._dispatchers.table() if row.alive}
        except ControlUnavailable:
            return  # nobody knows who lives; an answer is tried again
        if if_dead and through in living:
            return
        others = living - {through}
        log.info("sip.response_copied", dispatchers=len(others), status=response[8:11].decode("ascii", "replace"))
        for address in others:
            self._send(response, address)


def address_of(row: DispatcherRow) -> SipAddress:
    """Returns the address that stands in a dispatcher's Via."""
    return row.record.sip_host, row.record.sip_port


@asynccontextmanager
async def copying(dispatchers: DispatcherTable, bind_address: str) -> AsyncIterator[Copies]:
    """Opens the socket for the block. Dispatchers take copies from addresses only at which there is a worker."""
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=(bind_address, 0)
    )
    try:
        yield Copies(dispatchers, transport.sendto)
    finally:
        transport.close()
