"""`voicepool run`: a whole pool on this machine, one test call to prove it, and then service until Ctrl-C.

It decides the order of things; how each is done is in `pool.py`, `selftest.py` and `processes.py`.
"""

import asyncio
import fcntl
import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape

from admin import selftest, settings
from admin.pool import Pool, Provision, provide, start
from admin.ports import PortTaken
from admin.processes import Process, Processes, ProcessFailed
from admin.selftest import SelfTest
from admin.terminal import Steps, make_console, make_table
from shared.errors import ConfigError

GOOD, FAILED, BAD_SETTINGS, INTERRUPTED = 0, 1, 2, 130


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for."""

    once: bool
    """End after the test call."""
    keep_going: bool
    """Serve even when the test call was bad."""
    as_json: bool
    """Write the test call as one JSON object on stdout; what else is said goes to stderr."""
    run_dir: Path
    """Logs, recording and picture."""


class Failed(Exception):
    """The run ends here, for the reason given."""


def run(options: Options) -> int:
    """Runs a pool until it is told to stop, and returns the exit code; everything it started has ended by then."""
    console = make_console(stderr=options.as_json)
    try:
        with _alone(options.run_dir):
            return asyncio.run(_run(options, console))
    except ConfigError as error:
        console.print("These settings are bad or missing; `voicepool config sample` explains them:", style="red")
        return _give_up(options, console, BAD_SETTINGS, error.problems)
    except ProcessFailed as error:
        for line in error.log_tail:
            console.print(escape(line), style="dim", soft_wrap=True)
        return _give_up(options, console, FAILED, [str(error)])
    except (Failed, PortTaken) as error:
        return _give_up(options, console, FAILED, [str(error)])


def _give_up(options: Options, console: Console, code: int, reasons: list[str]) -> int:
    for reason in reasons:
        console.print(f"voicepool run: {escape(reason)}", style="red", soft_wrap=True)
    if options.as_json:
        click.echo(json.dumps({"ok": False, "problems": reasons}))
    return code


@contextmanager
def _alone(run_dir: Path) -> Iterator[None]:
    """Holds the directory for as long as the block runs: two pools in it would overwrite each other's logs."""
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failed(f"another `voicepool run` uses {run_dir}/; end that one first") from None
        yield


async def _run(options: Options, console: Console) -> int:
    provision = provide(settings.environment_and_file())
    report = settings.check(provision.environment)
    for warning in report.warnings:
        console.print(escape(warning), style="yellow")
    if report.problems:
        raise ConfigError(report.problems)
    async with Processes(options.run_dir) as processes:
        work = asyncio.create_task(_prove_and_serve(options, provision, processes, console))

        def on_signal() -> None:
            if work.done() or work.cancelling():
                processes.hurry.set()
            else:
                console.print("\nEnding everything; calls may go on for a moment (again: at once).")
                work.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, on_signal)
        try:
            return await work
        except asyncio.CancelledError:
            return INTERRUPTED


async def _prove_and_serve(options: Options, provision: Provision, processes: Processes, console: Console) -> int:
    steps = Steps(console)
    if provision.simulated:
        console.print("AZURE_VOICELIVE_ENDPOINT is not set: the simulator answers, and says back what it hears.\n")
    pool = await start(processes, provision, options.run_dir, steps)
    death = asyncio.create_task(processes.first_end())
    call = asyncio.create_task(_place_call(processes, pool, options.run_dir, steps))
    try:
        await asyncio.wait({death, call}, return_when=asyncio.FIRST_COMPLETED)
        if not call.done():
            raise _died(death.result())
        _show(call.result(), processes, options, console)
        if options.once or not (call.result().ok or options.keep_going):
            return GOOD if call.result().ok else FAILED
        return await _serve(pool, death, options, console)
    finally:
        for task in (death, call):
            task.cancel()
        await asyncio.gather(death, call, return_exceptions=True)


async def _place_call(processes: Processes, pool: Pool, run_dir: Path, steps: Steps) -> SelfTest:
    with steps.step("test call, with real speech") as step:
        test = await selftest.place_call(processes, pool, run_dir)
        step.result = "test call was good" if test.ok else "test call was BAD"
        return test


async def _serve(pool: Pool, death: asyncio.Task[Process], options: Options, console: Console) -> int:
    """Waits for Ctrl-C, which is how a good run ends; raises ProcessFailed when one of the processes ends before."""
    softphone = f"sip:anything@{pool.host}:{pool.port}"
    console.print(
        f"\n[bold]Serving.[/bold] Call it from any softphone on this network: [bold green]{softphone}[/bold green]"
    )
    console.print("(codec PCMU or PCMA; no registration, no password)")
    console.print(f"Calls are accepted from {pool.allowed_peers}; SIP_ALLOWED_PEERS changes that.\n", soft_wrap=True)
    console.print(f"  logs      {options.run_dir}/*.log")
    voicepool = f"REDIS_URL={settings.mask(pool.redis.url)} .venv/bin/voicepool"
    for what, command in (("workers", "ps"), ("calls", "records"), ("one call", "call ID")):
        console.print(f"  {what:9} {voicepool} {command}", soft_wrap=True, highlight=False)
    console.print("  end       Ctrl-C")
    try:
        process = await death
    except asyncio.CancelledError:
        return GOOD
    raise _died(process)


def _died(process: Process) -> ProcessFailed:
    return process.failure(f"{process.name} ended by itself with {process.status}; see {process.log}")


def _show(test: SelfTest, processes: Processes, options: Options, console: Console) -> None:
    if test.timeline:
        table = make_table(">ms", "what happened", "seen by")
        for moment in test.timeline.moments:
            style = "bold" if moment.key else "dim"
            table.add_row(f"{moment.at_ms:,.0f}", escape(moment.label), moment.source, style=style)
        console.print()
        console.print(table)
    console.print()
    for what, ms in selftest.durations(test):
        console.print(f"  {what:40} {ms:7,.0f} ms")
    if test.call.get("correlation") is not None:
        console.print(f"  {'answer compared with what was said':40} {test.call['correlation']:7.3f}")
    for what, path in (("recording", test.recording), ("picture", test.picture)):
        if path:
            console.print(f"  {what:10} {path}", soft_wrap=True)
    for process in () if test.ok else processes.running:
        for trouble in process.troubles():
            console.print(f"  {process.log}: {escape(trouble)}", style="dim", soft_wrap=True)
    for problem in test.problems:
        console.print(f"voicepool run: {escape(problem)}", style="red", soft_wrap=True)
    if options.as_json:
        click.echo(json.dumps(test.as_json()))
