"""Random calls and random faults on a whole pool, and whether its invariants hold: `python -m bench chaos`.

    3 dispatchers, 3 pods of 2 workers, Redis behind a relay, a model    (bench/fleet.py)
    calls of 1 to 20 s: some are cancelled, some callers hang up, some leave that to the agent; a few listen
    faults drawn from the seed    (schedule.py, inject.py)

What came of it `verdict.py` says. The same seed makes the same calls and the same faults; which call meets which fault
is up to the machine.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from bench.chaos import logs, schedule
from bench.chaos.inject import Committed, Injector
from bench.chaos.verdict import BRIEF, Broken, Finding, Verdict, judge, spread_s
from bench.chaos.watch import Watch
from bench.fleet import Fleet, Layout, fleet
from bench.load.proxy_set import ProxySet
from bench.load.rtp import RtpLoad
from bench.load.sip import SipCaller
from bench.load.traffic import CallResult, Plan, Traffic, hear, plan
from bench.load.wire import UdpAddress
from bench.progress import Progress
from bench.rig import ADDRESS, subdirectory
from shared.control.commands import Commands
from shared.control.connection import connect

RATE = 4.0
"""Calls per second."""

HOLD_S = (1.0, 20.0)

CANCELLED, LEFT_TO_THE_AGENT = 0.15, 0.15
"""Shares of the calls that are given up, and that wait for the agent to hang up."""

GIVEN_UP_S = 0.6
"""Within that time: it is about how long a call rings."""

AGENT_HANGS_UP_S = 40.0
"""By then the agent has."""

LISTEN_EVERY = 10
"""One call of so many has RTP."""

SILENCE_S = 4.0
"""How long a dispatcher may say nothing before a caller tries the next one: what SBCs are set to."""

SETTLE_S = 60.0
"""How long after the last call something may be left over: a lease that nobody renews lapses after 30 s, and a BYE that
a dispatcher owed when it died is said by another one after 40 s."""

LOOK_S = 0.5

AROUND_MS = 20_000.0
"""Faults that stand with a finding."""

FINDINGS_MAX = 20
LOG_LINES_MAX = 40

_AGENTS = {
    "agents": {
        "patient": {"greeting": "Hello there.", "silence": {"after_s": 0}},
        BRIEF: {"greeting": "Hello.", "silence": {"after_s": 1, "prompts": 0, "goodbye": "Goodbye."}},
    },
    "routes": [{"called": BRIEF, "agent": BRIEF}],
    "default": "patient",
}


@dataclass(frozen=True, slots=True)
class Options:
    """How long, and which chance."""

    seconds: float = 600.0
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Chaos:
    """The result of one run."""

    options: Options
    calls: int
    records: int
    committed: Committed
    verdict: Verdict
    left_over: dict[str, int]
    """What is in Redis of calls, and what the model has of them, by kind."""
    findings: list[dict[str, Any]]
    """With what is needed to find the cause."""

    @property
    def broken(self) -> bool:
        """Whether an invariant does not hold."""
        return bool(self.verdict.findings or self.left_over)

    def as_json(self) -> dict[str, Any]:
        """Returns the result as plain values."""
        verdict = self.verdict
        kinds = Counter(str(fault.kind) for _, fault, _ in self.committed.faults)
        return {
            "seed": self.options.seed,
            "seconds": self.options.seconds,
            "calls": self.calls,
            "faults": len(self.committed.faults),
            "records": self.records,
            "leaked_leases": sum(self.left_over.values()),
            "double_assignments": verdict.count(Broken.DOUBLE),
            "calls_without_record": verdict.count(Broken.NO_RECORD),
            "duplicate_records": verdict.count(Broken.DUPLICATE),
            "calls_lost_elsewhere": verdict.count(Broken.LOST_ELSEWHERE),
            "calls_lost_with_worker": verdict.lost_with_worker,
            "failed_setups": dict(verdict.failed_setups.most_common()),
            "endings": dict(verdict.endings.most_common()),
            "faults_by_kind": dict(kinds.most_common()),
            "faults_skipped": len(self.committed.skipped),
            "released_s": spread_s(verdict.released_s),
            "rtp_gap_ms": spread_s(verdict.gaps_ms),
            "left_over": self.left_over,
            "broken": self.broken,
            "findings": self.findings,
        }


def plans(options: Options, dispatchers: Sequence[UdpAddress]) -> list[Plan]:
    """Returns the calls of a run, in order of time."""
    chance = random.Random(f"chaos calls {options.seed}")
    planned = plan(options.seed, options.seconds, RATE, dispatchers, HOLD_S)
    return [_varied(each, chance) for each in planned]


def _varied(planned: Plan, chance: random.Random) -> Plan:
    drawn = chance.random()
    if drawn < CANCELLED:
        return replace(planned, give_up_s=chance.uniform(0.0, GIVEN_UP_S))
    if drawn < CANCELLED + LEFT_TO_THE_AGENT:
        return replace(planned, called=BRIEF, hold_s=AGENT_HANGS_UP_S)
    return planned


async def run(options: Options, directory: Path, progress: Progress) -> Chaos:
    """Runs; raises RigError when the pool cannot be started."""
    agents = directory / "agents.yaml"
    agents.write_text(yaml.safe_dump(_AGENTS))
    layout = Layout(pods=3, worker={"AGENTS_FILE": str(agents)})
    progress.say("chaos: starting the pool")
    async with (
        fleet(layout, directory) as pool,
        connect(pool.redis.url) as redis,
        Watch.over(redis) as watch,
        SipCaller.open(ADDRESS, ProxySet(pool.addresses, SILENCE_S)) as caller,
        RtpLoad(subdirectory(directory, "rtp"), ADDRESS) as rtp,
    ):
        injector = Injector(pool, watch, Commands(redis), progress)
        planned = plans(options, pool.addresses)
        progress.say(f"{len(planned)} calls in {options.seconds:.0f} s")
        await rtp.record(True)
        async with asyncio.TaskGroup() as tasks:
            calling = tasks.create_task(_calls(caller, rtp, planned))
            tasks.create_task(injector.run(schedule.draw(options.seed, options.seconds)))
        results = calling.result()
        progress.say("all calls are over; what is left?")
        left_over = await _until_nothing_is_left(pool, watch)
        await watch.read()
    committed = injector.committed
    verdict = await asyncio.to_thread(
        lambda: judge(results, watch.lives, watch.events, logs.admissions(pool.logs), committed.harms)
    )
    findings = await asyncio.to_thread(_explained, verdict.findings, committed, pool, results)
    return Chaos(
        options=options,
        calls=len(results),
        records=sum(map(len, watch.lives)),
        committed=committed,
        verdict=verdict,
        left_over=left_over,
        findings=findings,
    )


async def _calls(caller: SipCaller, rtp: RtpLoad, planned: Sequence[Plan]) -> list[CallResult]:
    """Makes the calls, some of them with RTP; returns what came of them."""
    listening = [each for number, each in enumerate(planned) if number % LISTEN_EVERY == 0]
    others = [each for number, each in enumerate(planned) if number % LISTEN_EVERY]
    async with asyncio.TaskGroup() as tasks:
        heard = tasks.create_task(Traffic(caller, rtp).run(listening))
        unheard = tasks.create_task(Traffic(caller).run(others))
    packets = await rtp.finish()
    return [*hear(heard.result(), packets), *unheard.result()]


async def _until_nothing_is_left(pool: Fleet, watch: Watch) -> dict[str, int]:
    """Returns nothing as soon as nothing is left of the calls, or what is when the time is over."""
    deadline = time.monotonic() + SETTLE_S
    while True:
        left_over = await watch.left_over()
        if sessions := await pool.open_sessions():
            left_over["open Voice Live sessions"] = sessions
        if not left_over or time.monotonic() > deadline:
            return left_over
        await asyncio.sleep(LOOK_S)


def _explained(
    findings: Sequence[Finding], committed: Committed, pool: Fleet, results: Sequence[CallResult]
) -> list[dict[str, Any]]:
    """Returns findings with the faults around them, what the caller saw, and what the logs say of the call."""
    seen = {result.call_id: result for result in results}
    return [
        {
            "broken": finding.broken,
            "call_id": finding.call_id,
            "what": finding.what,
            "at_ms": round(finding.at_ms),
            "faults": [
                f"{(at_ms - finding.at_ms) / 1000:+.1f} s {fault.kind} {fault.lasts_s:.1f} s {whom}"
                for at_ms, fault, whom in committed.faults
                if -AROUND_MS <= at_ms - finding.at_ms <= AROUND_MS / 4
            ],
            "caller": asdict(seen[finding.call_id]) if finding.call_id in seen else None,
            "log": list(logs.about(finding.call_id, pool.logs, LOG_LINES_MAX)),
        }
        for finding in findings[:FINDINGS_MAX]
    ]
