"""KEDA itself, operator, metrics adapter and webhooks, as processes beside a control plane that knows its definitions.

Each signs in with the token of KEDA's own service account, and has the rights of KEDA's own roles.
"""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import yaml

from admin.ports import free_tcp_port
from tests.deploy.cluster.build import KEDA
from tests.deploy.cluster.metrics_api import EXTERNAL, certificates, registered
from tests.deploy.cluster.plane import HERE, START_S, Plane
from tests.deploy.cluster.process import running
from tests.deploy.go_modules import module_files, program

NAMESPACE = "keda"

SERVICE = "keda-metrics-apiserver"


@contextmanager
def running_keda(plane: Plane, proxy: str) -> Iterator[None]:
    """Runs KEDA for the block.

    Its scalers send their plain HTTP requests to `proxy`, which knows the cluster's Services.
    """
    _install(plane)
    metrics_port, serving_port, webhook_port = free_tcp_port(), free_tcp_port(), free_tcp_port()
    operator_probe, webhook_probe = free_tcp_port(), free_tcp_port()
    shown = certificates(plane, SERVICE, NAMESPACE)
    token = plane.kubectl("create", "token", "keda-operator", "-n", NAMESPACE, "--duration=2h").strip()
    kubeconfig = plane.as_token(token).environment["KUBECONFIG"]
    environment = {
        "KUBECONFIG": kubeconfig, "WATCH_NAMESPACE": "", "POD_NAMESPACE": NAMESPACE,
        "KEDA_CLUSTER_OBJECT_NAMESPACE": NAMESPACE, "HTTP_PROXY": proxy,
        "http_proxy": proxy, "NO_PROXY": "", "no_proxy": "",
    }  # fmt: skip
    # fmt: off
    operator: list[str | Path] = [
        program(KEDA, "keda"), "--zap-log-level=info", f"--cert-dir={shown}",
        f"--metrics-bind-address={HERE}:{free_tcp_port()}", f"--health-probe-bind-address={HERE}:{operator_probe}",
        f"--metrics-service-bind-address={HERE}:{metrics_port}",
    ]
    adapter: list[str | Path] = [
        program(KEDA, "keda-adapter"), f"--bind-address={HERE}", f"--secure-port={serving_port}",
        f"--port={free_tcp_port()}", f"--metrics-service-address={HERE}:{metrics_port}", f"--cert-dir={shown}",
        f"--client-ca-file={shown / 'ca.crt'}", f"--tls-cert-file={shown / 'tls.crt'}",
        f"--tls-private-key-file={shown / 'tls.key'}",
        *(f"--{whose}-kubeconfig={kubeconfig}" for whose in ("authentication", "authorization", "lister")),
    ]
    webhooks: list[str | Path] = [
        program(KEDA, "keda-webhooks"), f"--cert-dir={shown}", f"--port={webhook_port}",
        f"--metrics-bind-address={HERE}:{free_tcp_port()}", f"--health-probe-bind-address={HERE}:{webhook_probe}",
    ]
    # fmt: on
    with (
        running(operator, plane.directory / "keda.log", environment) as operating,
        running(adapter, plane.directory / "keda-adapter.log", environment) as serving,
        running(webhooks, plane.directory / "keda-webhooks.log", environment) as checking,
    ):
        operating.await_ready(lambda: _is_up(f"http://{HERE}:{operator_probe}/readyz"), START_S)
        checking.await_ready(lambda: _is_up(f"http://{HERE}:{webhook_probe}/readyz"), START_S)
        with registered(plane, EXTERNAL, SERVICE, NAMESPACE, serving_port, serving), _asked(plane, webhook_port):
            yield


def _install(plane: Plane) -> None:
    """Namespace, service account and roles, from KEDA's own files."""
    config = module_files(KEDA) / "config"
    for part in ("general/namespace.yaml", "service_account/service_account.yaml", "rbac/role.yaml",
                 "rbac/role_binding.yaml", "metrics-server/role.yaml", "metrics-server/role_binding.yaml"):  # fmt: skip
        plane.kubectl("apply", "-f", config / part)


@contextmanager
def _asked(plane: Plane, port: int) -> Iterator[None]:
    """Has the API server ask KEDA's webhooks for the block, of what KEDA's own file names, and fail without them."""
    given = yaml.safe_load((module_files(KEDA) / "config/webhooks/validation_webhooks.yaml").read_text())
    authority = base64.b64encode(plane.authority.certificate.read_bytes()).decode()
    for webhook in given["webhooks"]:
        path = webhook["clientConfig"]["service"]["path"]
        webhook["clientConfig"] = {"url": f"https://{HERE}:{port}{path}", "caBundle": authority}
        webhook["failurePolicy"] = "Fail"
    plane.kubectl("apply", "-f", "-", given=yaml.safe_dump(given))
    try:
        yield
    finally:
        plane.kubectl("delete", "validatingwebhookconfiguration", given["metadata"]["name"])


def _is_up(url: str) -> bool:
    try:
        with urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
