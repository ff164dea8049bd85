"""`voicepool drain`, `undrain`, `hangup`, `transfer` and `say`: what an operator has the pool do.

They read options, ask back and print; who is meant and what came of it is found out in `admin/operations/`.
"""

import json
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import click
from redis.asyncio import Redis

from admin.control import EXIT_CODES, NoAnswer, from_redis
from admin.operations.shapes import Outcome, Result
from admin.operations.targets import Selection
from admin.terminal import make_console
from shared.messages import CommandName

Choosing = Callable[[Redis], Coroutine[Any, Any, Selection]]


class NotConfirmed(click.ClickException):
    """More than one thing was meant, and nobody said that this is wanted."""

    exit_code = 2


_json_option = click.option("--json", "as_json", is_flag=True, help="Print a JSON array of what came of it.")
_yes_option = click.option("--yes", is_flag=True, help="Do not ask back when more than one is meant.")


@click.command(epilog=EXIT_CODES)
@click.argument("targets", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every worker and dispatcher that is alive.")
@_yes_option
@_json_option
def drain(targets: tuple[str, ...], everything: bool, yes: bool, as_json: bool) -> None:
    """Let workers or dispatchers take no new calls until they are undrained; running ones go on.

    TARGETS are ids of workers and dispatchers, or how they begin, or names of pods: all their workers. A worker ends
    calls that it still has after WORKER_DRAIN_S.
    """
    _processes(CommandName.DRAIN, targets, everything, yes, as_json)


@click.command(epilog=EXIT_CODES)
@click.argument("targets", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every worker and dispatcher that is alive.")
@_yes_option
@_json_option
def undrain(targets: tuple[str, ...], everything: bool, yes: bool, as_json: bool) -> None:
    """Let workers or dispatchers take new calls again. TARGETS are as for drain.

    One that has got SIGTERM has to go and cannot be had back.
    """
    _processes(CommandName.UNDRAIN, targets, everything, yes, as_json)


@click.command(epilog=EXIT_CODES)
@click.argument("call_ids", nargs=-1)
@click.option("--worker", metavar="WORKER", help="All calls of one worker: its id, or how it begins.")
@click.option("--all", "everything", is_flag=True, help="All calls of the pool.")
@_yes_option
@_json_option
def hangup(call_ids: tuple[str, ...], worker: str | None, everything: bool, yes: bool, as_json: bool) -> None:
    """Hang up running calls. CALL_IDS are ids of calls, or how they begin."""
    from admin.operations import targets

    if sum((bool(call_ids), worker is not None, everything)) != 1:
        raise click.UsageError("name one of CALL_IDS, --worker and --all")
    _carry_out(
        CommandName.HANGUP,
        lambda redis: targets.calls(redis, call_ids, worker=worker, everything=everything),
        yes=yes,
        as_json=as_json,
    )


@click.command(epilog=EXIT_CODES)
@click.argument("call_id")
@click.argument("target")
@_json_option
def transfer(call_id: str, target: str, as_json: bool) -> None:
    """Transfer a running call to TARGET: the name of one of its agent's transfers, or a sip:, sips: or tel: URI."""
    _one_call(CommandName.TRANSFER, call_id, target, as_json)


@click.command(epilog=EXIT_CODES)
@click.argument("call_id")
@click.argument("text")
@_json_option
def say(call_id: str, text: str, as_json: bool) -> None:
    """Have the agent of a running call say TEXT, word for word, as soon as nobody speaks.

    It does not wait for that: what the caller heard is in the call's record.
    """
    _one_call(CommandName.SAY, call_id, text, as_json)


def _processes(name: CommandName, wanted: Sequence[str], everything: bool, yes: bool, as_json: bool) -> None:
    from admin.operations import targets

    if bool(wanted) == everything:
        raise click.UsageError("name either TARGETS or --all")
    _carry_out(name, lambda redis: targets.processes(redis, wanted, everything=everything), yes=yes, as_json=as_json)


def _one_call(name: CommandName, call_id: str, argument: str, as_json: bool) -> None:
    from admin.operations import targets

    _carry_out(name, lambda redis: targets.calls(redis, [call_id]), argument, as_json=as_json)


def _carry_out(
    name: CommandName, choose: Choosing, argument: str = "", *, yes: bool = False, as_json: bool = False
) -> None:
    """Chooses, asks back where more than one thing may be meant, has it done, prints and exits."""
    from admin import views
    from admin.operations import act

    selection = from_redis(choose)
    if selection.bulk and not yes and selection.targets:
        _confirm(name, selection)
    outcomes = from_redis(lambda redis: act.run(redis, name, selection, argument))
    if as_json:
        click.echo(json.dumps([outcome.model_dump(mode="json") for outcome in outcomes], indent=2))
    elif not outcomes:
        make_console().print("There is nothing to do.")
    else:
        done = [outcome for outcome in outcomes if outcome.result is Result.DONE]
        if done:
            make_console().print(views.outcome_view(done))
    _exit(outcomes)


def _confirm(name: CommandName, selection: Selection) -> None:
    names = [target.name for target in selection.targets]
    meant = f"{name} is for {len(names)}: {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}"
    if not sys.stdin.isatty():
        raise NotConfirmed(f"{meant}; confirm it with --yes")
    click.confirm(f"{meant}. Do it?", abort=True, err=True)


def _exit(outcomes: Sequence[Outcome]) -> None:
    """Ends the command with what went wrong, if anything did."""
    wrong = [outcome for outcome in outcomes if outcome.result is not Result.DONE]
    if not wrong:
        return
    reasons = "\n".join(outcome.reason for outcome in wrong)
    if any(outcome.result is Result.UNKNOWN for outcome in wrong):
        raise NoAnswer(reasons)
    raise click.ClickException(reasons)
