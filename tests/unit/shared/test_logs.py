"""What a process writes to its log, and where."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]

PROGRAM = """
import logging, structlog, sys, threading
from shared import logs
logs.configure("INFO", sys.argv[1], worker="w1")
structlog.get_logger().info("call.ended", result="completed")
threading.Thread(target=lambda: structlog.get_logger().info("worker.ready")).start()  # it has a context of its own
structlog.get_logger().debug("too.much")
logging.getLogger("azure.ai").info("a library's chatter, which may hold a transcript")
"""


def test_events_go_to_stdout_and_into_the_file_as_json_with_their_context(tmp_path: Path) -> None:
    file = tmp_path / "voicepool.log"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(file)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    entry, of_a_thread = map(json.loads, done.stdout.splitlines())
    assert list(entry)[:3] == ["timestamp", "level", "event"]
    assert (entry["event"], entry["result"], entry["worker"]) == ("call.ended", "completed", "w1")
    assert (of_a_thread["event"], of_a_thread["worker"]) == ("worker.ready", "w1")
    assert file.read_text() == done.stdout
