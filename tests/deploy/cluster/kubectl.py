"""kubectl and helm as functions: their arguments in, their output out, their failure as an error."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TIMEOUT_S = 120.0
"""Of one command; those that wait get a shorter one of their own."""


class Refused(Exception):
    """The command failed; the message is what it said."""


@dataclass(frozen=True)
class Command:
    """A command-line client of one cluster."""

    binary: Path
    environment: Mapping[str, str]

    def __call__(self, *arguments: str | Path, given: str | None = None) -> str:
        """Returns what the command prints, told `given` on its standard input.

        Raises Refused if it fails or takes longer than TIMEOUT_S.
        """
        return self._run(arguments, given).stdout

    def warnings(self, *arguments: str | Path, given: str | None = None) -> list[str]:
        """Returns what the API server warns of, while the command succeeds; raises Refused as a call does."""
        lines = self._run(arguments, given).stderr.splitlines()
        return [line.removeprefix("Warning: ") for line in lines if line.startswith("Warning: ")]

    def json(self, *arguments: str | Path, given: str | None = None) -> Any:
        """Returns what the command prints with `-o json`, as Python values."""
        return json.loads(self(*arguments, "-o", "json", given=given))

    def _run(self, arguments: Sequence[str | Path], given: str | None) -> "subprocess.CompletedProcess[str]":
        command = [str(word) for word in (self.binary, *arguments)]
        try:
            done = subprocess.run(
                command, input=given, env={**os.environ, **self.environment}, timeout=TIMEOUT_S,
                capture_output=True, text=True,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise Refused(f"{' '.join(command[1:])}: nothing for {TIMEOUT_S:.0f} s: {error.stderr!r}") from None
        if done.returncode:
            raise Refused(f"{' '.join(command[1:])}: {done.stderr or done.stdout}")
        return done
