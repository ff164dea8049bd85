"""SIPp, a SIP stack that shares no line with ours or pjsip's, calls the pool."""

import shutil
import subprocess
from pathlib import Path

from shared.ending import CallEnd
from tests.acceptance.pool import Pool
from tests.acceptance.telephone import finish, ringing, wait_for_leases

SCENARIOS = Path(__file__).parent / "sipp"


def call_with_sipp(pool: Pool, directory: Path, calls: int, per_second: int) -> None:
    """Has SIPp make `calls` calls of one second; fails unless each was answered and hung up as RFC 3261 has it."""
    sipp = shutil.which("sipp")
    assert sipp, "sipp is not installed: it is needed by the tests (Debian: apt install sip-tester)"
    errors = directory / "errors.log"
    command = [sipp, f"{pool.sip_host}:{pool.sip_port}", "-sf", str(SCENARIOS / "uac.xml"), "-i", "127.0.0.1",
               "-m", str(calls), "-l", "20", "-r", str(per_second), "-timeout", "60", "-timeout_error", "-nostdin",
               "-trace_err", "-error_file", str(errors)]  # fmt: skip
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=90, check=False)
    said = errors.read_text() if errors.exists() else ""
    assert done.returncode == 0, f"sipp: {done.returncode}\n{said}\n{done.stdout[-3000:]}\n{pool.tails()}"


def test_twenty_calls_of_sipp_are_answered_and_hung_up(pool: Pool, tmp_path: Path) -> None:
    before = len(pool.records())
    call_with_sipp(pool, tmp_path, 20, per_second=20)
    pool.wait_until_idle()
    assert [record.reason for record in pool.records()[before:]] == [CallEnd.CALLER_HANGUP] * 20


def test_a_call_is_left_alone_by_a_hundred_others_that_come_and_go(pool: Pool, tmp_path: Path) -> None:
    """pjsip gives the numbers of calls that are over to new ones: what is left of the old must not touch the new."""
    with ringing(pool, "--calls", "4", "--turns", "2") as phone:
        wait_for_leases(pool, 4)
        call_with_sipp(pool, tmp_path, 100, per_second=15)
        calls = finish(phone, pool)
    for call in calls:
        assert call.report["ok"], f"{call.report}\n{pool.tails()}"
        assert pool.record(call.call_id).reason == CallEnd.CALLER_HANGUP
