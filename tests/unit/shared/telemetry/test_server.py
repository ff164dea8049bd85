"""The telemetry server: what it answers, and that it bears bad clients."""

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Gauge

from shared.errors import ConfigError
from shared.telemetry import probe, server
from shared.telemetry.server import TelemetryServer

HOST = "127.0.0.1"


class Pod:
    """What a server is asked about."""

    def __init__(self) -> None:
        self.stuck = ""
        self.busy = ""
        self.registry = CollectorRegistry()
        Gauge("pods", "Of them.", registry=self.registry).set(3)
        self.server = TelemetryServer(HOST, 0, self.registry, lambda: self.stuck, lambda: self.busy)

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.server.port}{path}", timeout=5.0) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


@pytest.fixture
def pod() -> Iterator[Pod]:
    pod = Pod()
    yield pod
    pod.server.close()


def test_metrics_are_in_prometheus_text(pod: Pod) -> None:
    status, text = pod.get("/metrics")
    assert status == 200 and "\npods 3.0\n" in text


def test_the_probes_say_why_not(pod: Pod) -> None:
    assert (pod.get("/livez"), pod.get("/readyz")) == ((200, "ok\n"), (200, "ok\n"))
    pod.stuck, pod.busy = "stuck for 12 s", "no worker is ready"
    assert (pod.get("/livez"), pod.get("/readyz")) == ((503, "stuck for 12 s\n"), (503, "no worker is ready\n"))


def test_there_is_nothing_else(pod: Pod) -> None:
    assert pod.get("/")[0] == 404


def test_the_probe_command_asks_it(pod: Pod, capsys: pytest.CaptureFixture[str]) -> None:
    pod.busy = "draining"
    environment = {"TELEMETRY_PORT": str(pod.server.port)}
    assert (probe.main(["live"], environment), probe.main(["ready"], environment)) == (0, 1)
    assert capsys.readouterr().out.splitlines() == ["ok", "draining"]


def test_the_probe_command_knows_when_it_is_called_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert probe.main([], {}) == 2
    assert probe.main(["ready"], {}) == 1
    assert "TELEMETRY_PORT" in capsys.readouterr().out


def test_a_port_that_is_taken_is_a_bad_setting(pod: Pod) -> None:
    with pytest.raises(ConfigError, match="TELEMETRY_PORT"):
        TelemetryServer(HOST, pod.server.port, pod.registry, lambda: "", lambda: "")


def test_clients_that_say_nothing_do_not_keep_others_out(pod: Pod) -> None:
    silent = [socket.create_connection((HOST, pod.server.port)) for _ in range(server.CLIENTS_MAX - 1)]
    try:
        assert pod.get("/livez")[0] == 200
    finally:
        for each in silent:
            each.close()


def test_there_is_a_most_of_clients_at_once(pod: Pod) -> None:
    clients = [socket.create_connection((HOST, pod.server.port)) for _ in range(server.CLIENTS_MAX + 1)]
    try:
        clients[-1].settimeout(5.0)
        assert clients[-1].recv(1) == b"", "the last one is hung up on"
    finally:
        for each in clients:
            each.close()
