"""Calls the pool with `python -m simulator.phone`, and knows what a good call looks like.

It does not speak SIP itself.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.ending import CallEnd
from shared.ids import CallId, call_id_for
from simulator.phone.analysis import RATE, Signal
from simulator.phone.recording import read_tracks
from tests.acceptance.pool import Pool, until
from tests.acceptance.process import ROOT, give_priority

LONGEST_CALL_S = 90.0

GAP_MAX_MS = 20.0
"""The longest dropout that passes: one packet."""

STALL_MAX_MS = 50.0
"""A standstill of the machine that the jitter buffers on both sides still bridge."""

OWN_WORDS = 0.7
"""Above what the words of two callers ever have in common, below what a machine that stands still makes of the same."""

UNDISTURBED_TRIES = 4
"""Calls at most until one is not spoilt by the machine; the last one counts in any case."""


@dataclass(frozen=True)
class PhoneCall:
    """One call's report, as the telephone printed it."""

    report: dict[str, Any]

    @property
    def call_id(self) -> CallId:
        """The pool's id of the call."""
        return call_id_for(self.report["sip_call_id"], self.report["from_tag"])

    @property
    def marks(self) -> dict[str, float]:
        """What happened when, in Unix ms."""
        marks: dict[str, float] = self.report["marks"]
        return marks

    def tracks(self) -> tuple[Signal, Signal]:
        """Returns what was said and what was heard."""
        return read_tracks(Path(self.report["recording"]))

    def sample(self, at_ms: float) -> int:
        """Returns the place of a moment in the tracks."""
        start: float = self.report["recording_start"]
        return round((at_ms - start) * RATE / 1000)

    def answer(self, turn: int = 0) -> Signal:
        """Returns what was heard from the end of a turn's speech to the end of its answer."""
        times = self.report["turns"][turn]
        return self.tracks()[1][self.sample(times["speech_end"]) : self.sample(times["answer_end"])]

    def said(self, turn: int = 0) -> Signal:
        """Returns what was said in a turn."""
        times = self.report["turns"][turn]
        return self.tracks()[0][self.sample(times["speech_start"]) : self.sample(times["speech_end"])]


def ring(
    pool: Pool, *options: str, called: str = "bot", port: int = 0, timeout_s: float = LONGEST_CALL_S
) -> list[PhoneCall]:
    """Calls the pool and returns the reports, whatever came of the calls."""
    with ringing(pool, *options, called=called, port=port) as phone:
        return finish(phone, pool, timeout_s)


def ring_undisturbed(pool: Pool, callers: Mapping[str, list[str]]) -> dict[str, list[PhoneCall]]:
    """Has one telephone for each name call the pool, all at once, and returns the reports.

    Those whose recording is spoilt because the telephone stood still, as the machine did, call again: it says nothing
    of the pool. What they report at the last try counts in any case.
    """
    done: dict[str, list[PhoneCall]] = {}
    for tries_left in reversed(range(UNDISTURBED_TRIES)):
        with ExitStack() as stack:
            options = {name: callers[name] for name in callers if name not in done}
            phones = {name: stack.enter_context(ringing(pool, *options[name])) for name in options}
            calls = {name: finish(phone, pool) for name, phone in phones.items()}
        done |= {name: calls[name] for name in calls if not (tries_left and any(map(spoilt, calls[name])))}
    return done


def spoilt(call: PhoneCall) -> bool:
    """Returns whether something is wrong with what was heard that a standstill of the telephone itself explains."""
    report = call.report
    compared = report["correlation"] is not None
    damaged = compared and (report["correlation"] < 0.95 or report["longest_gap_ms"] > GAP_MAX_MS)
    return bool(report["stall_ms"] > STALL_MAX_MS and (damaged or not report["ok"]))


@contextmanager
def ringing(pool: Pool, *options: str, called: str = "bot", port: int = 0) -> Iterator["subprocess.Popen[str]"]:
    """Has a telephone call the pool during the block, and ends it (hanging up) when it still runs after that.

    `called` is the number that is dialled, `port` that of the first dispatcher, when it is another than SIP_PORT.
    """
    number = len(list(pool.directory.glob("phone-*")))
    record = pool.directory / f"phone-{number}"
    record.mkdir()
    command = [
        sys.executable,
        "-m",
        "simulator.phone",
        "call",
        f"sip:{called}@{pool.sip_host}:{port or pool.sip_port}",
        "--record",
        str(record),
        "--json",
        *options,
    ]
    with subprocess.Popen(
        command, cwd=pool.directory, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as phone:  # fmt: skip
        give_priority(phone.pid)
        try:
            yield phone
        finally:
            if phone.poll() is None:
                phone.send_signal(signal.SIGTERM)
                try:
                    phone.wait(20.0)
                except subprocess.TimeoutExpired:
                    phone.kill()
                    raise


def finish(phone: "subprocess.Popen[str]", pool: Pool, timeout_s: float = LONGEST_CALL_S) -> list[PhoneCall]:
    """Waits for a telephone to be done and returns the reports of its calls."""
    try:
        out, err = phone.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"the telephone goes on after {timeout_s} s\n{pool.tails()}") from None
    try:
        result = json.loads(out)
    except ValueError:
        raise AssertionError(f"the telephone ended with {phone.returncode}: {out}\n{err}\n{pool.tails()}") from None
    return [PhoneCall(report) for report in result["calls"]]


def wait_for_leases(pool: Pool, count: int) -> None:
    """Returns once exactly `count` calls hold a lease."""
    until(lambda: len(pool.leases()) == count, 20.0, lambda: f"{pool.leases()} leased\n{pool.tails()}")


def assert_answered(pool: Pool) -> None:
    """Fails unless somebody who calls now is answered and greeted."""
    (call,) = ring(pool, "--turns", "0")
    assert call.report["ok"], f"{call.report}\n{pool.tails()}"
    assert pool.record(call.call_id).reason == CallEnd.CALLER_HANGUP


def assert_talked(pool: Pool, call: PhoneCall) -> None:
    """Fails unless the call went as planned and the caller's own words came back, if with disturbances."""
    report = {name: value for name, value in call.report.items() if name != "turns"}
    assert call.report["ok"], f"{report}\n{pool.tails()}"
    assert call.report["correlation"] >= OWN_WORDS, f"{report}\n{pool.tails()}"


def assert_heard_back(pool: Pool, call: PhoneCall, correlation: float = 0.95) -> None:
    """Fails unless the call went as planned and the caller's words came back whole."""
    assert_talked(pool, call)
    report = {name: value for name, value in call.report.items() if name != "turns"}
    assert call.report["correlation"] >= correlation, f"{report}\n{pool.tails()}"
    assert call.report["longest_gap_ms"] <= GAP_MAX_MS, f"{report}\n{pool.tails()}"
