"""A Kubernetes API server as far as PATCH of pods goes: HTTPS, bearer tokens, merge patches; and what may go wrong.

It is started on a port of its own, with an authority of its own, and gives the service account that a pod would have.
"""

import json
import ssl
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.integration.redis.conftest import Authority

NAMESPACE = "voice"
PATIENCE_S = 20.0
BODY_MAX = 100_000


class ApiServer:
    """Running; `pods` are the annotations of each pod there is."""

    def __init__(self, authority: Authority, service_account: Path) -> None:
        """Listens, and puts token, ca.crt and namespace into the directory."""
        self.pods: dict[str, dict[str, str]] = {}
        self.service_account = service_account
        self._changed = threading.Condition()
        self._statuses: list[int] = []
        self._faults: deque[int] = deque()
        self._resume = threading.Event()
        self._resume.set()
        service_account.mkdir()
        (service_account / "ca.crt").write_bytes(authority.certificate.read_bytes())
        (service_account / "namespace").write_text(NAMESPACE)
        self.rotate_token("first")
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*authority.issue("kubernetes", "IP:127.0.0.1"))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, name="API server")
        self._thread.start()

    @property
    def environment(self) -> dict[str, str]:
        """What the kubelet puts into every container's environment."""
        return {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self._server.server_port)}

    def rotate_token(self, token: str) -> None:
        """Accepts this token only from now on, and gives it to the pod."""
        self._token = token
        (self.service_account / "token").write_text(f"{token}\n")

    def answer_with(self, *statuses: int) -> None:
        """Answers the next requests with these, whatever they ask."""
        self._faults.extend(statuses)

    def hang(self) -> None:
        """Answers nobody until `resume`."""
        self._resume.clear()

    def resume(self) -> None:
        """Answers again, also those that still wait."""
        self._resume.set()

    def requests(self, count: int) -> list[int]:
        """Returns the statuses of all answers so far, once there are so many."""
        with self._changed:
            arrived = self._changed.wait_for(lambda: len(self._statuses) >= count, PATIENCE_S)
            assert arrived, f"{self._statuses}, not {count}"
            return list(self._statuses)

    def annotations(self, pod: str, expected: dict[str, str]) -> None:
        """Returns once a pod has these annotations, and no others."""
        with self._changed:
            arrived = self._changed.wait_for(lambda: self.pods[pod] == expected, PATIENCE_S)
            assert arrived, f"{self.pods[pod]}, not {expected}"

    def close(self) -> None:
        """Stops."""
        self._resume.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _patch(self, path: str, headers: Any, body: bytes) -> tuple[int, dict[str, Any]]:
        if headers["Authorization"] != f"Bearer {self._token}":
            return 401, {}
        if headers["Content-Type"] != "application/merge-patch+json":
            return 415, {}
        if self._faults:
            return self._faults.popleft(), {"kind": "Status", "message": "no"}
        place, _, query = path.partition("?")
        name = place.removeprefix(f"/api/v1/namespaces/{NAMESPACE}/pods/")
        if name not in self.pods or query != "fieldManager=voicepool":
            return 404, {}
        patch = json.loads(body)
        assert set(patch) == {"metadata"} and set(patch["metadata"]) == {"annotations"}
        self.pods[name] |= patch["metadata"]["annotations"]
        return 200, {"kind": "Pod", "metadata": {"name": name, "annotations": self.pods[name]}}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PATCH(self) -> None:
                body = self.rfile.read(min(int(self.headers["Content-Length"]), BODY_MAX))
                server._resume.wait()
                with server._changed:
                    status, answer = server._patch(self.path, self.headers, body)
                    server._statuses.append(status)
                    server._changed.notify_all()
                text = json.dumps(answer).encode()
                try:
                    self.send_response(status)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(text)))
                    self.end_headers()
                    self.wfile.write(text)
                except OSError:  # it has waited long enough
                    self.close_connection = True

            def log_message(self, format: str, *args: Any) -> None:
                """Says nothing."""

        return Handler


@contextmanager
def running_api_server(authority: Authority, directory: Path) -> Iterator[ApiServer]:
    """Runs one for the block."""
    server = ApiServer(authority, directory / "serviceaccount")
    try:
        yield server
    finally:
        server.close()
