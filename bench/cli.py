"""The benchmarks' command line: reads options, runs, prints.

It measures nothing itself. Tables go to standard output, progress to standard error; exit code 1 says that a
measurement could not be made, and why, or that what must always hold did not.
"""

import json
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import uvloop
from rich.console import Console

from admin.ports import PortTaken
from bench import (
    audio,
    bargein,
    churn,
    density,
    dispatch,
    failover,
    latency,
    machine,
    overload,
    reconnect,
    report,
    rollover,
    suite,
)
from bench.baselines import BASELINES
from bench.chaos import run as chaos
from bench.load.clips import ClipError
from bench.load.rtp import RtpLoadError
from bench.medians import median_of
from bench.progress import Progress
from bench.rig import RigError, subdirectory

Result = dict[str, Any]

_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_RUNS = click.option("--runs", default=1, show_default=True, type=click.IntRange(1, 99), help="Print medians of these.")
_FORMAT = click.option(
    "--format", "audio_format", default="g711", show_default=True, type=click.Choice(["g711", "pcm16"])
)
_UPLINK = click.option(
    "--uplink-ms", default=20, show_default=True, type=click.IntRange(20, 200), help="Audio per append; 20, 40 ... 200."
)
_SEED = click.option("--seed", default=1, show_default=True, help="Which chance: moments and answers.")
_CALLS = click.IntRange(1, density.MAX_CALLS)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Measure voicepool on this machine: two cores, nothing else running. `make bench` runs everything."""


@main.command("density")
@click.option("--calls", default=100, show_default=True, type=_CALLS, help="Simultaneous calls; where --search begins.")
@_FORMAT
@_UPLINK
@click.option("--tls", is_flag=True, help="wss:// to the model.")
@click.option("--srtp", is_flag=True, help="SRTP to the callers.")
@click.option("--turns", is_flag=True, help="An utterance every 4 s, and an answer to it.")
@click.option(
    "--seconds", default=10.0, show_default=True, type=click.FloatRange(1, 3600), help="Length of the window."
)
@click.option("--telemetry", is_flag=True, help="Measure once more with metrics and traces exported; print the ratio.")
@click.option("--search", is_flag=True, help="Double the calls until quality breaks; report the last good number.")
@click.option(
    "--baseline",
    "baselines",
    multiple=True,
    type=click.Choice([*BASELINES, "none"]),
    help="Compare with these instead of all; none for none.",
)
@_RUNS
@_JSON
def density_command(
    search: bool, baselines: tuple[str, ...], runs: int, as_json: bool, calls: int, **options: Any
) -> None:
    """What one call costs on one core, and how many fit."""
    chosen = tuple(name for name in baselines if name != "none") if baselines else tuple(BASELINES)
    wanted = density.Options(calls=calls, baselines=() if search else chosen, **options)

    async def once(directory: Path, progress: Progress) -> Result:
        if not search:
            return (await density.run(wanted, directory, progress)).as_json()
        found, ended_by = await density.search(replace(wanted, calls=calls), directory, progress)
        return {**found.as_json(), "search_ended_by": ended_by}

    _measure("density", once, runs, as_json)


@main.command("latency")
@click.option("--calls", default=1, show_default=True, type=_CALLS, help="Simultaneous conversations.")
@_FORMAT
@_UPLINK
@click.option(
    "--seconds", default=40.0, show_default=True, type=click.FloatRange(8, 3600), help="Length of the window."
)
@_RUNS
@_JSON
def latency_command(runs: int, as_json: bool, **options: Any) -> None:
    """What callers feel: uplink, downlink, barge-in, set-up."""

    async def once(directory: Path, progress: Progress) -> Result:
        return (await latency.run(latency.Options(**options), directory, progress)).as_json()

    _measure("latency", once, runs, as_json)


@main.command("dispatch")
@click.option("--rate", type=click.FloatRange(1, 10_000), help="Offer this rate only, instead of searching.")
@click.option("--seconds", default=5.0, show_default=True, type=click.FloatRange(1, 3600), help="Time for each rate.")
@_RUNS
@_JSON
def dispatch_command(rate: float | None, seconds: float, runs: int, as_json: bool) -> None:
    """How many new calls per second one dispatcher places, and how long an INVITE takes through it."""

    async def once(directory: Path, progress: Progress) -> Result:
        progress.say("dispatch: " + (f"{rate:.0f} calls/s" if rate else "searching the highest rate"))
        return asdict(await dispatch.run(rate, seconds, directory))

    _measure("dispatch", once, runs, as_json)


@main.command("churn")
@click.option(
    "--per-second", default=20.0, show_default=True, type=click.FloatRange(0.1, 100), help="Calls per second."
)
@click.option("--seconds", default=300.0, show_default=True, type=click.FloatRange(1, 86_400))
@_JSON
def churn_command(as_json: bool, **options: Any) -> None:
    """Whether memory or descriptors are left behind by many short calls."""

    async def once(directory: Path, progress: Progress) -> Result:
        return (await churn.run(churn.Options(**options), directory, progress)).as_json()

    _measure("churn", once, 1, as_json)


@main.command("audio")
@_JSON
def audio_command(as_json: bool) -> None:
    """What the path does to the audio: noise, distortion, delay, PESQ."""

    async def once(directory: Path, progress: Progress) -> Result:
        return (await audio.run(audio.Options(), directory, progress)).as_json()

    _measure("audio", once, 1, as_json)


@main.command("bargein")
@click.option("--count", default=200, show_default=True, type=click.IntRange(1, 5000), help="Barge-ins, at least.")
@_SEED
@_JSON
def bargein_command(as_json: bool, **options: Any) -> None:
    """Barge-ins at any moment of an answer: how exactly the model is told what was heard, and how fast it is silent."""

    async def once(directory: Path, progress: Progress) -> Result:
        return (await bargein.run(bargein.Options(**options), directory, progress)).as_json()

    _measure("bargein", once, 1, as_json)


@main.command("reconnect")
@click.option("--count", default=100, show_default=True, type=click.IntRange(1, 5000), help="Connections to cut.")
@_SEED
@_JSON
def reconnect_command(as_json: bool, **options: Any) -> None:
    """Connections to the model that break at any moment: what callers who wait for an answer hear meanwhile."""

    async def once(directory: Path, progress: Progress) -> Result:
        return (await reconnect.run(reconnect.Options(**options), directory, progress)).as_json()

    _measure("reconnect", once, 1, as_json)


@main.command("rollover")
@click.option("--count", default=60, show_default=True, type=click.IntRange(1, 5000), help="Rollovers, at least.")
@click.option(
    "--max-session",
    "max_session_s",
    default=16.0,
    show_default=True,
    type=click.FloatRange(10, 600),
    help="Seconds after which the model ends a session.",
)
@_SEED
@_JSON
def rollover_command(as_json: bool, **options: Any) -> None:
    """Sessions that reach their longest while answers play: whether callers hear each answer whole and once."""

    async def once(directory: Path, progress: Progress) -> Result:
        return (await rollover.run(rollover.Options(**options), directory, progress)).as_json()

    _measure("rollover", once, 1, as_json)


@main.command("chaos")
@click.option(
    "--seconds", default=600.0, show_default=True, type=click.FloatRange(10, 86_400), help="How long calls come."
)
@_SEED
@_JSON
def chaos_command(as_json: bool, **options: Any) -> None:
    """Random calls and random faults on a whole pool; exit code 1 when an invariant does not hold."""

    async def once(directory: Path, progress: Progress) -> Result:
        return (await chaos.run(chaos.Options(**options), directory, progress)).as_json()

    _judge("chaos", once, as_json, lambda result: not result["broken"])


@main.command("failover")
@click.option(
    "--seconds", default=180.0, show_default=True, type=click.FloatRange(20, 86_400), help="For each of two ways."
)
@click.option("--rate", default=20.0, show_default=True, type=click.FloatRange(0.1, 100), help="Calls per second.")
@_SEED
@_JSON
def failover_command(as_json: bool, **options: Any) -> None:
    """Dispatchers that are killed under calls: by proxy set and behind one port; exit code 1 when a call fails."""

    async def once(directory: Path, progress: Progress) -> Result:
        return (await failover.run(failover.Options(**options), directory, progress)).as_json()

    _judge("failover", once, as_json, lambda result: not result["failed_calls"])


@main.command("overload")
@click.option("--seconds", default=60.0, show_default=True, type=click.FloatRange(5, 3600), help="Length of the burst.")
@click.option(
    "--capacity", default=overload.CAPACITY, show_default=True, type=click.IntRange(1, 500), help="Slots of the pool."
)
@_JSON
def overload_command(as_json: bool, **options: Any) -> None:
    """Three times the calls there is room for: RTP of those in progress, how fast the others are refused."""

    async def once(directory: Path, progress: Progress) -> Result:
        return (await overload.run(overload.Options(**options), directory, progress)).as_json()

    _measure("overload", once, 1, as_json)


@main.command("all")
@click.option("--runs", default=3, show_default=True, type=click.IntRange(1, 99), help="Medians of these.")
@click.option("--into", default="bench", show_default=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--only-conversation", is_flag=True, help="Only bargein, reconnect and rollover; the rest stays.")
def all_command(runs: int, into: Path, only_conversation: bool) -> None:
    """Everything, in about 45 minutes: results.json, RESULTS.md and pictures into a directory."""

    async def everything(directory: Path, progress: Progress) -> Result:
        if only_conversation:
            return await suite.conversation(directory, into, progress)
        return await suite.run(runs, directory, into, progress)

    _print("all", _run(everything), as_json=False)


@main.command("report")
@click.option("--into", default="bench", show_default=True, type=click.Path(file_okay=False, path_type=Path))
def report_command(into: Path) -> None:
    """Write RESULTS.md and the pictures again from results.json."""
    report.write(json.loads((into / "results.json").read_text("utf-8")), into)


def _measure(name: str, once: Callable[[Path, Progress], Awaitable[Result]], runs: int, as_json: bool) -> Result:
    async def all_runs(directory: Path, progress: Progress) -> Result:
        results = []
        for number in range(runs):
            if runs > 1:
                progress.say(f"run {number + 1} of {runs}")
            results.append(await once(subdirectory(directory, f"run{number}"), progress))
        return {**median_of(results), "runs": runs, "machine": machine.describe()}

    result = _run(all_runs)
    _print(name, result, as_json)
    return result


def _judge(
    name: str,
    once: Callable[[Path, Progress], Awaitable[Result]],
    as_json: bool,
    holds: Callable[[Result], bool],
) -> None:
    """Measures and prints; exit code 1 says that what is to hold does not."""
    result = _measure(name, once, 1, as_json)
    if not holds(result):
        sys.exit(1)


def _run(work: Callable[[Path, Progress], Awaitable[Result]]) -> Result:
    """Runs in a directory that is gone afterwards; what cannot be measured ends the program with the reason."""

    async def bounded(directory: Path) -> Result:
        return await work(directory, Progress())

    with tempfile.TemporaryDirectory(prefix="voicepool-bench-") as directory:
        try:
            result: Result = uvloop.run(bounded(Path(directory)))
            return result
        except (RigError, RtpLoadError, ClipError, PortTaken) as error:
            raise click.ClickException(str(error)) from error


def _print(name: str, result: Result, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(result, indent=2))
        return
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    for table in report.tables(name, result):
        console.print(table.as_rich())
        console.print()
    console.print(machine.in_one_line(result["machine"]), style="dim", soft_wrap=True)
