"""How a worker process begins: with nothing in memory that only its supervisor needs, and the other way round.

The supervisor knows of its workers no more than this module, and so has none of their libraries in memory.
"""

import sys
from multiprocessing.connection import Connection as Pipe

from shared.settings import WorkerSettings

BOOT_ERROR = 3
"""Exit code of a child that can never start with these settings: starting it again would not help."""

UNUSED = ("colorama", "opentelemetry", "rich")
"""What redis-py (OpenTelemetry's SDK) and structlog (what draws tracebacks for people) import wherever it is installed:
6 MB that a worker has no use for."""


def main(settings: WorkerSettings, index: int, pipe: Pipe) -> None:
    """Runs one worker in this process until it is told to go; called by the supervisor in a fresh process."""
    for name in UNUSED:  # an import of what is None here fails as if it were not installed
        sys.modules[name] = None  # type: ignore[assignment]
    from worker import child

    child.main(settings, index, pipe)
