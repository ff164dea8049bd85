"""`voicepool records` and `voicepool call`: call records, and one call, on the command line.

They read options and print; what they print is made in `admin/views.py` and `admin/call_view.py`.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict

import click
from redis.asyncio import Redis

from admin.control import EXIT_CODES, from_redis
from admin.terminal import make_console
from shared.clock import now_ms
from shared.ending import CallResult
from shared.messages import CallRecord

COUNT = 20
"""Records and events shown when nobody says how many."""


class Since(click.ParamType[int]):
    """An age or a time, as Unix ms."""

    name = "AGE|TIME"

    def convert(self, value: str | int, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Returns Unix ms, or fails with what it has to look like."""
        from admin.operations.records import moment

        try:
            return value if isinstance(value, int) else moment(value, now_ms())
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command(epilog=EXIT_CODES)
@click.option("--count", type=click.IntRange(1, 10_000), help=f"Newest so many; {COUNT}, or all with --since.")
@click.option("--since", type=Since(), help="Calls that ended since: 90s, 30m, 2h, 7d ago, or an ISO 8601 time.")
@click.option("--result", type=click.Choice([each.value for each in CallResult]), help="Calls that turned out so.")
@click.option("--agent", help="Calls that this agent answered.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@click.option("--jsonl", "as_lines", is_flag=True, help="Print a JSON object on a line of its own for each call.")
@click.option("--follow", is_flag=True, help="Go on with new ones as they come, until Ctrl-C.")
def records(
    count: int | None,
    since: int | None,
    result: str | None,
    agent: str | None,
    as_json: bool,
    as_lines: bool,
    follow: bool,
) -> None:
    """Show the newest call records of the pool behind REDIS_URL."""
    from admin.operations import records as stored

    if as_json and (as_lines or follow):
        raise click.UsageError("--json is one array; with --follow, take --jsonl")
    wanted = stored.Wanted(count or (None if since is not None else COUNT), since or 0, result, agent)

    async def show(redis: Redis) -> None:
        found, position = await stored.newest(redis, wanted)
        if as_json:
            click.echo(json.dumps([asdict(record) for record in found], indent=2))
        elif found or follow:
            _print(found, as_lines)
        elif not as_lines:
            make_console().print("There are no call records.")
        if follow:
            async for record in stored.follow(redis, wanted, position):
                _print([record], as_lines, headings=False)

    with suppress(KeyboardInterrupt):
        from_redis(show)


@click.command(epilog=EXIT_CODES)
@click.argument("call_id")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def call(call_id: str, as_json: bool) -> None:
    """Show one call of the pool behind REDIS_URL.

    While it runs: its worker, agent and resource. Once it has ended, its record: who, when, what was said and done, and
    what it cost. CALL_ID is the call's id, or how it begins.
    """
    from admin import call_view, views
    from admin.operations import look

    found = from_redis(lambda redis: look.call(redis, call_id))
    if isinstance(found, CallRecord):
        values, view = {"state": "ended", **asdict(found)}, call_view.call_view(found)
    else:
        values, view = found.model_dump(mode="json"), views.running_call_view(found, now_ms())
    if as_json:
        click.echo(json.dumps(values, indent=2))
    else:
        make_console().print(view)


def _print(found: Sequence[CallRecord], as_lines: bool, *, headings: bool = True) -> None:
    from admin import views

    if not as_lines:
        make_console().print(views.record_view(found, headings=headings))
        return
    for record in found:
        click.echo(json.dumps(asdict(record)))
