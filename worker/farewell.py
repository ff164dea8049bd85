"""Whether a BYE of ours can arrive: it goes through the dispatcher of the call, which may have died since.

It sends none: pjsip does, and tells nothing of what comes of it. Whose BYE cannot arrive leaves the call as an orphan
(`Leases.release`), for which another dispatcher says BYE. Where all dispatchers share an address this is never needed.
"""

import asyncio

from shared.clock import steady_s
from worker.copies import DispatcherTable, SipAddress, address_of

LOOK_S = 0.25
"""How often the table is looked at until it says something about the moment of the BYE: one heartbeat, mostly."""


async def arrives(dispatchers: DispatcherTable, through: SipAddress, sent_at: float) -> bool:
    """Returns whether this dispatcher was alive after `sent_at` (`steady_s`), when the BYE was sent to it.

    Takes until its next heartbeat, or HEARTBEAT_TTL_S for one that has just died. Raises ControlUnavailable.
    """
    while True:
        rows = [row for row in await dispatchers.table() if address_of(row) == through and row.alive]
        if not rows:
            return False
        if any(steady_s() - row.heartbeat_age_ms / 1000 > sent_at for row in rows):
            return True
        await asyncio.sleep(LOOK_S)
