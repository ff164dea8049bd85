"""One call for people: who, when, what was said and done, how long the caller waited, and what it cost.

It reads nothing and leaves nothing out of what the record has kept.
"""

from collections.abc import Iterator
from datetime import datetime
from statistics import median

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from admin.terminal import make_table
from shared.messages import CallRecord, KeptToolCall, KeptTurn, KeptUtterance

_SAME_MS = 20
"""An answer began with the first packet of a turn when they are no further apart: one packet."""

_MARKS = {
    "stuck": "no answer came: connection to Voice Live dropped",
    "connection_lost": "connection to Voice Live lost",
    "session_resumed": "session renewed",
    "gave_up": "given up: apology",
    "transfer_failed": "transfer failed",
}
"""Marks that are part of the story, and what they are called in it."""


def call_view(record: CallRecord) -> RenderableType:
    """Returns the whole call for a terminal."""
    parts: list[RenderableType] = [_header(record), Text(), _conversation(record)]
    parts += [Text(), _figures(record)]
    if record.note:
        parts.append(Text(f"This record was {printable(record.note)}.", style="yellow"))
    return Group(*parts)


def local_time(at_ms: int) -> str:
    """Returns Unix ms as this host's local time."""
    return f"{datetime.fromtimestamp(at_ms / 1000).astimezone():%Y-%m-%d %H:%M:%S}"


def cost_text(record: CallRecord) -> str:
    """Returns what the call cost, empty when that is not known."""
    return "" if record.cost is None else f"{record.cost:.4f} {printable(record.currency)}".strip()


def printable(text: str) -> str:
    """Returns the text on one line and without anything that a terminal would act on: callers wrote some of it."""
    return "".join(sign if sign.isprintable() else " " for sign in text)


def _header(record: CallRecord) -> Table:
    table = Table.grid(padding=(0, 2))
    answered = record.answered_at_ms
    when = local_time(record.invite_at_ms)
    if answered is None:
        when += ", not answered"
    else:
        talked_s = (record.ended_at_ms - answered) / 1000
        when += f", answered after {answered - record.invite_at_ms:,} ms, talked {talked_s:,.1f} s"
    ended = f"{record.result}, {record.reason}" + (f", transferred to {record.transfer}" if record.transfer else "")
    lines = {
        "call": record.call_id,
        "when": when,
        "from": record.caller,
        "to": record.called,
        "agent": f"{record.agent} ({record.model})" if record.model else record.agent,
        "ended": ended,
        "worker": record.worker_id,
        "sessions": ", ".join(record.sessions or [record.session_id]),
    }
    for name, value in lines.items():
        if value:
            table.add_row(Text(name, style="dim"), Text(printable(value), overflow="fold"))
    return table


def _conversation(record: CallRecord) -> RenderableType:
    rows = sorted(_rows(record), key=lambda row: row[0])
    if not rows and record.answered_at_ms is None:
        return Text("The call was not answered.", style="dim")
    if not rows:
        return Text("Nothing of the conversation was kept.", style="dim")
    table = make_table(">time", "", "", ">waited")
    for at_ms, who, what, waited in rows:
        table.add_row(_offset(at_ms), who, what, waited)
    return table


def _rows(record: CallRecord) -> Iterator[tuple[int, Text, Text, str]]:
    """Yields when, who, what, and how long the caller had waited for it."""
    for said in record.transcript:
        yield said.at_ms, Text(printable(said.role), style="bold"), _said(said), _waited(said, record.turns)
    for call in record.tools:
        yield call.at_ms, Text("tool", style="cyan"), _tool_call(call), ""
    for typed in record.dtmf:
        yield typed.at_ms, Text("typed", style="magenta"), Text(printable(typed.digits)), ""
    for at_ms, what in _events(record):
        yield at_ms, Text("pool", style="yellow"), Text(what, style="yellow"), ""


def _events(record: CallRecord) -> Iterator[tuple[int, str]]:
    """Yields the marks that are part of the story, in ms since the answer, or since the INVITE where there was none."""
    begin = record.invite_at_ms if record.answered_at_ms is None else record.answered_at_ms
    lost = False
    for name, at_ms in record.marks:
        if name in _MARKS:
            replaced = name == "session_resumed" and lost
            yield at_ms - begin, "connection to Voice Live replaced" if replaced else _MARKS[name]
            lost = name == "connection_lost" or (lost and name != "session_resumed")


def _said(said: KeptUtterance) -> Text:
    text = Text(printable(said.text) or "(no text)", style="" if said.text else "dim")
    if said.heard_ms is not None:
        text.append(f"  cut off, heard {said.heard_ms / 1000:.1f} of {said.audio_ms / 1000:.1f} s", style="yellow")
    return text


def _waited(said: KeptUtterance, turns: list[KeptTurn]) -> str:
    if said.role != "agent":
        return ""
    for turn in turns:
        if turn.latency_ms is not None and abs(turn.at_ms + turn.latency_ms - said.at_ms) <= _SAME_MS:
            return f"{turn.latency_ms:,} ms"
    return ""


def _tool_call(call: KeptToolCall) -> Text:
    text = Text(printable(f"{call.name} {call.arguments}".strip()))
    if call.output:
        text.append(f" -> {printable(call.output)}")
    text.append("  not finished" if call.took_ms is None else f"  {call.took_ms:,} ms", style="dim")
    if call.failed:
        text.append("  failed", style="red")
    return text


def _figures(record: CallRecord) -> Table:
    table = Table.grid(padding=(0, 2))
    latencies = [turn.latency_ms for turn in record.turns if turn.latency_ms is not None]
    if latencies:
        barge_ins = sum(turn.barged_in for turn in record.turns)
        waited = f"median {median(latencies):,.0f} ms, longest {max(latencies):,} ms, {len(latencies)} answers"
        table.add_row(Text("waited", style="dim"), f"{waited}, {barge_ins} barge-ins")
    services = [turn.service_ms for turn in record.turns if turn.service_ms is not None]
    if services:
        of_these = f"median {median(services):,.0f} ms, longest {max(services):,} ms"
        table.add_row(Text("of these, the service", style="dim"), of_these)
    tokens = record.usage_total
    for name, text, audio in (
        ("tokens in", tokens.input_text, tokens.input_audio),
        ("of these, cached", tokens.cached_text, tokens.cached_audio),
        ("tokens out", tokens.output_text, tokens.output_audio),
    ):
        if text or audio:
            table.add_row(Text(name, style="dim"), f"{text:,} text, {audio:,} audio")
    if record.cost is not None:
        table.add_row(Text("cost", style="dim"), Text(cost_text(record)))
    return table


def _offset(at_ms: int) -> str:
    minutes, seconds = divmod(abs(at_ms) / 1000, 60)
    return f"{'-' if at_ms < 0 else ''}{minutes:.0f}:{seconds:04.1f}"
