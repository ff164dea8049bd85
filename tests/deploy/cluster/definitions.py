"""Kinds that others define and the chart makes objects of, so that the API server checks these too."""

from pathlib import Path

from tests.deploy.cluster.build import KEDA, PROMETHEUS_OPERATOR
from tests.deploy.cluster.plane import START_S, Plane
from tests.deploy.go_modules import module_files

PROMETHEUS_KINDS = ("podmonitors", "probes", "prometheuses", "prometheusrules", "servicemonitors")

ESTABLISHED = '{.status.conditions[?(@.type=="Established")].status}'


def install(plane: Plane) -> None:
    """Installs the definitions of KEDA and of the Prometheus Operator, as they published them."""
    files = [*(module_files(KEDA) / "config/crd/bases").glob("*.yaml")]
    published = module_files(PROMETHEUS_OPERATOR) / "example/prometheus-operator-crd"
    files += [published / f"monitoring.coreos.com_{kind}.yaml" for kind in PROMETHEUS_KINDS]
    # They do not fit into the annotation of a client-side apply.
    plane.kubectl("apply", "--server-side", *_each("-f", files))
    # Not --for=condition=Established, which fails on one that has no conditions yet.
    plane.kubectl("wait", "crd", "--all", f"--for=jsonpath={ESTABLISHED}=True", f"--timeout={START_S:.0f}s")


def _each(option: str, files: list[Path]) -> list[str | Path]:
    return [word for file in files for word in (option, file)]
