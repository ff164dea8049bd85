"""The pool's events as server-sent events, resumable by Last-Event-ID."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent

from admin.api import problems
from admin.api.access import Reader
from admin.api.reading import TheRedis
from admin.operations import look
from admin.operations.shapes import Event
from shared.errors import ControlUnavailable

STREAMS_MAX = 50
"""Streams at once: each asks Redis twice a second."""

RETRY_MS = 2000
"""How long clients wait before they come again."""

router = APIRouter(prefix="/v1", responses=problems.documented(401, 422, 429, 503))


async def _place(request: Request) -> AsyncIterator[None]:
    """Holds one of the places for streams; raises Problem 503 when there is none."""
    state = request.app.state
    if state.streams >= STREAMS_MAX:
        raise problems.Problem(503, "too-many-streams", f"there are {STREAMS_MAX} already")
    state.streams += 1
    try:
        yield
    finally:
        state.streams -= 1


@router.get("/events/stream", tags=["events"], response_class=EventSourceResponse)
async def event_stream(
    request: Request,
    redis: TheRedis,
    _: Reader,
    __: Annotated[None, Depends(_place)],
    last_event_id: Annotated[
        str | None,
        Header(pattern=r"^\d{1,19}-\d{1,19}$", description="Id of the last event seen; without, only new ones."),
    ] = None,
) -> AsyncIterator[ServerSentEvent]:
    """Events as they come, each with its position as id; some may be missing after longer than the pool remembers.

    The stream stays open while Redis does not answer, and goes on where it was.
    """
    position, away = last_event_id, False
    with suppress(ControlUnavailable):
        position = position or await look.now(redis)
    yield ServerSentEvent(comment="events of voicepool", retry=RETRY_MS)
    while not request.app.state.stopping():
        found: list[Event] = []
        try:
            position = position or await look.now(redis)
            found, away = await look.after(redis, position), False
        except ControlUnavailable:
            if not away:
                yield ServerSentEvent(comment="Redis does not answer")
            away = True
        for event in found:
            position = event.id
            yield ServerSentEvent(id=event.id, event=event.event, data=event)
        if len(found) < look.EVENTS_PAGE:
            await asyncio.sleep(look.POLL_S)
