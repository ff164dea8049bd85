"""What a pod shows of itself, and that it costs nothing where nobody wants it."""

import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from shared.errors import ConfigError
from shared.settings import WorkerSettings, load
from shared.states import WorkerState
from shared.telemetry import catalogue
from shared.telemetry.recorder import Recorder
from tests.notify_socket import Listener
from worker import ipc, pod_telemetry
from worker.pod_telemetry import PodTelemetry


def settings(**more: object) -> WorkerSettings:
    own: dict[str, object] = {
        "lease_secret": "0123456789abcdef",
        "voicelive_endpoint": "https://example.invalid",
        "telemetry_port": 0,
        "pod_name": "pod",
    }
    return load(WorkerSettings, **(own | more))


class Pod:
    """A pod's telemetry that listens."""

    def __init__(self) -> None:
        self.telemetry = PodTelemetry()
        with capture_logs() as logs:
            self.telemetry.open(settings())
        [listening] = [entry for entry in logs if entry["event"] == "telemetry.listening"]
        self._port = listening["port"]

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=5.0) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    @property
    def metrics(self) -> list[str]:
        return [line for line in self.get("/metrics")[1].splitlines() if line.startswith("voicepool_")]


@pytest.fixture
def pod() -> Iterator[Pod]:
    pod = Pod()
    yield pod
    pod.telemetry.close()


def measured(calls: int) -> ipc.Measured:
    notes = Recorder()
    notes.note(catalogue.CALLS_ACTIVE, calls)
    notes.note(catalogue.BARGE_INS, agent="desk")
    [piece] = ipc.pieces(notes.take())
    return piece


def test_a_pod_is_ready_while_one_worker_is(pod: Pod) -> None:
    assert pod.get("/readyz") == (503, "no worker is ready: none yet\n")
    pod.telemetry.turned([WorkerState.DRAINING, WorkerState.STARTING], 0, leaving=False)
    assert pod.get("/readyz") == (503, "no worker is ready: 1 draining, 1 starting\n")
    pod.telemetry.turned([WorkerState.DRAINING, WorkerState.READY], 0, leaving=False)
    assert pod.get("/readyz") == (200, "ok\n")
    pod.telemetry.turned([WorkerState.READY], 0, leaving=True)
    assert pod.get("/readyz") == (503, "the pod is leaving\n")


def test_systemd_is_told_what_the_probes_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    systemd = Listener(str(tmp_path / "notify"))
    telemetry = PodTelemetry()
    telemetry.turned([WorkerState.STARTING, WorkerState.STARTING], 0, leaving=False)
    telemetry.turned([WorkerState.READY, WorkerState.STARTING], 0, leaving=False)
    telemetry.turned([WorkerState.DRAINING, WorkerState.DRAINING], 12, leaving=True)
    told = systemd.told()
    systemd.close()
    assert told == [
        ["STATUS=no worker is ready: 2 starting; calls: 0", "WATCHDOG=1"],
        ["READY=1", "STATUS=workers ready: 1 of 2; calls: 0", "WATCHDOG=1"],
        ["STOPPING=1", "STATUS=draining; calls left: 12", "WATCHDOG=1"],
    ]


def test_a_pod_lives_while_its_supervisor_turns(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    pod.telemetry.turned([], 0, leaving=False)
    assert pod.get("/livez")[0] == 200
    monkeypatch.setattr(pod_telemetry, "STUCK_AFTER_S", -1.0)
    assert pod.get("/livez") == (503, "the supervisor has been stuck for 0 s\n")


def test_a_worker_that_is_gone_leaves_its_counters(pod: Pod) -> None:
    pod.telemetry.measured(0, measured(calls=3))
    pod.telemetry.measured(1, measured(calls=4))
    assert 'voicepool_calls_active{worker="1"} 4.0' in pod.metrics
    pod.telemetry.gone(1)
    pod.telemetry.restarted(1, "died")
    pod.telemetry.turned([WorkerState.READY, WorkerState.STOPPED], 0, leaving=False)
    assert 'voicepool_calls_active{worker="0"} 3.0' in pod.metrics
    assert not any(line.startswith('voicepool_calls_active{worker="1"') for line in pod.metrics)
    assert 'voicepool_barge_ins_total{agent="desk"} 2.0' in pod.metrics
    assert 'voicepool_worker_restarts_total{cause="died",worker="1"} 1.0' in pod.metrics
    assert 'voicepool_workers{state="stopped"} 1.0' in pod.metrics


def test_a_port_that_is_taken_is_a_bad_setting(pod: Pod) -> None:
    with pytest.raises(ConfigError, match="TELEMETRY_PORT"):
        PodTelemetry().open(settings(telemetry_port=pod._port))


def test_nobody_is_shown_anything_without_a_port_and_a_collector() -> None:
    telemetry = PodTelemetry()
    with capture_logs() as logs:
        telemetry.open(settings(telemetry_port=None))
        telemetry.turned([WorkerState.READY], 0, leaving=False)
        telemetry.measured(0, measured(calls=1))
        telemetry.close()
    assert logs == []


def modules_after(program: str) -> str:
    """Returns what of OpenTelemetry a fresh interpreter has in memory after a program."""
    wanted = "('opentelemetry.sdk', 'opentelemetry.exporter', 'prometheus_client')"
    told = f"print([name for name, loaded in sys.modules.items() if loaded and name.startswith({wanted})])"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{program}\n{told}"],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


def test_a_worker_begins_without_opentelemetry() -> None:
    begun = "from worker import boot\ntry: boot.main(None, 0, None)\nexcept AttributeError: pass"
    assert modules_after(f"{begun}\nassert 'worker.child' in sys.modules") == "[]"


def test_a_supervisor_has_nothing_of_its_workers_in_memory() -> None:
    modules_after("import worker.supervisor\nassert not {'worker.child', 'pjsua2', 'aiohttp'} & sys.modules.keys()")
