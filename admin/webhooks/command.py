"""`voicepool webhooks`: runs a sender, shows what it has put aside, and sends that again.

It reads options, prints, and sets the exit code.
"""

import json
import sys
from collections.abc import Collection, Sequence
from contextlib import aclosing

import click
from redis.asyncio import Redis
from rich.table import Table
from rich.text import Text

from admin.call_view import local_time, printable
from admin.control import EXIT_CODES, BadSettings, from_redis
from admin.terminal import make_console, make_table
from admin.webhooks.dead import DeadEvent, DeadEvents
from admin.webhooks.settings import WebhookSettings
from shared.errors import ConfigError
from shared.settings import load


@click.group(invoke_without_command=True)
@click.pass_context
def webhooks(context: click.Context) -> None:
    """Post the pool's events to the URL in WEBHOOK_URL, until SIGTERM or Ctrl-C.

    Several of these processes share the work. Exit code 2 means that the settings are wrong.
    """
    if context.invoked_subcommand is not None:
        return
    import uvloop

    from admin.webhooks.sender import serve
    from shared import logs

    settings = _settings()
    logs.configure(settings.log_level)
    uvloop.run(serve(settings))


@webhooks.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def dead(as_json: bool) -> None:
    """Show the events that were not taken, in the order in which they were given up."""
    found = from_redis(lambda redis: DeadEvents(redis).all())
    if as_json:
        click.echo(json.dumps([_as_json(each) for each in found], indent=2))
    else:
        make_console().print(_view(found) if found else "No event was given up.")


@webhooks.command(epilog=EXIT_CODES)
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every one of them.")
def redeliver(ids: Sequence[str], everything: bool) -> None:
    """Post events again that were not taken. Those that are taken now are no longer kept.

    ID is that of the event, as `voicepool webhooks dead` shows it.
    """
    if bool(ids) == everything:
        raise click.UsageError("name events, or say --all")
    settings = _settings()
    all_taken = from_redis(lambda redis: _redeliver(settings, redis, None if everything else ids))
    sys.exit(0 if all_taken else 1)


async def _redeliver(settings: WebhookSettings, redis: Redis, ids: Collection[str] | None) -> bool:
    """Says of each event what came of it, and returns whether all were taken."""
    from admin.webhooks.redeliver import redeliver as sent_again  # aiohttp takes a while to import

    all_taken = True
    async with aclosing(sent_again(settings, DeadEvents(redis), ids)) as outcomes:
        async for each, refusal in outcomes:
            click.echo(f"{each.event.position} {refusal.error if refusal else 'taken'}", err=refusal is not None)
            all_taken = all_taken and refusal is None
    return all_taken


def _settings() -> WebhookSettings:
    try:
        return load(WebhookSettings)
    except ConfigError as error:
        raise BadSettings(str(error)) from error


def _as_json(dead: DeadEvent) -> dict[str, str | int]:
    return {**dead.event.flat(), "error": dead.error, "attempts": dead.attempts}


def _view(found: Sequence[DeadEvent]) -> Table:
    table = make_table("id", "happened", "event", "about", ">attempts", "error")
    for each in found:
        event = each.event
        about = " ".join(f"{name}={value}" for name, value in event.about.items())
        cells = (event.position, local_time(event.at_ms), event.name, about)
        table.add_row(*(Text(printable(cell)) for cell in cells), str(each.attempts), each.error)
    return table
