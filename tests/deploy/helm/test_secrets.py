"""What the chart looks up in the cluster: Secrets that it generated, and the number of pods that an autoscaler wants.

Both are kept by every later upgrade. Helm's `lookup` asks an API server; here one of a few lines, which has what the
test puts there.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import helm_python as helm
import pytest

from admin.api.tokens import parse
from tests.deploy.helm.chart import NAMESPACE, RELEASE, Object, chart, objects, objects_in, one

GENERATED = ("lease", "redis", "admin")


class ApiServer(ThreadingHTTPServer):
    """Kubernetes, as far as `lookup` asks it: which resources there are, and single objects."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.there: dict[str, Object] = {}

    def put(self, resource: str, item: Object) -> None:
        """Makes an object be there."""
        group = "/api/v1" if item["apiVersion"] == "v1" else f"/apis/{item['apiVersion']}"
        self.there[f"{group}/namespaces/{NAMESPACE}/{resource}/{item['metadata']['name']}"] = item


class _Answers(BaseHTTPRequestHandler):
    server: ApiServer
    protocol_version = "HTTP/1.1"

    _LISTS = {  # noqa: RUF012
        "/version": {"major": "1", "minor": "29", "gitVersion": "v1.29.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {
            "kind": "APIGroupList",
            "apiVersion": "v1",
            "groups": [
                {
                    "name": "apps",
                    "versions": [{"groupVersion": "apps/v1", "version": "v1"}],
                    "preferredVersion": {"groupVersion": "apps/v1", "version": "v1"},
                }
            ],
        },
        "/api/v1": {
            "kind": "APIResourceList",
            "groupVersion": "v1",
            "resources": [{"name": "secrets", "kind": "Secret", "namespaced": True, "verbs": ["get"]}],
        },
        "/apis/apps/v1": {
            "kind": "APIResourceList",
            "groupVersion": "apps/v1",
            "resources": [{"name": "deployments", "kind": "Deployment", "namespaced": True, "verbs": ["get"]}],
        },
    }

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        found: Any = self._LISTS.get(path) or self.server.there.get(path)
        missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
        body = json.dumps(found or missing).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with ApiServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _on(server: ApiServer, values: dict[str, Any]) -> list[Object]:
    host, port = server.server_address[:2]
    with helm.Config(kube_apiserver=f"http://{host!s}:{port}", namespace=NAMESPACE, storage_driver="memory") as config:
        files = config.render(chart(), values, name=RELEASE, namespace=NAMESPACE, is_upgrade=True)
    return list(objects_in({path.split("/templates/")[1]: text for path, text in files.items()}))


def test_an_upgrade_keeps_what_was_generated(server: ApiServer) -> None:
    installed = {name: one(_on(server, {}), "Secret", name) for name in GENERATED}
    assert installed["lease"]["data"] != one(_on(server, {}), "Secret", "lease")["data"]
    for secret in installed.values():
        server.put("secrets", secret)
    upgraded = _on(server, {"worker": {"replicas": 5}})
    for name in GENERATED:
        assert one(upgraded, "Secret", name)["data"] == installed[name]["data"]


def test_an_autoscalers_number_of_pods_survives_an_upgrade(server: ApiServer) -> None:
    values = {"autoscaling": {"type": "keda"}}
    deployment = one(_on(server, values), "Deployment", "worker")
    assert "replicas" not in deployment["spec"]
    server.put("deployments", {**deployment, "spec": {**deployment["spec"], "replicas": 7}})
    assert one(_on(server, values), "Deployment", "worker")["spec"]["replicas"] == 7


def test_the_tokens_that_are_generated_are_those_of_the_file() -> None:
    secret = one(objects({}), "Secret", "admin")
    data = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    tokens = {token.role.value: token for token in parse(data["tokens"])}
    for role in ("read", "operate"):
        assert tokens[role].digest == hashlib.sha256(data[f"{role}-token"].encode()).digest()


def test_nothing_secret_stands_in_what_is_no_secret() -> None:
    values = {
        "redis": {"trial": {"enabled": False}, "url": "redis://voicepool:hunter2@redis.example"},
        "voiceLive": {"endpoint": "https://example.org", "apiKey": "k3y-of-the-resource"},
        "simulator": {"enabled": False},
    }
    for item in objects(values):
        if item["kind"] != "Secret":
            assert "hunter2" not in json.dumps(item) and "k3y-of-the-resource" not in json.dumps(item)
