"""Metrics APIs that a program on this machine serves: the API server passes on what the autoscaler asks it for."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

import yaml

from tests.deploy.cluster.kubectl import Refused
from tests.deploy.cluster.plane import HERE, START_S, Plane
from tests.deploy.cluster.process import Log

CUSTOM = "v1beta1.custom.metrics.k8s.io"
EXTERNAL = "v1beta1.external.metrics.k8s.io"


def certificates(plane: Plane, service: str, namespace: str) -> Path:
    """A directory with what a server of this Service shows: tls.crt and tls.key, and ca.crt that has signed them."""
    directory = Path(mkdtemp(prefix=f"{service}-", dir=plane.directory))
    pair = plane.authority.issue(service, hosts=["localhost", HERE, f"{service}.{namespace}.svc"])
    (directory / "tls.crt").symlink_to(pair.certificate)
    (directory / "tls.key").symlink_to(pair.key)
    (directory / "ca.crt").symlink_to(plane.authority.certificate)
    return directory


@contextmanager
def registered(plane: Plane, api: str, service: str, namespace: str, port: int, server: Log) -> Iterator[None]:
    """Has an API (VERSION.GROUP) served by a program that listens on `port`; the block begins when it answers."""
    version, group = api.split(".", 1)
    # An endpoint may not be on loopback; a name may.
    name = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": service, "namespace": namespace},
        "spec": {"type": "ExternalName", "externalName": "localhost"},
    }
    api_service = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": api},
        "spec": {
            "group": group, "version": version, "groupPriorityMinimum": 100, "versionPriority": 100,
            "service": {"name": service, "namespace": namespace, "port": port},
            "caBundle": base64.b64encode(plane.authority.certificate.read_bytes()).decode(),
        },
    }  # fmt: skip
    plane.kubectl("apply", "-f", "-", given=yaml.safe_dump_all([name, api_service]))
    try:
        server.await_ready(lambda: _answers(plane, api), START_S)
        yield
    finally:
        plane.kubectl("delete", "apiservice", api)  # one that does not answer holds up the removal of namespaces


def _answers(plane: Plane, api: str) -> bool:
    try:
        plane.kubectl("wait", "--for=condition=Available", f"apiservice/{api}", "--timeout=1s")
    except Refused:
        return False
    return True
