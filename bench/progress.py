"""What a user sees while a benchmark runs: one line per stage on standard error.

Results go to standard output; see `report.py`.
"""

import time

from rich.console import Console


class Progress:
    """Prints stages with the time since the start; `quiet` prints none."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True, highlight=False, quiet=quiet)
        self._begin = time.monotonic()

    def say(self, stage: str) -> None:
        """Prints that a stage begins."""
        self._console.print(f"{time.monotonic() - self._begin:6.1f} s  {stage}", markup=False, soft_wrap=True)
