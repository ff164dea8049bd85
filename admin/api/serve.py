"""The HTTP API as a process: its socket, its signals, its end."""

import ipaddress
import logging
import signal
import socket
import time
from pathlib import Path

import structlog
import uvicorn

from admin.api.app import make_app
from admin.api.settings import AdminSettings
from admin.api.tokens import TokenFile
from shared import logs
from shared.errors import ConfigError
from shared.systemd import Unit

CONNECTIONS_MAX = 200
"""Connections at once; those beyond get 503."""

STOP_S = 5
"""How long requests may still take once the process was told to stop."""

log = structlog.get_logger()


def serve(settings: AdminSettings, *, insecure_loopback: bool = False) -> None:
    """Serves until SIGTERM or Ctrl-C; raises ConfigError when it must not or cannot begin.

    Without tokens it serves on a loopback address only, and only when `insecure_loopback` asks for that.
    """
    tokens = _tokens(settings, insecure_loopback)
    listening = _listen(settings.admin_host, settings.admin_port)
    host, port = listening.getsockname()[:2]
    unit = Unit()

    async def turned() -> None:
        unit.turned(time.monotonic(), f"listening on {host}, port {port}")

    logs.configure("INFO")  # whatever LOG_LEVEL says: the audit log is written at INFO
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    config = uvicorn.Config(
        make_app(settings.redis, tokens, lambda: server.should_exit),
        loop="uvloop",
        http="h11",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # anybody could write an address of his choice into the audit log
        limit_concurrency=CONNECTIONS_MAX,
        timeout_graceful_shutdown=STOP_S,
        callback_notify=turned,
        timeout_notify=1,
    )
    server = uvicorn.Server(config)
    # uvicorn raises the signal that ended it once more: it ends this process as asked for, which is no failure.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: None)
    if tokens is None:
        log.warning("admin.without_tokens")
    log.info("admin.listening", host=host, port=port)
    server.run(sockets=[listening])
    log.info("admin.stopped")


def _tokens(settings: AdminSettings, insecure_loopback: bool) -> TokenFile | None:
    if settings.admin_tokens_file:
        return TokenFile(Path(settings.admin_tokens_file))
    if not insecure_loopback:
        raise ConfigError(["ADMIN_TOKENS_FILE: is missing; see voicepool api token, or --insecure-loopback"])
    if not ipaddress.ip_address(settings.admin_host).is_loopback:
        raise ConfigError(["ADMIN_HOST: must be a loopback address with --insecure-loopback"])
    return None


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise ConfigError([f"ADMIN_PORT: cannot listen on {host}:{port}: {error.strerror}"]) from error
