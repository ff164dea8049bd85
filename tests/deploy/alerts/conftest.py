"""Prometheus's own tool, which knows best what its rules do."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Promtool = Callable[..., None]


@pytest.fixture(scope="session")
def promtool() -> Promtool:
    """Returns a function that runs promtool with arguments, and fails with what it says."""
    program = shutil.which("promtool")
    assert program, "promtool is missing; scripts/setup installs it"

    def run(*arguments: str | Path) -> None:
        done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    return run
