"""Prometheus, which finds the pods of a release as the Prometheus Operator has it do, and the adapter that asks it.

The Operator makes the scrape configuration out of the chart's monitors. Prometheus is Debian's, which has to be told
its targets (`discovery.py`). The adapter has the rules that the chart gives its users.
"""

import base64
import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import yaml

from admin.ports import free_tcp_port
from tests.deploy.alerts.watch import Prometheus
from tests.deploy.cluster.build import PROMETHEUS_ADAPTER, PROMETHEUS_OPERATOR
from tests.deploy.cluster.discovery import discovery
from tests.deploy.cluster.kubectl import Refused
from tests.deploy.cluster.metrics_api import CUSTOM, EXTERNAL, certificates, registered
from tests.deploy.cluster.plane import HERE, START_S
from tests.deploy.cluster.process import running
from tests.deploy.cluster.release import CHART, Release
from tests.deploy.go_modules import module_files, program

RULES = CHART / "files" / "prometheus-adapter.yaml"

NAME = "watching"
"""Of the object that the Operator makes a configuration for."""

NAMESPACE, SERVICE = "monitoring", "prometheus-adapter"
"""Where the adapter's own files have it."""

ADAPTER_FILES = (
    "service-account", "cluster-role", "cluster-role-binding", "cluster-role-binding-delegator",
    "role-binding-auth-reader",
)  # fmt: skip


class Watched:
    """A release with monitors, and who reads its metrics; each runs for a block."""

    def __init__(self, release: Release, proxy: str) -> None:
        """`proxy` leads to what runs in the pods, at their addresses."""
        self._release = release
        self._plane = release.plane
        self._proxy = proxy
        self._directory = Path(mkdtemp(prefix="prometheus-", dir=release.plane.directory))
        self._port = free_tcp_port()

    @property
    def url(self) -> str:
        """Prometheus's, whether it runs or not."""
        return f"http://{HERE}:{self._port}"

    def configure(self) -> None:
        """Has the Operator make the configuration; it ends when that is done, and takes in no later change."""
        rights = module_files(PROMETHEUS_OPERATOR) / "example/rbac"
        for who in ("prometheus", "prometheus-operator"):
            for part in ("service-account", "cluster-role", "cluster-role-binding"):
                self._plane.kubectl("apply", "-f", rights / who / f"{who}-{part}.yaml")
        self._release.kubectl("apply", "-f", "-", given=yaml.safe_dump(_instance()))
        command: list[str | Path] = [
            program(PROMETHEUS_OPERATOR, "prometheus-operator"), f"--web.listen-address={HERE}:{free_tcp_port()}",
            "--kubelet-endpoints=false",
        ]  # fmt: skip
        environment = {"KUBECONFIG": self._kubeconfig("prometheus-operator", "default")}
        with running(command, self._directory / "operator.log", environment) as operator:
            operator.await_ready(lambda: bool(self._scrape_configs()), START_S)

    @contextmanager
    def prometheus(self) -> Iterator[Prometheus]:
        """Runs Prometheus; one that runs again goes on with what the last one knew."""
        with discovery(self._release, self._token("prometheus", "default")) as found_at:
            jobs = [self._job(each, found_at) for each in self._scrape_configs()]
            (self._directory / "prometheus.yml").write_text(yaml.safe_dump({"scrape_configs": jobs}))
            with self._process() as prometheus:
                yield prometheus

    def _job(self, made: dict[str, Any], found_at: str) -> dict[str, Any]:
        """A job as the Operator has made it, which finds its targets by HTTP and reaches them through the proxy."""
        [source] = made.pop("kubernetes_sd_configs")
        targets = {"url": f"{found_at}/{source['role']}", "refresh_interval": "1s"}
        job: dict[str, Any] = {**made, "http_sd_configs": [targets], "proxy_url": self._proxy}
        # Filled in by the process that the Operator puts beside Prometheus.
        filled: dict[str, Any] = json.loads(json.dumps(job).replace("$(SHARD)", "0"))
        return filled

    @contextmanager
    def _process(self) -> Iterator[Prometheus]:
        command = [
            "prometheus", f"--config.file={self._directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={self._directory / 'tsdb'}", f"--web.listen-address={HERE}:{self._port}",
        ]  # fmt: skip
        asked = Prometheus(self._directory, self.url)
        with running(command, self._directory / "prometheus.log") as process:
            process.await_ready(asked.ready, START_S)
            yield asked

    @contextmanager
    def adapter(self) -> Iterator[Callable[[], int]]:
        """Runs the adapter, which serves custom and external metrics by the rules of the chart.

        Yields what says how often it was asked for figures and got none.
        """
        manifests = module_files(PROMETHEUS_ADAPTER) / "deploy/manifests"
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        self._plane.kubectl("apply", "-f", "-", given=yaml.safe_dump(namespace))
        for part in ADAPTER_FILES:
            self._plane.kubectl("apply", "-f", manifests / f"{part}.yaml")
        rules = yaml.safe_load(RULES.read_text())["rules"]
        config = self._directory / "adapter.yml"
        config.write_text(yaml.safe_dump({"rules": rules["custom"], "externalRules": rules["external"]}))
        port, shown = free_tcp_port(), certificates(self._plane, SERVICE, NAMESPACE)
        kubeconfig = self._kubeconfig(SERVICE, NAMESPACE)
        command: list[str | Path] = [
            program(PROMETHEUS_ADAPTER, "prometheus-adapter"), f"--config={config}", f"--prometheus-url={self.url}",
            "--metrics-relist-interval=1s", "--metrics-max-age=10s",
            f"--bind-address={HERE}", f"--secure-port={port}",
            f"--tls-cert-file={shown / 'tls.crt'}", f"--tls-private-key-file={shown / 'tls.key'}",
            *(f"--{whose}-kubeconfig={kubeconfig}" for whose in ("authentication", "authorization", "lister")),
        ]  # fmt: skip
        log = self._directory / "adapter.log"
        with (
            running(command, log) as adapter,
            registered(self._plane, CUSTOM, SERVICE, NAMESPACE, port, adapter),
            registered(self._plane, EXTERNAL, SERVICE, NAMESPACE, port, adapter),
        ):
            yield lambda: log.read_text().count("unable to fetch metrics from prometheus")

    def _scrape_configs(self) -> list[dict[str, Any]]:
        """What the Operator has made of the chart's monitors, as far as it has."""
        try:
            secret = self._release.get("secret", f"prometheus-{NAME}")
        except Refused:
            return []
        text = gzip.decompress(base64.b64decode(secret["data"]["prometheus.yaml.gz"]))
        found: list[dict[str, Any]] = yaml.safe_load(text)["scrape_configs"]
        return found

    def _kubeconfig(self, account: str, namespace: str) -> str:
        return self._plane.as_token(self._token(account, namespace)).environment["KUBECONFIG"]

    def _token(self, account: str, namespace: str) -> str:
        return self._plane.kubectl("create", "token", account, "-n", namespace, "--duration=2h").strip()


def _instance() -> dict[str, Any]:
    """A Prometheus that takes all monitors of its namespace. It has no pods: what would run there runs here."""
    everything: dict[str, Any] = {}
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "Prometheus",
        "metadata": {"name": NAME},
        "spec": {
            "version": "v2.42.0",  # what Debian 12 has: newer ones can be told more
            "replicas": 0,
            "podMonitorSelector": everything,
            "serviceMonitorSelector": everything,
        },
    }
