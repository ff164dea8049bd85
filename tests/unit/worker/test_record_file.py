"""Call records as lines of a file."""

import asyncio
import json
from dataclasses import asdict
from pathlib import Path

from structlog.testing import capture_logs

from shared.ids import CallId, LeaseId, WorkerId
from shared.messages import CallRecord, KeptUtterance
from worker.record_file import append_record


def record(number: int = 1, text: str = "Grüß Gott\nhallo") -> CallRecord:
    return CallRecord(
        call_id=CallId(f"call{number}"),
        lease_id=LeaseId("lease"),
        worker_id=WorkerId("one"),
        result="completed",
        reason="caller_hangup",
        invite_at_ms=1,
        ended_at_ms=2,
        transcript=[KeptUtterance(role="caller", at_ms=5, text=text)],
    )


async def test_a_record_is_one_line_that_holds_all_of_it(tmp_path: Path) -> None:
    file = tmp_path / "calls.jsonl"
    await append_record(file, record(1))
    await append_record(str(file), record(2))
    lines = file.read_text("utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [asdict(record(1)), asdict(record(2))]


async def test_the_file_is_its_owners_only(tmp_path: Path) -> None:
    file = tmp_path / "calls.jsonl"
    await append_record(file, record())
    assert file.stat().st_mode & 0o777 == 0o600


async def test_calls_that_end_together_do_not_mix_their_lines(tmp_path: Path) -> None:
    file = tmp_path / "calls.jsonl"
    await asyncio.gather(*(append_record(file, record(n, "x" * 20_000)) for n in range(20)))
    ids = {json.loads(line)["call_id"] for line in file.read_text().splitlines()}
    assert ids == {f"call{n}" for n in range(20)}


async def test_a_failure_is_logged_once_until_it_works_again_and_says_nothing_of_the_call(tmp_path: Path) -> None:
    file = tmp_path / "later" / "calls.jsonl"
    with capture_logs() as logs:
        await append_record(file, record())
        await append_record(file, record())
        file.parent.mkdir()
        await append_record(file, record())
        file.unlink()
        file.parent.rmdir()
        await append_record(file, record())
    assert [line["event"] for line in logs] == ["record_file.failed"] * 2
    assert logs[0]["reason"] == "No such file or directory"
    assert "hallo" not in str(logs) and "call1" not in str(logs)


async def test_a_full_disk_is_a_failure() -> None:
    with capture_logs() as logs:
        await append_record("/dev/full", record())
    assert [line["reason"] for line in logs] == ["No space left on device"]
