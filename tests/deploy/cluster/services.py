"""Services of the cluster, for who asks by HTTP through a proxy: there is no network of pods to find them in.

It resolves what the test tells it, and balances nothing.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from tests.deploy.cluster.plane import HERE
from tests.deploy.cluster.release import Release

TIMEOUT_S = 10.0


def addresses(release: Release, service: str) -> list[str]:
    """What pods of other namespaces ask for to reach a Service: host:port for each of its ports."""
    ports = release.get("service", service)["spec"]["ports"]
    return [f"{service}.{release.namespace}.svc:{port['port']}" for port in ports]


@contextmanager
def service_proxy(upstream: Mapping[str, str]) -> Iterator[str]:
    """Runs a proxy for the block, and yields its URL: a GET for a host:port goes to its `upstream`, others get 502."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            target = urlsplit(self.path)  # a client sends the whole URL to a proxy
            if target.netloc not in upstream:
                self.send_error(502, "no such service")
                return
            token = {"Authorization": self.headers["Authorization"]} if "Authorization" in self.headers else {}
            try:
                answer: Any = urlopen(Request(upstream[target.netloc] + target.path, headers=token), timeout=TIMEOUT_S)
            except HTTPError as error:
                answer = error
            with answer:
                body = answer.read()
            self.send_response(answer.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    with listening(Handler) as url:
        yield url


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Has requests answered by `handler` for the block, each in a thread, and yields the URL."""
    with ThreadingHTTPServer((HERE, 0), handler) as server:
        thread = Thread(target=server.serve_forever, name=f"listening-{server.server_port}")
        thread.start()
        try:
            yield f"http://{HERE}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
