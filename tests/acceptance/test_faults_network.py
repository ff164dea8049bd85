"""Hosts of their own on one machine, and cables that are pulled."""

import json
import select
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bench.faults.network import Host, Network, NetworkUnavailable

PORT = 5555
PATIENCE_S = 5.0
LOST_AFTER_S = 0.3

LISTENER = f"""
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
    udp.bind(("0.0.0.0", {PORT}))
    print("up", flush=True)
    while True:
        print(udp.recvfrom(64)[1][0], flush=True)
"""

SENDER = f"""
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
    udp.sendto(b"x", (sys.argv[1], {PORT}))
"""


class Listener:
    """A process on a host that hears datagrams."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._popen = subprocess.Popen(
            host.command([sys.executable, "-c", LISTENER]), stdout=subprocess.PIPE, bufsize=0
        )
        assert self._said(PATIENCE_S) == "up"

    def hears(self, sender: Host) -> bool:
        """Whether one datagram arrives from there; after an outage it has to wait for ARP to ask again."""
        return self._hears(sender, PATIENCE_S)

    def misses(self, sender: Host) -> bool:
        """Whether one datagram from there is lost."""
        return not self._hears(sender, LOST_AFTER_S)

    def close(self) -> None:
        """Ends it."""
        self._popen.kill()
        self._popen.communicate()

    def _hears(self, sender: Host, timeout_s: float) -> bool:
        subprocess.run(sender.command([sys.executable, "-c", SENDER, self.host.address]), check=True)
        return self._said(timeout_s) == sender.address

    def _said(self, timeout_s: float) -> str:
        assert self._popen.stdout
        ready = select.select([self._popen.stdout], [], [], timeout_s)[0]
        return self._popen.stdout.readline().decode().strip() if ready else ""


def names() -> set[str]:
    """Returns all network namespaces and interfaces of this machine."""

    def shown(*command: str) -> set[str]:
        lines = json.loads(subprocess.run(["ip", "-j", *command], capture_output=True, check=True).stdout or "[]")
        return {line.get("ifname") or line["name"] for line in lines}

    return shown("netns", "list") | shown("link", "show")


def test_two_hosts_are_parted_and_joined_again_while_a_third_reaches_both() -> None:
    with Network() as network:
        one, other, third = network.host(), network.host(), network.host()
        listeners = [Listener(one), Listener(other)]
        try:
            assert listeners[1].hears(one) and listeners[0].hears(other)
            network.cut(one, other)
            assert listeners[1].misses(one) and listeners[0].misses(other)
            assert listeners[0].hears(third) and listeners[1].hears(third)
            network.restore(one, other)
            assert listeners[1].hears(one) and listeners[0].hears(other)
        finally:
            for listener in listeners:
                listener.close()


def test_a_host_is_unplugged_and_plugged_in_again() -> None:
    with Network() as network:
        one, other = network.host(), network.host()
        listener = Listener(other)
        try:
            network.unplug(other)
            assert listener.misses(one)
            network.plug(other)
            assert listener.hears(one)
        finally:
            listener.close()


def test_a_process_on_a_host_reaches_us_and_has_the_pid_it_was_started_with() -> None:
    with Network() as network, socket.create_server((network.address, 0)) as server:
        code = f"import os, socket; socket.create_connection({server.getsockname()!r}).send(b'%d' % os.getpid())"
        host = network.host()
        with subprocess.Popen(host.command([sys.executable, "-c", code])) as process:
            server.settimeout(PATIENCE_S)
            connection, (address, _) = server.accept()
            with connection:
                assert (address, int(connection.recv(64))) == (host.address, process.pid)


def test_nothing_is_left_even_after_a_failure() -> None:
    before = names()
    with pytest.raises(ZeroDivisionError), Network() as network:
        network.cut(network.host(), network.host())
        assert len(names() - before) == 4  # the namespaces of two hosts and of the switch, our end of its cable
        1 / 0  # noqa: B018
    assert names() == before


def test_a_machine_that_cannot_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NetworkUnavailable, match="iproute2"), Network():
        pass
    refusing = tmp_path / "ip"
    refusing.write_text("#!/bin/sh\necho 'Operation not permitted' >&2\nexit 2\n")
    refusing.chmod(0o755)
    with pytest.raises(NetworkUnavailable, match="Operation not permitted"), Network():
        pass
