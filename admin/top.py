"""`voicepool top`: the pool in one screen, brought up to date until q or Ctrl-C.

It changes nothing. When Redis stops answering it goes on showing what it knew last, and says so.
"""

import asyncio
import os
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

from redis.asyncio import Redis
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from admin import views
from admin.call_view import local_time
from admin.operations import look
from admin.operations.shapes import Dispatcher, Event, Quota, RunningCall, Totals, Worker
from shared.clock import now_ms
from shared.errors import ControlUnavailable

EVENTS, QUOTAS = 6, 5
"""Rows that these have at most."""

FRAME = 10
"""Lines of a screen that are no rows: totals, headings and what stands between."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Seen:
    """The pool at about one moment."""

    at_ms: int
    workers: Sequence[Worker]
    dispatchers: Sequence[Dispatcher]
    calls: Sequence[RunningCall]
    quotas: Sequence[Quota]
    events: Sequence[Event]


async def see(redis: Redis) -> Seen:
    """Returns the pool as it is; raises ControlUnavailable."""
    return Seen(
        at_ms=now_ms(),
        workers=await look.workers(redis),
        dispatchers=await look.dispatchers(redis),
        calls=await look.calls(redis),
        quotas=await look.quotas(redis),
        events=await look.events(redis, EVENTS),
    )


async def watch(redis: Redis, console: Console, interval_s: float) -> None:
    """Shows the pool until q is pressed; raises ControlUnavailable when Redis does not answer at the beginning."""
    seen, trouble, done = await see(redis), "", asyncio.Event()
    with _pressed("q", done.set), Live(console=console, screen=True, auto_refresh=False) as live:
        while not done.is_set():
            live.update(screen(seen, console.height, trouble), refresh=True)
            with suppress(TimeoutError):
                async with asyncio.timeout(interval_s):
                    await done.wait()
            try:
                seen, trouble = await see(redis), ""
            except ControlUnavailable as error:
                trouble = f"Redis does not answer ({error})"


def screen(seen: Seen, height: int | None = None, trouble: str = "") -> RenderableType:
    """Returns all of it, or as much as `height` lines hold: workers in trouble, newest calls and last events first."""
    workers = sorted(seen.workers, key=lambda worker: (_fine(worker), -worker.leased, worker.worker_id))
    calls = sorted(seen.calls, key=lambda call: -call.invite_at_ms)
    quotas, events = list(seen.quotas), list(seen.events)
    rest_workers = rest_calls = 0
    if height is not None:
        quotas, events = quotas[:QUOTAS], events[-max(2, height // 6) :]
        room = max(2, height - FRAME - len(quotas) - len(events))
        workers, rest_workers = _first(workers, max(room // 2, room - len(calls)))
        calls, rest_calls = _first(calls, max(1, room - len(workers) - bool(rest_workers)))
    heading = Text(f"voicepool  {local_time(seen.at_ms)}", style="dim")
    if trouble:
        heading.append(f"   {trouble}", style="bold red not dim")
    parts: list[RenderableType] = [heading, views.totals_line(Totals.of(seen.workers, seen.dispatchers, seen.quotas))]
    parts += [Text(), *_part(views.worker_view(workers), rest_workers)]
    if calls:
        parts += [Text(), *_part(views.running_view(calls, seen.at_ms), rest_calls)]
    if quotas:
        parts += [Text(), *_part(views.quota_view(quotas), len(seen.quotas) - len(quotas))]
    if events:
        parts += [Text(), views.event_view(events)]
    return Group(*parts)


def _fine(worker: Worker) -> bool:
    return worker.alive and not worker.late and not worker.cut_off


def _first(rows: list[T], room: int) -> tuple[list[T], int]:
    """Returns as many rows as there is room for, and how many are left out; a line says that, too."""
    if len(rows) <= room:
        return rows, 0
    shown = max(1, room - 1)
    return rows[:shown], len(rows) - shown


def _part(table: Table, left_out: int) -> list[RenderableType]:
    return [table, Text(f"and {left_out} more", style="dim")] if left_out else [table]


@contextmanager
def _pressed(key: str, then: Callable[[], None]) -> Iterator[None]:
    """Calls `then` when `key` is pressed inside; does nothing where stdin is no terminal."""
    if not sys.stdin.isatty():
        yield
        return
    loop, terminal = asyncio.get_running_loop(), sys.stdin.fileno()
    before = termios.tcgetattr(terminal)

    def read() -> None:
        if key.encode() in os.read(terminal, 64).lower():
            then()

    tty.setcbreak(terminal)
    loop.add_reader(terminal, read)
    try:
        yield
    finally:
        loop.remove_reader(terminal)
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
