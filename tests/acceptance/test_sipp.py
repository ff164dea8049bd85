"""SIPp, a SIP stack that shares no line with ours or pjsip's, calls the pool."""

import shutil
import subprocess
from pathlib import Path

from shared.ending import CallEnd
from tests.acceptance.pool import Pool

SCENARIOS = Path(__file__).parent / "sipp"

CALLS = 20


def test_twenty_calls_of_sipp_are_answered_and_hung_up(pool: Pool, tmp_path: Path) -> None:
    sipp = shutil.which("sipp")
    assert sipp, "sipp is not installed: it is needed by the tests (Debian: apt install sip-tester)"
    before = len(pool.records())
    command = [sipp, f"{pool.sip_host}:{pool.sip_port}", "-sf", str(SCENARIOS / "uac.xml"), "-i", "127.0.0.1",
               "-m", str(CALLS), "-l", "10", "-r", "10", "-timeout", "60", "-timeout_error", "-nostdin",
               "-trace_err", "-error_file", str(tmp_path / "errors.log")]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=90, check=False)
    errors = tmp_path / "errors.log"
    said = errors.read_text() if errors.exists() else ""
    assert done.returncode == 0, f"sipp: {done.returncode}\n{said}\n{done.stdout[-3000:]}\n{pool.tails()}"
    pool.wait_until_idle()
    records = pool.records()[before:]
    assert [record.reason for record in records] == [CallEnd.CALLER_HANGUP] * CALLS
