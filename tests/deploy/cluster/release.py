"""A release of the chart in a namespace of its own: installed, upgraded, looked at, removed."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.cluster.kubectl import Refused
from tests.deploy.cluster.plane import Plane

CHART = Path(__file__).parents[3] / "helm" / "voicepool"

NAME = "voicepool"

INSTALL_S = 90
"""Longest wait until all pods of a release are ready. None of them runs anything."""


@dataclass(frozen=True)
class Release:
    """The chart in one namespace; it may not be installed yet."""

    plane: Plane
    namespace: str

    def apply(self, values: Mapping[str, Any], *options: str) -> None:
        """Installs the chart, or upgrades it to these values and no others, and waits until all pods are ready.

        Raises Refused with the namespace's warnings if that does not come about.
        """
        file = self.plane.directory / f"{self.namespace}-values.yaml"
        file.write_text(yaml.safe_dump(dict(values)))
        try:
            # fmt: off
            self.plane.helm("upgrade", "--install", NAME, CHART, "--namespace", self.namespace, "--values", file,
                            "--wait", f"--timeout={INSTALL_S}s", *options)
            # fmt: on
        except Refused as error:
            raise Refused(f"{error}\n{self.warnings()}") from None

    def test(self) -> str:
        """Runs `helm test` and returns what it says; raises Refused if a test fails."""
        return self.plane.helm("test", NAME, "--namespace", self.namespace, f"--timeout={INSTALL_S}s")

    def uninstall(self) -> None:
        """Removes the release, and waits until its objects are gone."""
        self.plane.helm("uninstall", NAME, "--namespace", self.namespace, "--wait", f"--timeout={INSTALL_S}s")

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        """kubectl in the namespace."""
        return self.plane.kubectl("-n", self.namespace, *arguments, given=given)

    def get(self, *arguments: str) -> Any:
        """What `kubectl get` finds in the namespace."""
        return self.plane.kubectl.json("-n", self.namespace, "get", *arguments)

    def pods(self, component: str) -> dict[str, Any]:
        """The pods of a part (dispatcher, worker, ...) that are not being removed, by name."""
        found = self.get("pods", "-l", selector(component))["items"]
        return {pod["metadata"]["name"]: pod for pod in found if "deletionTimestamp" not in pod["metadata"]}

    def warnings(self) -> str:
        """What the controllers had to complain about."""
        return self.kubectl("get", "events", "--field-selector=type=Warning", "-o", "custom-columns=:.reason,:.message")


def selector(component: str) -> str:
    """The labels of a part's pods."""
    return f"app.kubernetes.io/instance={NAME},app.kubernetes.io/component={component}"


@contextmanager
def namespace(plane: Plane, name: str, pod_security: str) -> Iterator[Release]:
    """Makes a namespace whose pods have to meet a level of the Pod Security Standards, for the block."""
    labels = {f"pod-security.kubernetes.io/{mode}": pod_security for mode in ("enforce", "warn")}
    content = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
    plane.kubectl("apply", "-f", "-", given=yaml.safe_dump(content))
    # Pods are refused without one, and its controller needs a moment.
    plane.kubectl("wait", "--for=create", "serviceaccount/default", "-n", name, "--timeout=30s")
    yield Release(plane, name)
    plane.kubectl("delete", "namespace", name, "--wait=false")
