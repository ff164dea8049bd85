"""What is read of workers' logs: who has taken which call, and all lines about one."""

import json
from math import inf
from pathlib import Path

from bench.chaos import logs
from bench.chaos.verdict import Admission
from shared.ids import CallId, WorkerId

CALL, OTHER = CallId("c1"), CallId("c2")


def line(at_s: int, event: str, **about: str) -> str:
    return json.dumps({"timestamp": f"2026-01-01T00:00:{at_s:02}.500000Z", "level": "info", "event": event, **about})


def said(at_s: int, call: str, event: str) -> str:
    return line(at_s, event, worker="w1", call_id=call)


def at_ms(at_s: int) -> float:
    return 1_767_225_600_500.0 + 1000 * at_s


def test_a_call_is_its_workers_from_the_claim_to_the_end(tmp_path: Path) -> None:
    log = tmp_path / "pod.log"
    log.write_text(
        "\n".join(
            [
                said(1, CALL, "call.claimed"),
                said(2, OTHER, "call.claimed"),
                said(3, CALL, "sip.call_answered"),
                said(5, CALL, "call.ended"),
                said(6, CALL, "call.claimed"),
                '{"timestamp": "2026-01-01T00:00:07Z", "event": "call.ended", "wor',  # killed while it wrote
            ]
        )
    )
    worker = WorkerId("w1")
    assert logs.admissions([log]) == [
        Admission(CALL, worker, at_ms(1), at_ms(5)),
        Admission(OTHER, worker, at_ms(2), inf),
        Admission(CALL, worker, at_ms(6), inf),
    ]


def test_what_all_processes_say_of_a_call_comes_in_order_of_time_without_the_middle(tmp_path: Path) -> None:
    worker, dispatcher = tmp_path / "worker.log", tmp_path / "dispatcher.log"
    worker.write_text("\n".join(line(second, "beat", call_id=CALL) for second in range(1, 9)))
    dispatcher.write_text("\n".join([line(0, "call.placed", call_id=CALL), line(0, "call.placed", call_id=OTHER)]))
    found = logs.about(CALL, [worker, dispatcher], 4)
    assert [each.partition(":")[0] for each in found] == ["dispatcher", "worker", "...", "worker", "worker"]
    assert len(logs.about(CALL, [worker, dispatcher], 9)) == 9
