"""All benchmarks in one go, for `make bench`: what is run with which options, and in which order.

Everything that is compared is measured in the same pass, so that a ratio holds although machines differ from hour to
hour; figures are medians over the passes.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from bench import (
    audio,
    bargein,
    churn,
    density,
    dispatch,
    latency,
    machine,
    reconnect,
    report,
    rollover,
)
from bench.medians import median_of
from bench.progress import Progress
from bench.rig import RigError, subdirectory

POINTS = (
    density.Options(uplink_ms=20, telemetry=True),
    density.Options(uplink_ms=40),
    density.Options(uplink_ms=100),
    density.Options(audio_format="pcm16", uplink_ms=20),
    density.Options(audio_format="pcm16", uplink_ms=40),
    density.Options(audio_format="pcm16", uplink_ms=100),
    density.Options(uplink_ms=20, tls=True),
    density.Options(uplink_ms=20, srtp=True),
    density.Options(uplink_ms=20, turns=True, telemetry=True),
)
"""Density: 100 calls each; the first carries the baselines of its pass, and those with telemetry are measured twice."""

SEARCHES = (density.Options(calls=100, uplink_ms=20), density.Options(calls=100, uplink_ms=100))

LATENCY_CALLS = (1, 80)
"""One, and 80 % of a worker with 100 slots."""

ATTEMPTS = 3
"""A measurement that could not be made, because the machine paused for instance, is tried again."""


async def run(runs: int, directory: Path, into: Path, progress: Progress) -> dict[str, Any]:
    """Runs all, writes results.json, RESULTS.md and the pictures `into` a directory, and returns the results."""
    described = machine.describe()
    passes = []
    for number in range(runs):
        progress.say(f"pass {number + 1} of {runs}")
        passes.append(await _pass(subdirectory(directory, f"pass{number}"), progress))
    results: dict[str, Any] = {"machine": described, "runs": runs, **median_of(passes)}
    results["search"] = [await _search(options, directory, progress) for options in SEARCHES]
    results |= await _conversation(directory, progress)
    heard = await _audio(directory, progress)
    results["audio"] = heard.as_json()
    results["churn"] = (await churn.run(churn.Options(), subdirectory(directory, "churn"), progress)).as_json()
    await asyncio.to_thread(_save, results, heard, into)
    return results


async def conversation(directory: Path, into: Path, progress: Progress) -> dict[str, Any]:
    """Runs what is about conversations only, puts it into the results there are, and returns all of them."""
    results: dict[str, Any] = json.loads(await asyncio.to_thread((into / "results.json").read_text, "utf-8"))
    results |= await _conversation(directory, progress)
    await asyncio.to_thread(_write, results, into)
    return results


async def _pass(directory: Path, progress: Progress) -> dict[str, Any]:
    """One pass over everything that is measured several times."""
    first, *others = POINTS
    measured = [await _density(first, directory, progress)]
    baselines = measured[0]["baselines"]
    for options in others:
        point = await _density(replace(options, baselines=()), directory, progress)
        for name, baseline in baselines.items():
            if baseline["calls"] == point["calls"]:
                ratio = point["cpu_percent_per_call"] / baseline["cpu_percent_per_call"]
                point["baselines"][name] = {**baseline, "ratio": round(ratio, 3)}
        measured.append(point)
    latencies = [
        await _latency(latency.Options(calls=calls, seconds=24.0), directory, progress) for calls in LATENCY_CALLS
    ]
    progress.say("dispatch: searching the highest rate")
    dispatched = asdict(await dispatch.run(None, 5.0, subdirectory(directory, "dispatch")))
    del dispatched["steps"], dispatched["reason"]  # no two passes have the same
    return {
        "density": {report.point_name(point): point for point in measured},
        "latency": {str(result["calls"]): result for result in latencies},
        "dispatch": dispatched,
    }


async def _conversation(directory: Path, progress: Progress) -> dict[str, Any]:
    """What goes wrong in conversations: each has times enough in one run."""

    async def bargein_once(where: Path) -> dict[str, Any]:
        return (await bargein.run(bargein.Options(), where, progress)).as_json()

    async def reconnect_once(where: Path) -> dict[str, Any]:
        return (await reconnect.run(reconnect.Options(), where, progress)).as_json()

    async def rollover_once(where: Path) -> dict[str, Any]:
        return (await rollover.run(rollover.Options(), where, progress)).as_json()

    benchmarks = {"bargein": bargein_once, "reconnect": reconnect_once, "rollover": rollover_once}
    return {name: await _patiently(once, directory, name, progress) for name, once in benchmarks.items()}


async def _density(options: density.Options, directory: Path, progress: Progress) -> dict[str, Any]:
    name = f"density-{options.audio_format}-{options.uplink_ms}-{options.tls:d}{options.srtp:d}{options.turns:d}"

    async def once(where: Path) -> dict[str, Any]:
        return (await density.run(options, where, progress)).as_json()

    return await _patiently(once, directory, name, progress)


async def _latency(options: latency.Options, directory: Path, progress: Progress) -> dict[str, Any]:
    async def once(where: Path) -> dict[str, Any]:
        return (await latency.run(options, where, progress)).as_json()

    return await _patiently(once, directory, f"latency-{options.calls}", progress)


async def _audio(directory: Path, progress: Progress) -> audio.AudioQuality:
    for attempt in range(ATTEMPTS):
        heard = await audio.run(audio.Options(), subdirectory(directory, f"audio-{attempt}"), progress)
        if not any(path.slips for directions in heard.paths.values() for path in directions.values()):
            break
        progress.say("the jitter buffer slipped: the machine paused, or the telephone's clock did")
    return heard


async def _patiently(
    once: Callable[[Path], Awaitable[dict[str, Any]]], directory: Path, name: str, progress: Progress
) -> dict[str, Any]:
    """Returns what `once` does, trying again when the measurement could not be made."""
    for attempt in range(ATTEMPTS):
        try:
            return await once(subdirectory(directory, f"{name}-{attempt}"))
        except RigError as error:
            progress.say(f"in vain: {error}")
    raise RigError(f"{name}: the machine is too restless for a measurement")


async def _search(options: density.Options, directory: Path, progress: Progress) -> dict[str, Any]:
    where = subdirectory(directory, f"search-{options.uplink_ms}")
    found, ended_by = await density.search(options, where, progress)
    return {**found.as_json(), "search_ended_by": ended_by}


def _save(results: dict[str, Any], heard: audio.AudioQuality, into: Path) -> None:
    into.mkdir(parents=True, exist_ok=True)
    audio.draw(heard, into / "audio.png")
    _write(results, into)


def _write(results: dict[str, Any], into: Path) -> None:
    (into / "results.json").write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    report.write(results, into)
