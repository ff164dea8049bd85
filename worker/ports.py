"""The pod's port block: leased from Redis before a worker starts, kept for as long as the pod runs, given back.

It has a thread of its own, so that the supervisor never waits for Redis. It says which ports are the pod's and opens
none of them. A pod without NODE_NAME has the ports of its settings, at once and for good.
"""

import asyncio
import errno
import os
import secrets
import socket
import threading
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import structlog

from shared.backoff import delay_s
from shared.control import keys
from shared.control.connection import connect
from shared.control.ports import PortBlocks
from shared.errors import ControlUnavailable
from shared.settings import WorkerSettings

log = structlog.get_logger()

RETRY_FIRST_S = 0.5
RETRY_MAX_S = 5.0
"""Delay before it is tried again to get a block; doubles with each time in a row."""

T = TypeVar("T")


class PodPorts:
    """Leases a block for the length of a `with`; `settings` are the pod's once it has one."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings: WorkerSettings | None = None if settings.node_name else settings
        """The settings with the ports of the block; None while there is none."""
        self.failed = False
        """Whether there will be no block, for a reason that waiting does not mend."""
        self._given = settings
        # By chance in part: a pod that was started again must not take what its predecessor has for its own, since
        # somebody of that may still be there.
        self._owner = f"{settings.pod}-{secrets.token_hex(4)}"
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ports")
        self._trouble = ""
        self._in_use: set[str] = set()

    def __enter__(self) -> Self:
        if self.settings is None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()  # two answers of Redis at most, which have their deadlines

    def _run(self) -> None:
        try:
            with asyncio.Runner() as self._runner:
                redis = connect(self._given.redis, client_name="voicepool-ports")
                try:
                    self._hold(PortBlocks(redis, self._given.node_name, self._owner))
                finally:
                    self._runner.run(redis.aclose())
        except Exception:
            log.exception("ports.failed")
            self.failed = self.settings is None

    def _hold(self, blocks: PortBlocks) -> None:
        block = self._lease(blocks)
        if block is None:
            return
        self.settings = self._given.in_block(block)
        log.info("ports.leased", block=block, sip_port=self.settings.worker_sip_port)
        self._keep(blocks, block)
        try:
            self._ask(blocks.release(block))
        except ControlUnavailable as error:  # it lapses
            self._note(str(error))

    def _lease(self, blocks: PortBlocks) -> int | None:
        """Returns a block whose ports are free on this machine too; None when the pod is told to stop before."""
        failures = 0
        while not self._stopping.is_set():
            try:
                for _ in range(self._given.port_blocks):  # which gives each that is free, as one given back comes last
                    block = self._ask(blocks.take(self._given.port_blocks))
                    if block is None:
                        self._note("no block is free")
                        break
                    if self._usable(block):
                        self._note("")
                        return block
                    self._ask(blocks.release(block))
            except ControlUnavailable as error:
                self._note(str(error))
            failures += 1
            self._stopping.wait(delay_s(failures, first_s=RETRY_FIRST_S, longest_s=RETRY_MAX_S))
        return None

    def _keep(self, blocks: PortBlocks, block: int) -> None:
        """Renews the lease until the pod is told to stop. The pod keeps its ports in any case: it listens on them."""
        while not self._stopping.wait(keys.PORT_BLOCK_RENEW_INTERVAL_S):
            try:
                self._note("" if self._ask(blocks.keep(block)) else "another pod has the block")
            except ControlUnavailable as error:
                self._note(str(error))

    def _usable(self, block: int) -> bool:
        """Whether nobody listens on the block's ports, such as another pool, or a pod that Redis has forgotten."""
        port = port_in_use(self._given.in_block(block))
        if port and port not in self._in_use:
            log.warning("ports.block_in_use", block=block, port=port)
            self._in_use.add(port)
        return not port

    def _ask(self, question: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(question)

    def _note(self, trouble: str) -> None:
        """Logs what has changed only: one line for an outage, however long."""
        if trouble and trouble != self._trouble:
            told = log.error if self.settings else log.warning
            told("ports.not_kept" if self.settings else "ports.waiting", reason=trouble)
        elif self._trouble and not trouble:
            log.info("ports.kept" if self.settings else "ports.free")
        self._trouble = trouble


def write_port(file: str, port: int | None) -> None:
    """Writes the pod's telemetry port into a file for its probes; nothing in it says that there is none yet.

    Without a name it does nothing. What a start before this one has left there may be another pod's port by now.
    """
    if not file:
        return
    try:
        Path(f"{file}.new").write_text(f"{port or ''}\n", "ascii")
        os.replace(f"{file}.new", file)  # a probe sees the one or the other
    except OSError as error:
        log.error("ports.file_not_written", reason=error.strerror)


def port_in_use(settings: WorkerSettings) -> str:
    """Returns which of the ports that a pod with these settings listens on somebody has, such as "UDP 5070"; or "".

    RTP ports are not looked at: they are open only while there are calls, and single ones may be anybody's.
    """
    first = settings.worker_sip_port
    for port in range(first, first + settings.processes):
        if _is_bound(settings.sip_local_address, port, socket.SOCK_DGRAM):
            return f"UDP {port}"
    if settings.telemetry_port and _is_bound(settings.telemetry_host, settings.telemetry_port, socket.SOCK_STREAM):
        return f"TCP {settings.telemetry_port}"
    return ""


def _is_bound(host: str, port: int, kind: socket.SocketKind) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, kind) as probe:
        if kind is socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # ended connections do not count
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE  # what else is wrong, the one who listens there has to say
    return False
