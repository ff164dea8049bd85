"""One call to a running pool with spoken audio, and a judgement of it.

It does not speak SIP itself: the telephone is `python -m simulator.phone`, a process of its own.
"""

import asyncio
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from admin import plot, timeline
from admin.pool import Pool
from admin.processes import POLL_S, Process, Processes
from admin.timeline import Source, Timeline
from shared.control.address import RedisAddress
from shared.control.connection import connect
from shared.control.records import Records
from shared.errors import ControlUnavailable
from shared.ids import call_id_for
from shared.messages import CallRecord

TEXT = "Hello, this is a test call. Can you hear me?"

CALL_S = 120.0
"""The telephone has its own, shorter timeouts; this one is for a telephone that hangs."""

RECORD_S = 10.0
"""A call record is written when the worker has seen the BYE: at once, unless something is wrong."""

RECORDS_READ = 100
"""Newest records looked through for ours: other calls may end at the same time."""

CORRELATION_MIN = 0.9
"""From here on the parrot's answer is what was said: G.711 and one resampling leave 0.95 and more, other speech 0.1."""


@dataclass(frozen=True, slots=True)
class SelfTest:
    """What came of the call."""

    call: Mapping[str, Any]
    """The telephone's report of it."""
    record: CallRecord | None
    timeline: Timeline | None
    """None when not even the INVITE went out."""
    recording: Path | None
    picture: Path | None
    problems: Sequence[str]

    @property
    def ok(self) -> bool:
        """Whether it was a good call."""
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """Returns it as plain values; times in ms since the INVITE."""
        moments = self.timeline.moments if self.timeline else []
        return {
            "ok": self.ok,
            "problems": list(self.problems),
            "call_id": self.record.call_id if self.record else None,
            "worker": self.record.worker_id if self.record else None,
            "correlation": self.call.get("correlation"),
            "timeline": [{"ms": m.at_ms, "name": m.name, "label": m.label, "source": m.source} for m in moments],
            "recording": str(self.recording) if self.recording else None,
            "picture": str(self.picture) if self.picture else None,
        }


async def place_call(processes: Processes, pool: Pool, run_dir: Path) -> SelfTest:
    """Calls the pool, says TEXT, hears it out, and returns what came of it, with its recording drawn.

    Raises ProcessFailed when the telephone itself does not work.
    """
    call = await _telephone(processes, pool, run_dir)
    record = await _record_of(call, pool.redis) if call.get("sip_call_id") else None
    marks = {name: at_ms for name, at_ms in call["marks"].items() if at_ms is not None}
    when = timeline.merge(marks, record) if "invite" in marks else None
    recording = picture = None
    if call.get("recording") and when:
        recording, picture = run_dir / "self-test.wav", run_dir / "self-test.png"
        shutil.move(call["recording"], recording)
        title = f"test call to {pool.local_host}:{pool.port}" + (f", carried by {record.worker_id}" if record else "")
        # Drawing takes a second or two, in which the loop must go on watching the processes.
        await asyncio.to_thread(plot.draw, recording, call["recording_start"], when, title, picture)
    problems = judge(call, record, greeting=pool.greeting, parrot=pool.simulated)
    return SelfTest(call, record, when, recording, picture, problems)


def judge(call: Mapping[str, Any], record: CallRecord | None, *, greeting: bool, parrot: bool) -> list[str]:
    """Returns what was wrong with a call, the first reason first; nothing for a good one.

    `greeting`: the caller should have been greeted. `parrot`: the answer should have been what the caller said.
    """
    marks = {name for name, at_ms in call["marks"].items() if at_ms is not None}
    if "answered" not in marks:
        reason = f"SIP {call['status']}, {record.reason}" if record else call["reason"]
        return [f"the call was not answered: {reason}"]
    problems = []
    if greeting and "greeting_first_packet" not in marks:
        problems.append("the caller heard no greeting")
    if "answer_first_packet" not in marks:
        problems.append("the caller heard no answer")
    elif parrot and (call["correlation"] or 0.0) < CORRELATION_MIN:
        problems.append(f"the answer is not what the caller said: correlation {call['correlation'] or 0.0:.3f}")
    if not call["ok"] and not problems:
        problems.append(call["reason"])
    if record is None:
        problems.append("no call record was written")
    return problems


def durations(test: SelfTest) -> list[tuple[str, int]]:
    """Returns what a caller feels, and what the pool has to do with it, each as (what, ms)."""
    if test.timeline is None:
        return []
    wanted = {
        "INVITE to 200 OK": ("invite", "answered", Source.PHONE),
        "200 OK to greeting heard": ("answered", "greeting_first_packet", Source.PHONE),
        "end of caller's speech to answer heard": ("speech_end", "answer_first_packet", Source.PHONE),
        "of it in the pool: audio in to RTP out": ("answer_audio", "answer_playout", Source.RECORD),
    }
    found = {what: test.timeline.between(*marks) for what, marks in wanted.items()}
    return [(what, ms) for what, ms in found.items() if ms is not None]


async def _telephone(processes: Processes, pool: Pool, run_dir: Path) -> dict[str, Any]:
    target = f"sip:bot@{pool.local_host}:{pool.port}"
    argv = [sys.executable, "-m", "simulator.phone", "call", target, "--say", TEXT]
    argv += ["--record", str(run_dir), "--json"]
    if not pool.greeting:
        argv.append("--no-greeting")
    process = await processes.start("phone", argv)
    try:
        async with asyncio.timeout(CALL_S):
            await process.wait()
    except TimeoutError:
        raise process.failure(f"the telephone was not done within {CALL_S:.0f} s") from None
    finally:
        await processes.end(process)
    return _report(process)


def _report(process: Process) -> dict[str, Any]:
    """Returns the one call in the telephone's JSON object; other lines are what pjsip has to say."""
    for line in reversed(process.log_tail(1000)):
        try:
            report = json.loads(line)
            call: dict[str, Any] = report["calls"][0]
        except (ValueError, LookupError, TypeError):
            continue
        return call
    raise process.failure(f"the telephone ended with {process.status} and no report")


async def _record_of(call: Mapping[str, Any], address: RedisAddress) -> CallRecord | None:
    """Returns the call record of the telephone's call as soon as it is there; None when it does not come."""
    call_id = call_id_for(call["sip_call_id"], call["from_tag"])
    redis = connect(address, client_name="voicepool-run")
    try:
        async with asyncio.timeout(RECORD_S):
            while True:
                rows = await Records(redis).read(RECORDS_READ)
                for row in rows:
                    if row.record.call_id == call_id:
                        return row.record
                await asyncio.sleep(POLL_S)
    except (TimeoutError, ControlUnavailable):
        return None
    finally:
        await redis.aclose()
