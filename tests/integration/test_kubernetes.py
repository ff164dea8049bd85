"""The annotations of a pod, and an API server that takes them, refuses them, fails or hangs."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.integration.api_server import ApiServer, running_api_server
from tests.integration.redis.conftest import Authority
from worker import kubernetes
from worker.kubernetes import DELETION_COST, TELEMETRY_PORT, OwnPod, PodAnnotations

POD = "voicepool-worker-7d9c5b6f4-x2k8p"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The cluster's."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def server(authority: Authority, tmp_path: Path) -> Iterator[ApiServer]:
    """One that has the pod."""
    with running_api_server(authority, tmp_path) as server:
        server.pods[POD] = {}
        yield server


@pytest.fixture
def pod(server: ApiServer) -> OwnPod:
    """The pod, as it knows itself."""
    port = int(server.environment["KUBERNETES_SERVICE_PORT"])
    return OwnPod(name=POD, host="127.0.0.1", port=port, service_account=server.service_account)


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has it tell changes, and try again, without the pauses that spare real API servers."""
    monkeypatch.setattr(kubernetes, "INTERVAL_S", 0.01)
    monkeypatch.setattr(kubernetes, "RETRY_MAX_S", 0.05)


@pytest.mark.usefixtures("quickly")
def test_a_pods_calls_and_telemetry_port_become_its_annotations(server: ApiServer, pod: OwnPod) -> None:
    with PodAnnotations(pod) as annotations:
        annotations.note(0, None)
        server.annotations(POD, {DELETION_COST: "0"})
        annotations.note(7, 9466)
        server.annotations(POD, {DELETION_COST: "7", TELEMETRY_PORT: "9466"})
        annotations.note(6, 9466)
        server.annotations(POD, {DELETION_COST: "6", TELEMETRY_PORT: "9466"})


def test_the_first_change_is_told_at_once_and_those_that_follow_together(server: ApiServer, pod: OwnPod) -> None:
    with PodAnnotations(pod) as annotations:
        for calls in range(1, 50):
            annotations.note(calls, None)
            annotations.note(calls, None)
        began = time.monotonic()
        server.annotations(POD, {DELETION_COST: "49"})
        took_s = time.monotonic() - began
        statuses = server.requests(1)
        assert statuses == [200] or (statuses == [200, 200] and took_s >= kubernetes.INTERVAL_S - 1.0)


@pytest.mark.usefixtures("quickly")
def test_what_has_not_changed_is_not_told_again(server: ApiServer, pod: OwnPod) -> None:
    with PodAnnotations(pod) as annotations:
        for calls in (3, 3, 4):
            annotations.note(calls, None)
            server.annotations(POD, {DELETION_COST: str(calls)})
        assert server.requests(2) == [200, 200]


@pytest.mark.usefixtures("quickly")
@pytest.mark.parametrize(
    ("status", "hint"), [(401, "token"), (403, "verb patch on pods"), (404, "POD_NAME"), (409, ""), (500, "")]
)
def test_a_refusal_is_logged_once_with_what_to_do_and_tried_again(
    server: ApiServer, pod: OwnPod, status: int, hint: str
) -> None:
    server.answer_with(status, status, status)
    with capture_logs() as logs, PodAnnotations(pod) as annotations:
        annotations.note(5, None)
        server.annotations(POD, {DELETION_COST: "5"})
        assert server.requests(4) == [status, status, status, 200]
    assert [entry["event"] for entry in logs][:1] == ["kubernetes.pod_not_annotated"]
    assert [entry["event"] for entry in logs].count("kubernetes.pod_not_annotated") == 1
    assert f"status {status}" in logs[0]["reason"] and hint in logs[0]["reason"]
    assert "first" not in str(logs), "the token"


@pytest.mark.usefixtures("quickly")
def test_another_kind_of_failure_is_logged_too(server: ApiServer, pod: OwnPod) -> None:
    server.answer_with(500, 500, 403, 500)
    with capture_logs() as logs, PodAnnotations(pod) as annotations:
        annotations.note(5, None)
        server.annotations(POD, {DELETION_COST: "5"})
        annotations.note(6, None)  # told only after what came of the last one was noted
        server.annotations(POD, {DELETION_COST: "6"})
    reasons = [entry["reason"].partition(":")[0] for entry in logs if "reason" in entry]
    assert reasons == ["status 500", "status 403", "status 500"]
    assert logs[3]["event"] == "kubernetes.pod_annotated"


@pytest.mark.usefixtures("quickly")
def test_the_token_is_read_each_time_since_it_rotates(server: ApiServer, pod: OwnPod) -> None:
    with PodAnnotations(pod) as annotations:
        annotations.note(1, None)
        server.annotations(POD, {DELETION_COST: "1"})
        server.rotate_token("second")
        annotations.note(2, None)
        server.annotations(POD, {DELETION_COST: "2"})
    assert server.requests(2) == [200, 200]


@pytest.mark.usefixtures("quickly")
def test_a_server_that_hangs_is_given_up_on_and_asked_again(
    server: ApiServer, pod: OwnPod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes, "TIMEOUT_S", 0.2)
    server.hang()
    assert pod.annotate({DELETION_COST: "1"}) == "no answer: TimeoutError"
    with PodAnnotations(pod) as annotations:
        annotations.note(2, None)
        server.resume()
        server.annotations(POD, {DELETION_COST: "2"})


def test_nobody_waits_for_a_server_that_hangs(server: ApiServer, pod: OwnPod) -> None:
    server.hang()
    began = time.monotonic()
    with PodAnnotations(pod) as annotations:
        for calls in range(1000):
            annotations.note(calls, None)
    assert time.monotonic() - began < kubernetes.TIMEOUT_S
    server.resume()
    for thread in threading.enumerate():
        if thread.name == "pod-annotations":
            thread.join()


def test_only_the_clusters_own_authority_is_believed(pod: OwnPod, tmp_path_factory: pytest.TempPathFactory) -> None:
    stranger = Authority(tmp_path_factory.mktemp("stranger"))
    (pod.service_account / "ca.crt").write_bytes(stranger.certificate.read_bytes())
    assert pod.annotate({DELETION_COST: "1"}) == "no answer: SSLCertVerificationError"


def test_outside_kubernetes_there_is_no_service_account(tmp_path: Path) -> None:
    lonely = OwnPod(name=POD, host="127.0.0.1", port=9, service_account=tmp_path)
    assert lonely.annotate({DELETION_COST: "1"}) == "no service account: No such file or directory"
