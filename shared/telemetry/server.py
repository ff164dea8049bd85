"""The small HTTP server of a pod: `/metrics` for Prometheus, `/livez` and `/readyz` for an orchestrator's probes.

It is read-only, has no numbers and no texts of calls to show, and no way to sign in: keep its port inside the cluster.
"""

import socket
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import Any, cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

import structlog
from prometheus_client import CollectorRegistry, make_wsgi_app

from shared.errors import ConfigError

log = structlog.get_logger()

REQUEST_TIMEOUT_S = 5.0
"""Longest that a client may take to say what it wants."""

CLIENTS_MAX = 16
"""Clients at once; further ones are hung up on."""

Check = Callable[[], str]
"""Returns why not, in one line; empty when all is well."""


class TelemetryServer:
    """Listens from the start on, in threads of its own, until `close`."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry, live: Check, ready: Check) -> None:
        """Raises ConfigError when the port cannot be had. `live` and `ready` are called from other threads."""
        try:
            self._server = make_server(
                host, port, _routes(registry, live, ready), server_class=_server_class(host), handler_class=_Request
            )
        except OSError as error:
            raise ConfigError([f"TELEMETRY_PORT: {host} port {port}: {error.strerror}"]) from None
        self.port: int = self._server.server_port
        """The port it listens on, also when any free one was asked for."""
        self._thread = threading.Thread(target=self._server.serve_forever, name="telemetry", daemon=True)
        self._thread.start()
        log.info("telemetry.listening", host=host, port=self.port)

    def close(self) -> None:
        """Stops listening; returns within a second."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _routes(
    registry: CollectorRegistry, live: Check, ready: Check
) -> Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]:
    metrics = make_wsgi_app(registry)
    checks = {"/livez": live, "/readyz": ready}

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            return cast(Iterable[bytes], metrics(environ, start_response))
        if path in checks:
            reason = checks[path]()
            status = HTTPStatus.SERVICE_UNAVAILABLE if reason else HTTPStatus.OK
            return _text(start_response, status, reason or "ok")
        return _text(start_response, HTTPStatus.NOT_FOUND, "there are /metrics, /livez and /readyz")

    return application


def _text(start_response: StartResponse, status: HTTPStatus, text: str) -> Iterable[bytes]:
    start_response(f"{status.value} {status.phrase}", [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{text}\n".encode()]


class _Request(WSGIRequestHandler):
    timeout = REQUEST_TIMEOUT_S

    def log_message(self, format: str, *args: Any) -> None:
        """Probes and scrapes are not worth a line."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, *args: Any) -> None:
        self._room = threading.BoundedSemaphore(CLIENTS_MAX)
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up in the middle is its own business."""
        log.debug("telemetry.request_failed", exc_info=True)


class _ServerV6(_Server):
    address_family = socket.AF_INET6


def _server_class(host: str) -> type[_Server]:
    return _ServerV6 if ":" in host else _Server
