"""A real Prometheus for tests, with our rules in a hurry: what takes minutes there takes seconds here.

It scrapes every second what it is told to, and says which alerts fire. Whom it scrapes is the tests' business.
"""

import json
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from admin.ports import free_tcp_port
from tests.acceptance.pool import until

START_S = 30.0
FIRES_S = 60.0
"""Longest wait for an alert to fire, or to end."""


class Prometheus:
    """Running; `targets` of each job may be changed at any time."""

    def __init__(self, directory: Path, url: str) -> None:
        self._directory = directory
        self._url = url

    def scrape(self, **jobs: Sequence[int]) -> None:
        """Scrapes these ports of 127.0.0.1 from now on; `dispatcher` is the job voicepool-dispatcher."""
        targets = [
            {"targets": [f"127.0.0.1:{port}" for port in ports], "labels": {"job": f"voicepool-{job}"}}
            for job, ports in jobs.items()
        ]
        fresh = self._directory / "targets.new"
        fresh.write_text(json.dumps(targets))
        fresh.rename(self._directory / "targets.json")

    def value(self, expression: str) -> float | None:
        """Returns what an expression that has one result is now; None without any."""
        query = urllib.parse.urlencode({"query": expression})
        results = self._ask(f"/api/v1/query?{query}")["result"]
        return float(results[0]["value"][1]) if results else None

    def firing(self) -> dict[str, Mapping[str, str]]:
        """Returns the labels of the alerts that fire now, by name."""
        alerts = self._ask("/api/v1/alerts")["alerts"]
        return {alert["labels"]["alertname"]: alert["labels"] for alert in alerts if alert["state"] == "firing"}

    def wait_for(self, expression: str, value: float) -> None:
        """Returns once the expression has this value."""
        until(lambda: self.value(expression) == value, FIRES_S, lambda: f"{expression}: {self.value(expression)}")

    def wait_until_firing(self, *names: str) -> None:
        """Returns once all these alerts fire."""
        until(lambda: set(names) <= self.firing().keys(), FIRES_S, lambda: f"{self.firing()}, not {names}")

    def wait_until_calm(self) -> None:
        """Returns once no alert fires."""
        until(lambda: not self.firing(), FIRES_S, lambda: f"still: {self.firing()}")

    def ready(self) -> bool:
        """Whether it has started."""
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=5.0) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def _ask(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(self._url + path, timeout=10.0) as answer:
            data: dict[str, Any] = json.load(answer)["data"]
            return data


def hurried(rules: str) -> str:
    """Returns the rules with every `for` of 1 s, and five minutes as five seconds."""
    return re.sub(r"for: \d+[smh]", "for: 1s", rules).replace("[5m]", "[5s]")


@contextmanager
def watching(directory: Path, rules: str) -> Iterator[Prometheus]:
    """Runs one for the block; without targets yet."""
    (directory / "rules.yml").write_text(rules)
    (directory / "prometheus.yml").write_text(
        yaml.safe_dump(
            {
                "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
                "rule_files": ["rules.yml"],
                "scrape_configs": [{"job_name": "voicepool", "file_sd_configs": [{"files": ["targets.json"]}]}],
            }
        )
    )
    port = free_tcp_port()
    command = [
        "prometheus",
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    prometheus = Prometheus(directory, f"http://127.0.0.1:{port}")
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            until(prometheus.ready, START_S, lambda: (directory / "prometheus.log").read_text())
            yield prometheus
        finally:
            process.terminate()
            process.wait(START_S)
