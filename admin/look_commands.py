"""`voicepool ps`, `calls`, `quota`, `events` and `top`: the pool as it is, on the command line.

They read options and print; what they print is made in `admin/views.py` and `admin/top.py`.
"""

import json
from collections.abc import Sequence
from contextlib import suppress

import click
from redis.asyncio import Redis

from admin.control import EXIT_CODES, from_redis
from admin.records_commands import COUNT, Since
from admin.terminal import make_console
from shared.clock import now_ms

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command(epilog=EXIT_CODES)
@_json_option
def ps(as_json: bool) -> None:
    """Show the workers and dispatchers of the pool behind REDIS_URL.

    lag is the 99th percentile of how late the event loop was, late the ticks of the audio clock that were, both since
    the last heartbeat. A worker that is late gets no new call until it is not.
    """
    from admin import views
    from admin.operations import look

    pool = from_redis(look.pool)
    if as_json:
        click.echo(pool.model_dump_json(indent=2))
        return
    console = make_console()
    console.print(views.worker_view(pool.workers) if pool.workers else "No workers are registered.")
    console.print()
    console.print(views.dispatcher_view(pool.dispatchers) if pool.dispatchers else "No dispatchers are registered.")


@click.command(epilog=EXIT_CODES)
@_json_option
def calls(as_json: bool) -> None:
    """Show the running calls, those that began first at the top."""
    from admin import views
    from admin.operations import look

    running = from_redis(look.calls)
    if as_json:
        _print_json([call.model_dump(mode="json") for call in running])
    else:
        make_console().print(views.running_view(running, now_ms()) if running else "There are no calls.")


@click.command(epilog=EXIT_CODES)
@_json_option
def quota(as_json: bool) -> None:
    """Show what is left of each Voice Live resource, and how many callers wait for it."""
    from admin import views
    from admin.operations import look

    resources = from_redis(look.quotas)
    if as_json:
        _print_json([resource.model_dump(mode="json") for resource in resources])
    else:
        make_console().print(views.quota_view(resources) if resources else "No dispatcher has named a resource.")


@click.command(epilog=EXIT_CODES)
@click.option("--count", type=click.IntRange(1, 20_000), help=f"Newest so many; {COUNT}, or all with --since.")
@click.option("--since", type=Since(), help="Events since: 90s, 30m, 2h, 7d ago, or an ISO 8601 time.")
@click.option("--follow", is_flag=True, help="Go on with new ones as they come, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array; with --follow, one object a line.")
def events(count: int | None, since: int | None, follow: bool, as_json: bool) -> None:
    """Show what happened in the pool."""
    from admin import views
    from admin.operations import look

    async def show(redis: Redis) -> None:
        found = await look.events(redis, count or (None if since is not None else COUNT), since_ms=since)
        console = make_console()
        if as_json and not follow:
            _print_json([event.model_dump(mode="json") for event in found])
        elif as_json:
            for event in found:
                click.echo(event.model_dump_json())
        elif found:
            console.print(views.event_view(found))
        elif not follow:
            console.print("There are no events.")
        if follow:
            position = found[-1].id if found else await look.now(redis)
            async for event in look.follow(redis, position):
                if as_json:
                    click.echo(event.model_dump_json())
                else:
                    console.print(views.event_view([event]))

    with suppress(KeyboardInterrupt):
        from_redis(show)


@click.command(epilog=EXIT_CODES)
@click.option(
    "--interval",
    type=click.FloatRange(0.2, 60),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="How often it is brought up to date.",
)
@click.option("--once", is_flag=True, help="Print it once, whole, and end; needs no terminal.")
def top(interval: float, once: bool) -> None:
    """Watch the pool: totals, workers in trouble first, newest calls, quotas, last events. Ends with q or Ctrl-C."""
    from admin import top as screen

    console = make_console()
    if once:
        console.print(screen.screen(from_redis(screen.see)))
    elif not console.is_terminal:
        raise click.UsageError("this is no terminal; take --once")
    else:
        with suppress(KeyboardInterrupt):
            from_redis(lambda redis: screen.watch(redis, console, interval))


def _print_json(values: Sequence[object]) -> None:
    click.echo(json.dumps(values, indent=2))
