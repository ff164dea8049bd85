"""`voicepool records` and `voicepool call`: call records on the command line.

They read options and print; what they print is made in `admin/views.py` and `admin/call_view.py`.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict

import click

from admin.control import from_redis, redis_url
from admin.terminal import make_console
from shared.clock import now_ms
from shared.ending import CallResult
from shared.messages import CallRecord

COUNT = 20
"""Records shown when nobody says how many."""


@click.command()
@click.option("--count", type=click.IntRange(1, 10_000), help=f"Newest so many; {COUNT}, or all with --since.")
@click.option("--since", metavar="AGE|TIME", help="Calls that ended since: 90s, 30m, 2h, 7d ago, or an ISO 8601 time.")
@click.option("--result", type=click.Choice([each.value for each in CallResult]), help="Calls that turned out so.")
@click.option("--agent", help="Calls that this agent answered.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
@click.option("--jsonl", "as_lines", is_flag=True, help="Print a JSON object on a line of its own for each call.")
@click.option("--follow", is_flag=True, help="Go on with new ones as they come, until Ctrl-C.")
def records(
    count: int | None,
    since: str | None,
    result: str | None,
    agent: str | None,
    as_json: bool,
    as_lines: bool,
    follow: bool,
) -> None:
    """Show the newest call records of the pool behind REDIS_URL."""
    from admin import records as stored

    if as_json and (as_lines or follow):
        raise click.UsageError("--json is one array; with --follow, take --jsonl")
    try:
        since_ms = stored.moment(since, now_ms()) if since else 0
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--since") from error
    wanted = stored.Wanted(count or (None if since else COUNT), since_ms, result, agent)

    async def print_new(position: str) -> None:
        async for record in stored.follow(redis_url(), wanted, position):
            _print([record], as_lines, headings=False)

    found, position = from_redis(stored.newest(redis_url(), wanted))
    if as_json:
        click.echo(json.dumps([asdict(record) for record in found], indent=2))
    elif found or follow:
        _print(found, as_lines)
    elif not as_lines:
        make_console().print("There are no call records.")
    if follow:
        with suppress(KeyboardInterrupt):
            from_redis(print_new(position))


@click.command()
@click.argument("call_id")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def call(call_id: str, as_json: bool) -> None:
    """Show one call of the pool behind REDIS_URL: who, when, what was said and done, and what it cost.

    CALL_ID is the id of a call record, or how it begins.
    """
    from admin import call_view
    from admin import records as stored

    found = from_redis(stored.find(redis_url(), call_id))
    ids = list(dict.fromkeys(record.call_id for record in found))
    if not ids:
        raise click.ClickException(f"there is no record of a call {call_id}")
    if len(ids) > 1:
        more = ", ..." if len(ids) > 10 else ""
        raise click.ClickException(f"{len(ids)} calls begin so: {', '.join(ids[:10])}{more}")
    if as_json:
        click.echo(json.dumps(asdict(found[0]), indent=2))
    else:
        make_console().print(call_view.call_view(found[0]))


def _print(found: Sequence[CallRecord], as_lines: bool, *, headings: bool = True) -> None:
    from admin import views

    if not as_lines:
        make_console().print(views.record_view(found, headings=headings))
        return
    for record in found:
        click.echo(json.dumps(asdict(record)))
