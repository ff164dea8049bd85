"""What operators look at as tables for a terminal.

They ask nobody and have no telephone number in them. `now_ms` is Unix time in ms, for how long ago things were.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from admin.call_view import cost_text, local_time, printable
from admin.operations.shapes import Dispatcher, Event, Outcome, Quota, Result, RunningCall, Totals, Worker
from admin.terminal import make_table
from shared.messages import CallRecord
from shared.states import WorkerState

OF_SETTINGS = "(settings)"
"""How the resource is shown that has no name."""


def worker_view(workers: Iterable[Worker]) -> Table:
    """Returns the worker table."""
    table = make_table(
        "worker", "state", ">calls", ">CPU", ">lag", ">late", "cut off from", "SIP", ">heartbeat", ">pid"
    )
    for worker in workers:
        table.add_row(
            _plain(worker.worker_id),
            _worker_state(worker),
            f"{worker.leased}/{worker.capacity}",
            f"{worker.cpu_percent:.0f} %",
            f"{worker.loop_lag_p99_ms:.1f} ms",
            f"{worker.late_ticks}" if worker.late_ticks else "",
            Text(", ".join(map(_resource, worker.cut_off)), style="red"),
            f"{worker.sip_host}:{worker.sip_port}",
            f"{worker.heartbeat_age_ms / 1000:.1f} s ago",
            f"{worker.pid}",
        )
    return table


def dispatcher_view(dispatchers: Iterable[Dispatcher]) -> Table:
    """Returns the dispatcher table."""
    table = make_table("dispatcher", "state", "SIP", ">heartbeat", ">pid")
    for dispatcher in dispatchers:
        state = Text("draining", style="yellow") if dispatcher.draining else Text("ready")
        where = f"{dispatcher.sip_host}:{dispatcher.sip_port}"
        age = f"{dispatcher.heartbeat_age_ms / 1000:.1f} s ago"
        state = state if dispatcher.alive else Text("silent", style="red")
        table.add_row(_plain(dispatcher.dispatcher_id), state, where, age, f"{dispatcher.pid}")
    return table


def running_view(calls: Iterable[RunningCall], now_ms: int) -> Table:
    """Returns running calls."""
    table = make_table("call", "state", "agent", "worker", "resource", "peer", ">age", ">talking")
    for call in calls:
        age = _span(now_ms - call.invite_at_ms)
        talking = _span(now_ms - call.answered_at_ms) if call.answered_at_ms else ""
        resource = _resource(call.resource)
        worker, agent = _plain(call.worker_id), _plain(call.agent)
        table.add_row(call.call_id, call.state, agent, worker, resource, call.peer, age, talking)
    return table


def running_call_view(call: RunningCall, now_ms: int) -> Table:
    """Returns one running call."""
    table = Table.grid(padding=(0, 2))
    talking = f" for {_span(now_ms - call.answered_at_ms)}" if call.answered_at_ms else ""
    lines = {
        "call": call.call_id,
        "state": f"{call.state}{talking}",
        "when": f"{local_time(call.invite_at_ms)}, {_span(now_ms - call.invite_at_ms)} ago",
        "agent": call.agent,
        "worker": call.worker_id,
        "resource": _resource(call.resource),
        "peer": call.peer,
    }
    for name, value in lines.items():
        if value:
            table.add_row(Text(name, style="dim"), _plain(value))
    return table


def quota_view(quotas: Iterable[Quota]) -> Table:
    """Returns the Voice Live resources and what is left of them; what has no limit is a dash."""
    table = make_table(
        "resource", ">sessions", ">new sessions left", ">tokens left", ">share", ">blocked", ">waiting", ">longest"
    )
    for quota in quotas:
        table.add_row(
            _resource(quota.resource),
            f"{quota.sessions:,}/{_limit(quota.sessions_limit)}",
            _left(quota.connections_left, quota.connections_per_minute),
            _left(quota.tokens_left, quota.tokens_per_minute),
            Text(f"{quota.share:.0%}", style="yellow" if quota.share < 1 else ""),
            Text(f"{quota.blocked_s:.0f} s", style="red") if quota.blocked_s else "",
            f"{quota.waiting}" if quota.waiting else "",
            f"{quota.longest_wait_s:.1f} s" if quota.waiting else "",
        )
    return table


def event_view(events: Iterable[Event]) -> Table:
    """Returns events, without headings: more may follow below."""
    table = make_table("time", "event", "about")
    table.show_header = False
    table.columns[1].min_width = 18
    for event in events:
        about = "  ".join(f"{name}={_value(name, value)}" for name, value in event.about.items())
        table.add_row(Text(local_time(event.at_ms), style="dim"), _event_name(event.event), _plain(about))
    return table


def totals_line(totals: Totals) -> Text:
    """Returns the pool in one line."""
    line = Text(f"calls {totals.calls}/{totals.capacity}", style="bold")
    line.append(f"   workers {totals.workers}: {totals.ready} ready", style="not bold")
    if totals.draining:
        line.append(f", {totals.draining} draining", style="yellow")
    if totals.silent:
        line.append(f", {totals.silent} silent", style="red")
    line.append(f"   dispatchers {totals.dispatchers}", style="not bold" if totals.dispatchers else "red")
    if totals.dispatchers_draining:
        line.append(f", {totals.dispatchers_draining} draining", style="yellow")
    if totals.waiting:
        line.append(f"   callers waiting {totals.waiting}", style="yellow")
    return line


def outcome_view(outcomes: Iterable[Outcome]) -> Table:
    """Returns what came of commands."""
    table = make_table("", "", "")
    table.show_header = False
    for outcome in outcomes:
        style = "green" if outcome.result is Result.DONE else "red"
        table.add_row(Text(outcome.result, style=style), _plain(outcome.target), _plain(outcome.detail))
    return table


def record_view(records: Sequence[CallRecord], *, headings: bool = True) -> RenderableType:
    """Returns call records; without headings they go on below a table that was printed before."""
    return _Records(records, headings)


@dataclass(frozen=True, slots=True)
class _Records:
    """Call records as a table, whose columns stand below each other where the terminal is wide enough for it."""

    records: Sequence[CallRecord]
    headings: bool

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        table = _record_table(self.records)
        table.show_header = self.headings
        table.columns[1].no_wrap = True  # an id that is broken cannot be copied
        if options.max_width >= sum(_RECORD_WIDTHS) + 2 * (len(_RECORD_WIDTHS) - 1):
            for column, width in zip(table.columns, _RECORD_WIDTHS, strict=True):
                column.min_width = width
        yield table


def _record_table(records: Iterable[CallRecord]) -> Table:
    table = make_table("came", "call", "agent", "worker", "result", "reason", ">to answer", ">talked", ">cost")
    for record in records:
        answered = record.answered_at_ms
        to_answer = f"{answered - record.invite_at_ms:,} ms" if answered else ""
        talked = f"{(record.ended_at_ms - answered) / 1000:,.1f} s" if answered else ""
        table.add_row(
            local_time(record.invite_at_ms),
            record.call_id,
            _plain(record.agent),
            record.worker_id,
            record.result,
            record.reason,
            to_answer,
            talked,
            cost_text(record),
        )
    return table


_RECORD_WIDTHS = (19, 20, 10, 16, 9, 19, 9, 9, 10)
"""At least so wide, so that what is printed later stands below its heading; narrow terminals would cut columns off."""

_BAD_EVENTS = ("worker.lost", "dispatcher.lost", "call.refused", "resource.throttled")


def _worker_state(worker: Worker) -> Text:
    if not worker.alive:
        return Text("silent", style="red")
    if worker.late:
        return Text(f"{worker.state}, late", style="red")
    return Text(worker.state, style="" if worker.state is WorkerState.READY else "yellow")


def _event_name(name: str) -> Text:
    return Text(printable(name), style="red" if name in _BAD_EVENTS else "")


def _plain(text: str) -> Text:
    """Returns what others wrote, without markup and without anything that a terminal would act on."""
    return Text(printable(text), overflow="fold")


def _value(name: str, value: str) -> str:
    return _resource(value) if name == "resource" else value


def _resource(name: str) -> str:
    return printable(name) or OF_SETTINGS


def _limit(limit: int | None) -> str:
    return "-" if limit is None else f"{limit:,}"


def _left(left: float | None, per_minute: int | None) -> str:
    return "-" if left is None else f"{left:,.0f} of {_limit(per_minute)}/min"


def _span(ms: int) -> str:
    """Returns a time as minutes:seconds, or with hours; clocks of other hosts may be ahead of ours."""
    minutes, seconds = divmod(max(0, ms) // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
