"""A simulated Voice Live for tests: one process, what its sessions know, and the faults it is to commit.

A pool has one; agents whose `resource` is another can have their own, each with a scenario.
"""

import json
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.acceptance.process import START_S, PoolProcess

PARROT = ("--mode", "parrot", "--port", "0", "--first-audio", "0.2")


class VoiceLive:
    """A running simulator; it says back what the caller said unless `options` say otherwise."""

    def __init__(self, name: str, options: Sequence[str], directory: Path) -> None:
        self.process = PoolProcess(name, ["simulator", *PARROT, *options], {}, directory)
        try:
            address = self.process.wait_for("simulator.listening", timeout_s=START_S)[0]
        except BaseException:
            self.end()
            raise
        self.url = f"http://{address['host']}:{address['port']}"

    def end(self) -> None:
        """Ends the process."""
        try:
            self.process.end()
        finally:
            self.process.close()

    def order_faults(self, **order: Any) -> None:
        """Has it commit faults from now on."""
        self._ask("POST", "/simulator/faults", order)

    def forget_faults(self) -> None:
        """Takes back the faults that have not happened."""
        self._ask("DELETE", "/simulator/faults")

    def sessions(self, *, running: bool = False) -> list[dict[str, Any]]:
        """Returns what it knows of its sessions, all of them or those that are open now."""
        shown: list[dict[str, Any]] = self._ask("GET", "/simulator/sessions")["sessions"]
        return [session for session in shown if not (running and session["closed"])]

    def session(self, session_id: str) -> dict[str, Any]:
        """Returns what it knows of one session."""
        [found] = [session for session in self.sessions() if session["id"] == session_id]
        return found

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data=data, method=method)
        with urllib.request.urlopen(request, timeout=10.0) as answer:
            return json.load(answer)
