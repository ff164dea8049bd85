"""Sends dead letters again, once each, because somebody has asked for it.

What is not taken stays where it is.
"""

import asyncio
from collections.abc import AsyncGenerator, Collection

from admin.operations.finding import NotFound
from admin.webhooks.dead import DeadEvent, DeadEvents
from admin.webhooks.receiver import REQUESTS_MAX, Refusal, receiver
from admin.webhooks.settings import WebhookSettings


async def redeliver(
    settings: WebhookSettings, store: DeadEvents, ids: Collection[str] | None
) -> AsyncGenerator[tuple[DeadEvent, Refusal | None]]:
    """Yields each of the events with these ids, or of all, with the refusal of those that were not taken again.

    Raises NotFound, before any is sent, for an id that is not among the dead, and ControlUnavailable.
    """
    dead = await store.all()
    if ids is not None:
        if unknown := set(ids) - {each.event.position for each in dead}:
            raise NotFound(f"not among the dead events: {', '.join(sorted(unknown))}")
        dead = [each for each in dead if each.event.position in ids]
    async with receiver(settings) as to:
        for first in range(0, len(dead), REQUESTS_MAX):
            some = dead[first : first + REQUESTS_MAX]
            refusals = await asyncio.gather(*(to.offer(each.event, each.attempts + 1) for each in some))
            outcomes = list(zip(some, refusals, strict=True))
            await store.remove(each for each, refusal in outcomes if refusal is None)
            for outcome in outcomes:
                yield outcome
