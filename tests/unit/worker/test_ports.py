"""The file by which the probes of a pod find its telemetry port, whether or not it has one yet."""

import socket
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from shared.settings import WorkerSettings
from shared.telemetry import probe
from worker.ports import port_in_use, write_port


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "telemetry-port"


@pytest.mark.parametrize(("question", "code"), [("live", 0), ("ready", 1)])
def test_a_pod_that_waits_for_its_ports_is_live_and_not_ready(file: Path, question: str, code: int) -> None:
    file.write_text("9464\n")  # of an earlier start
    write_port(str(file), None)
    with socket.create_server(("127.0.0.1", 0)) as another_pod:
        port = str(another_pod.getsockname()[1])
        assert probe.main([question], {"TELEMETRY_PORT": port, "TELEMETRY_PORT_FILE": str(file)}) == code


def test_a_pod_that_has_its_ports_is_asked_at_the_one_in_the_file(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        port = int(nobody.getsockname()[1])
        write_port(str(file), port)
        assert probe.main(["live"], {"TELEMETRY_PORT": "1", "TELEMETRY_PORT_FILE": str(file)}) == 1
    assert f"no answer from port {port}" in capsys.readouterr().out


def test_a_file_that_cannot_be_written_is_told_and_nothing_else_depends_on_it(tmp_path: Path) -> None:
    with capture_logs() as logs:
        write_port(str(tmp_path / "missing" / "telemetry-port"), 9464)
    assert [(entry["event"], entry["reason"]) for entry in logs] == [
        ("ports.file_not_written", "No such file or directory")
    ]


def settings(**values: object) -> WorkerSettings:
    good: dict[str, object] = {
        "LEASE_SECRET": "0123456789abcdef",
        "AZURE_VOICELIVE_ENDPOINT": "ws://127.0.0.1:9",
        "SIP_LOCAL_ADDRESS": "127.0.0.1",
        "WORKER_PROCESSES": 2,
    }
    return WorkerSettings(_env_file=None, **good, **values)  # type: ignore[call-arg, arg-type]


def test_ports_that_somebody_listens_on_are_in_use() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sip, socket.create_server(("127.0.0.1", 0)) as telemetry:
        sip.bind(("127.0.0.1", 0))
        second = int(sip.getsockname()[1])
        taken = int(telemetry.getsockname()[1])
        assert port_in_use(settings(WORKER_SIP_PORT=second - 1)) == f"UDP {second}"
        assert port_in_use(settings(TELEMETRY_PORT=taken)) == f"TCP {taken}"
    assert port_in_use(settings(WORKER_SIP_PORT=second - 1, TELEMETRY_PORT=taken)) == ""
