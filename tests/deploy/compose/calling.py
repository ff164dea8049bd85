"""Telephones on this machine that call a pool in containers."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CALL_S = 100.0


@contextmanager
def telephones(address: str, directory: Path, *options: str) -> Iterator["Telephones"]:
    """Yields telephones that call a dispatcher and end by themselves; recordings go into the directory."""
    command = [sys.executable, "-m", "simulator.phone", "call", f"sip:bot@{address}:5060", "--json", *options]
    with subprocess.Popen(command, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield Telephones(process)
        finally:
            process.kill()


class Telephones:
    """Calls that are being made."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def reports(self) -> Sequence[dict[str, Any]]:
        """Returns what came of each call, once all are over."""
        told, complaints = self._process.communicate(timeout=CALL_S)
        assert told, complaints
        return list(json.loads(told)["calls"])


def call(address: str, directory: Path, *options: str) -> dict[str, Any]:
    """Makes one call and returns what came of it."""
    with telephones(address, directory, *options) as calling:
        [report] = calling.reports()
        return report
