"""Kubernetes as a source of targets for a Prometheus that was built without it, as Debian's is: the same by HTTP.

It gives those labels that the configurations of the Prometheus Operator read, named and filled as Prometheus does.
"""

import json
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.request import Request, urlopen

from tests.deploy.cluster.release import Release
from tests.deploy.cluster.services import TIMEOUT_S, listening

PREFIX = "__meta_kubernetes"

Object = dict[str, Any]
Labels = dict[str, str]


@contextmanager
def discovery(release: Release, token: str) -> Iterator[str]:
    """Serves the targets of the release's namespace for the block: the role `pod` at URL/pod, `endpoints` likewise.

    It sees what `token` gives the right to.
    """
    namespace = _Namespace(release, token)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            targets = {"/pod": namespace.pods, "/endpoints": namespace.endpoints}[self.path]()
            body = json.dumps([{"targets": [labels.pop("__address__")], "labels": labels} for labels in targets])
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    with listening(Handler) as url:
        yield url


class _Namespace:
    def __init__(self, release: Release, token: str) -> None:
        self._url = f"{release.plane.url}/api/v1/namespaces/{release.namespace}"
        self._token = token
        self._tls = ssl.create_default_context(cafile=str(release.plane.authority.certificate))

    def pods(self) -> list[Labels]:
        """A target for each port that a container declares, and for each container that declares none."""
        targets = []
        for pod in self._objects("pods"):
            for container in pod["spec"]["containers"] if "podIP" in pod["status"] else []:
                for port in container.get("ports", [{}]):
                    address = ":".join(
                        str(part) for part in (pod["status"]["podIP"], port.get("containerPort")) if part
                    )
                    targets.append({"__address__": address, **_of_pod(pod, container, port.get("name", ""))})
        return targets

    def endpoints(self) -> list[Labels]:
        """A target for each address and port of a Service."""
        pods = {each["metadata"]["name"]: each for each in self._objects("pods")}
        services = {each["metadata"]["name"]: each for each in self._objects("services")}
        targets = []
        for each in self._objects("endpoints"):
            name = each["metadata"]["name"]
            for subset in each.get("subsets", []):
                for address in subset.get("addresses", []):
                    pod = pods[address["targetRef"]["name"]]
                    for port in subset["ports"]:
                        targets.append(
                            {
                                **_of_pod(pod, pod["spec"]["containers"][0], port["name"]),
                                **_of("service", services[name]),
                                "__address__": f"{address['ip']}:{port['port']}",
                                f"{PREFIX}_endpoint_port_name": port["name"],
                                f"{PREFIX}_endpoint_address_target_kind": address["targetRef"]["kind"],
                                f"{PREFIX}_endpoint_address_target_name": address["targetRef"]["name"],
                            }
                        )
        return targets

    def _objects(self, kind: str) -> list[Object]:
        request = Request(f"{self._url}/{kind}", headers={"Authorization": f"Bearer {self._token}"})
        with urlopen(request, timeout=TIMEOUT_S, context=self._tls) as answer:
            found: list[Object] = json.load(answer)["items"]
            return found


def _of_pod(pod: Object, container: Object, port: str) -> Labels:
    return {
        **_of("pod", pod),
        f"{PREFIX}_pod_ip": pod["status"]["podIP"],
        f"{PREFIX}_pod_phase": pod["status"]["phase"],
        f"{PREFIX}_pod_container_name": container["name"],
        f"{PREFIX}_pod_container_port_name": port,
    }


def _of(kind: str, item: Object) -> Labels:
    labels = {f"{PREFIX}_namespace": item["metadata"]["namespace"], f"{PREFIX}_{kind}_name": item["metadata"]["name"]}
    for field in ("label", "annotation"):
        for name, value in item["metadata"].get(f"{field}s", {}).items():
            cleaned = re.sub(r"\W", "_", name)
            labels[f"{PREFIX}_{kind}_{field}_{cleaned}"] = value
            labels[f"{PREFIX}_{kind}_{field}present_{cleaned}"] = "true"
    return labels
