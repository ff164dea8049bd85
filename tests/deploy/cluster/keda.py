"""KEDA itself, operator and metrics adapter, as processes beside a control plane that knows its definitions.

Each signs in with the token of KEDA's own service account, and has the rights of KEDA's own roles.
"""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from urllib.request import urlopen

import yaml

from admin.ports import free_tcp_port
from tests.deploy.cluster.build import KEDA, module_files, program
from tests.deploy.cluster.kubectl import Refused
from tests.deploy.cluster.plane import HERE, START_S, Plane
from tests.deploy.cluster.process import running

NAMESPACE = "keda"

METRICS = "v1beta1.external.metrics.k8s.io"

SERVICE = "keda-metrics-apiserver"


@contextmanager
def running_keda(plane: Plane, proxy: str) -> Iterator[None]:
    """Runs KEDA for the block.

    Its scalers send their plain HTTP requests to `proxy`, which knows the cluster's Services.
    """
    _install(plane)
    metrics_port, serving_port, probe_port = free_tcp_port(), free_tcp_port(), free_tcp_port()
    certificates = _certificates(plane)
    token = plane.kubectl("create", "token", "keda-operator", "-n", NAMESPACE, "--duration=2h").strip()
    kubeconfig = plane.as_token(token).environment["KUBECONFIG"]
    environment = {
        "KUBECONFIG": kubeconfig, "WATCH_NAMESPACE": "", "POD_NAMESPACE": NAMESPACE,
        "KEDA_CLUSTER_OBJECT_NAMESPACE": NAMESPACE, "HTTP_PROXY": proxy,
        "http_proxy": proxy, "NO_PROXY": "", "no_proxy": "",
    }  # fmt: skip
    # fmt: off
    operator: list[str | Path] = [
        program(KEDA, "keda"), "--zap-log-level=info", f"--cert-dir={certificates}",
        f"--metrics-bind-address={HERE}:{free_tcp_port()}", f"--health-probe-bind-address={HERE}:{probe_port}",
        f"--metrics-service-bind-address={HERE}:{metrics_port}",
    ]
    adapter: list[str | Path] = [
        program(KEDA, "keda-adapter"), f"--bind-address={HERE}", f"--secure-port={serving_port}",
        f"--port={free_tcp_port()}", f"--metrics-service-address={HERE}:{metrics_port}", f"--cert-dir={certificates}",
        f"--client-ca-file={certificates / 'ca.crt'}", f"--tls-cert-file={certificates / 'tls.crt'}",
        f"--tls-private-key-file={certificates / 'tls.key'}",
        *(f"--{whose}-kubeconfig={kubeconfig}" for whose in ("authentication", "authorization", "lister")),
    ]
    # fmt: on
    with (
        running(operator, plane.directory / "keda.log", environment) as operating,
        running(adapter, plane.directory / "keda-adapter.log", environment) as serving,
    ):
        operating.await_ready(lambda: _is_up(f"http://{HERE}:{probe_port}/readyz"), START_S)
        _register(plane, serving_port)
        serving.await_ready(lambda: _answers(plane), START_S)
        yield


def _install(plane: Plane) -> None:
    """Namespace, service account and roles, from KEDA's own files."""
    config = module_files(KEDA) / "config"
    for part in ("general/namespace.yaml", "service_account/service_account.yaml", "rbac/role.yaml",
                 "rbac/role_binding.yaml", "metrics-server/role.yaml", "metrics-server/role_binding.yaml"):  # fmt: skip
        plane.kubectl("apply", "-f", config / part)


def _certificates(plane: Plane) -> Path:
    """A directory with what operator and adapter show each other, and the adapter to the API server."""
    directory = Path(mkdtemp(prefix="keda-", dir=plane.directory))
    pair = plane.authority.issue("keda", hosts=["localhost", HERE, f"{SERVICE}.{NAMESPACE}.svc"])
    (directory / "tls.crt").symlink_to(pair.certificate)
    (directory / "tls.key").symlink_to(pair.key)
    (directory / "ca.crt").symlink_to(plane.authority.certificate)
    return directory


def _register(plane: Plane, port: int) -> None:
    """Tells the API server that the adapter serves external metrics, here."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": SERVICE, "namespace": NAMESPACE},
        # An endpoint may not be on loopback; a name may.
        "spec": {"type": "ExternalName", "externalName": "localhost"},
    }
    api_service = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": METRICS},
        "spec": {
            "group": "external.metrics.k8s.io", "version": "v1beta1",
            "groupPriorityMinimum": 100, "versionPriority": 100,
            "service": {"name": SERVICE, "namespace": NAMESPACE, "port": port},
            "caBundle": base64.b64encode(plane.authority.certificate.read_bytes()).decode(),
        },
    }  # fmt: skip
    plane.kubectl("apply", "-f", "-", given=yaml.safe_dump_all([service, api_service]))


def _is_up(url: str) -> bool:
    try:
        with urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _answers(plane: Plane) -> bool:
    try:
        plane.kubectl("wait", "--for=condition=Available", f"apiservice/{METRICS}", "--timeout=1s")
    except Refused:
        return False
    return True
