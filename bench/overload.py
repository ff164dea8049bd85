"""Three times as many calls as the pool has room for: what those in progress and those refused notice, and afterwards.

    spacing    of the RTP that calls in progress get, while all the others are refused
    refusal    INVITE sent -> 503 received, by the caller's clock
    full again once the burst is over, as many calls as there are slots, all at once, are all answered

Refused callers do not try again: 3x is what is offered all the time. One worker on a core of its own (`rig.py`), and a
model that speaks without a pause.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.density import Load, LoadWatch, load_json, model_options
from bench.load.packets import percentiles, spacing_ms
from bench.load.rtp import RtpLoad
from bench.load.sip import SipCaller
from bench.load.traffic import CallResult, Outcome, Plan, Traffic, plan
from bench.progress import Progress
from bench.rig import ADDRESS, PoolOptions, RigError, pool

CAPACITY = 60
"""Slots: what a core carries easily, with another one for callers and model."""

HOLD_S = (8.0, 12.0)
TIMES = 3.0
"""What is offered, of what there is room for."""

AT_ONCE_HOLD_S = 5.0

IDLE_S = 30.0
"""Longest wait for the last call of the burst to be over."""

SEED = 1


@dataclass(frozen=True, slots=True)
class Options:
    """How long, and how much room."""

    seconds: float = 60.0
    capacity: int = CAPACITY


@dataclass(frozen=True, slots=True)
class Overload:
    """The result."""

    options: Options
    results: Sequence[CallResult]
    again: Sequence[CallResult]
    """The calls after the burst."""
    rtp_spacing_ms: dict[str, float]
    load: Load

    def as_json(self) -> dict[str, Any]:
        """Returns the result as plain values."""
        refused = [each for each in self.results if each.outcome is Outcome.REFUSED]
        refusal_ms = percentiles(np.array([_refusal_ms(each) for each in refused]))
        answered_again = sum(each.outcome is Outcome.ANSWERED for each in self.again)
        return {
            "seconds": self.options.seconds,
            "capacity": self.options.capacity,
            "calls": len(self.results),
            "answered": sum(each.outcome is Outcome.ANSWERED for each in self.results),
            "refused": dict(Counter(str(each.status) for each in refused)),
            "failed": sum(each.outcome is Outcome.FAILED for each in self.results),
            "rtp_spacing_p99_ms": round(self.rtp_spacing_ms["p99"], 3),
            "rtp_spacing_max_ms": round(self.rtp_spacing_ms["max"], 3),
            "refusal_p50_ms": round(refusal_ms["p50"], 3),
            "refusal_p99_ms": round(refusal_ms["p99"], 3),
            "refusal_max_ms": round(refusal_ms["max"], 3),
            "answered_again": answered_again,
            "full_again": answered_again == self.options.capacity,
            "load": load_json(self.load),
        }


async def run(options: Options, directory: Path, progress: Progress) -> Overload:
    """Measures; raises RigError when nobody was refused, or the load side was saturated."""
    progress.say("overload: starting the pool")
    pool_options = PoolOptions(calls=options.capacity, simulator=model_options(directory))
    async with (
        pool(pool_options, directory) as started,
        SipCaller.open(ADDRESS) as caller,
        RtpLoad(directory, ADDRESS, started.cores.load) as rtp,
    ):
        to = (ADDRESS, started.dispatcher_port)
        rate = TIMES * options.capacity / (sum(HOLD_S) / 2)
        progress.say(f"{rate:.0f} calls/s for {options.seconds:.0f} s, {options.capacity} slots")
        await rtp.record(True)
        watch = LoadWatch(started, rtp)
        results = await Traffic(caller, rtp).run(plan(SEED, options.seconds, rate, [to], HOLD_S))
        load = await watch.load()
        await started.until_idle(IDLE_S)
        progress.say(f"{options.capacity} calls at once")
        again = await Traffic(caller).run([Plan(0.0, to, AT_ONCE_HOLD_S)] * options.capacity)
        packets = await rtp.finish()
    if load.saturated:
        raise RigError(f"not reported, because the load side was the bottleneck: {load.saturated}")
    if not any(each.outcome is Outcome.REFUSED for each in results):
        raise RigError("nobody was refused: the burst was too short to fill the pool")
    return Overload(options, results, again, percentiles(spacing_ms(packets.received())), load)


def _refusal_ms(result: CallResult) -> float:
    return (result.marks_ns["refused"] - result.marks_ns["invite"]) / 1e6
