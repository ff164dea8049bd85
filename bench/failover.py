"""Dispatchers that are killed, one every ten seconds, under calls that must not notice: `python -m bench failover`.

    proxy set      callers know all dispatchers, and go to the next one as RFC 3263 section 4.3 says
    shared port    callers know one address; which dispatcher gets a datagram, the kernel decides (SIP_SHARE_PORT)

Callers send again as RFC 3261 says, and take nothing else upon themselves. A call has failed unless it went as its
caller wanted: answered and hung up, or cancelled. Each dispatcher is started again after some seconds, as
Kubernetes would.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.chaos import logs
from bench.figures import summary
from bench.fleet import Fleet, Layout, fleet
from bench.load.proxy_set import ProxySet
from bench.load.sip import SipCaller
from bench.load.traffic import CallResult, Outcome, Traffic, plan
from bench.progress import Progress
from bench.rig import ADDRESS, subdirectory
from shared.ids import CallId

HOLD_S = (0.5, 3.0)

CANCELLED = 0.05
"""Share of the calls that are given up in the first second."""

KILL_EVERY_S = 10.0
DOWN_S = (1.0, 4.0)

CALLERS = 12
"""Sockets that calls come from: by its address and port the kernel chooses who gets a datagram at a shared port."""

SETTLE_S = 5.0
"""Without a kill before the last calls are over, which is not what fails them."""

FAILURES_MAX = 20
LOG_LINES_MAX = 40


@dataclass(frozen=True, slots=True)
class Options:
    """How long, how many calls, and which chance."""

    seconds: float = 180.0
    rate: float = 20.0
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Way:
    """What came of the calls in one of the two ways to reach dispatchers."""

    results: Sequence[CallResult]
    kills: int
    said: dict[CallId, Sequence[str]]
    """What the logs say of each call that did not go as its caller wanted."""

    def as_json(self) -> dict[str, Any]:
        """Returns it as plain values."""
        return {
            "calls": len(self.results),
            "failed_calls": len(self.said),
            "kills": self.kills,
            "endings": dict(Counter(str(result.outcome) for result in self.results)),
            "sent_again": sum(result.retransmissions > 0 for result in self.results),
            "tried_another": sum(len(result.tried) > 1 for result in self.results),
            "setup_ms": summary([_setup_ms(result) for result in self.results if "answered" in result.marks_ns]),
            "failures": [
                {**asdict(result), "log": self.said[result.call_id]}
                for result in self.results
                if result.call_id in self.said
            ][:FAILURES_MAX],
        }


@dataclass(frozen=True, slots=True)
class Failover:
    """The result."""

    options: Options
    ways: dict[str, Way]

    def as_json(self) -> dict[str, Any]:
        """Returns the result as plain values."""
        ways = {name: way.as_json() for name, way in self.ways.items()}
        totals = {name: sum(way[name] for way in ways.values()) for name in ("calls", "failed_calls", "kills")}
        return {"seconds": self.options.seconds, "rate": self.options.rate, **totals, "ways": ways}


async def run(options: Options, directory: Path, progress: Progress) -> Failover:
    """Runs both ways, one after the other; raises RigError when the pool cannot be started."""
    ways = {}
    for name, shared_port in (("proxy set", False), ("shared port", True)):
        progress.say(f"failover: {name}, starting the pool")
        where = subdirectory(directory, name.replace(" ", "-"))
        ways[name] = await _way(options, Layout(shared_port=shared_port), where, progress)
    return Failover(options, ways)


async def _way(options: Options, layout: Layout, directory: Path, progress: Progress) -> Way:
    async with fleet(layout, directory) as pool:
        set_of_all = ProxySet() if layout.shared_port else ProxySet(pool.addresses)
        callers = [SipCaller(ADDRESS, set_of_all) for _ in range(CALLERS)]
        try:
            progress.say(f"{options.rate:.0f} calls/s for {options.seconds:.0f} s")
            async with asyncio.TaskGroup() as tasks:
                killing = tasks.create_task(_kill(pool, options, progress))
                planned = plan(options.seed, options.seconds, options.rate, pool.addresses, HOLD_S, CANCELLED)
                calling = [
                    tasks.create_task(Traffic(caller).run(planned[number::CALLERS]))
                    for number, caller in enumerate(callers)
                ]
            results = [result for each in calling for result in each.result()]
            failed = [result.call_id for result in results if not _went_well(result)]
            said = {
                call_id: await asyncio.to_thread(logs.about, call_id, pool.logs, LOG_LINES_MAX) for call_id in failed
            }
            return Way(results, killing.result(), said)
        finally:
            for caller in callers:
                caller.close()


async def _kill(pool: Fleet, options: Options, progress: Progress) -> int:
    """Kills one dispatcher after the other, at random, and starts them again; returns how many."""
    chance = random.Random(f"failover {options.seed}")
    kills = 0
    async with asyncio.TaskGroup() as tasks:
        while (kills + 1) * KILL_EVERY_S <= options.seconds - SETTLE_S:
            await asyncio.sleep(KILL_EVERY_S)
            index = chance.randrange(len(pool.dispatchers))
            progress.say(f"dispatcher {index} killed")
            await pool.kill_dispatcher(index)
            kills += 1
            tasks.create_task(_restart(pool, index, chance.uniform(*DOWN_S)))
    return kills


async def _restart(pool: Fleet, index: int, after_s: float) -> None:
    await asyncio.sleep(after_s)
    await pool.restart_dispatcher(index)


def _setup_ms(result: CallResult) -> float:
    return (result.marks_ns["answered"] - result.marks_ns["invite"]) / 1e6


def _went_well(result: CallResult) -> bool:
    if result.outcome is Outcome.ANSWERED:
        return result.hung_up_by == "caller" and result.was_hung_up
    return result.outcome is Outcome.CANCELLED
