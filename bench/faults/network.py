"""Hosts of their own on one machine: network namespaces on a switch, and cables that can be pulled.

    we ── switch ──┬── host            10.x.y.1 is ours, the hosts have the next addresses
                   └── host

The switch is in a namespace of its own: a firewall of this machine (Docker's, say) is not to judge what crosses it.

`Network.cut` parts two of them and leaves the rest: what one sends to the other is lost without an error, as in a
network that breaks. It needs Linux, iproute2 and root, and knows nothing of what runs on the hosts.
"""

import itertools
import json
import os
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

PREFIX_BITS = 24

COMMAND_TIMEOUT_S = 10.0

_NOWHERE = "02:00:00:00:00:01"
"""A hardware address that no interface has: what is sent to it is lost on the switch."""

_DEVICE = "eth0"
_BRIDGE = "switch"

_POLL_S = 0.01


class NetworkUnavailable(Exception):
    """Network namespaces cannot be made here; the text says why."""


@dataclass(frozen=True, slots=True)
class Host:
    """One namespace on the switch."""

    name: str
    address: str

    def command(self, argv: Sequence[str]) -> list[str]:
        """Returns what to start in order to run `argv` on this host. The pid is that of `argv` itself."""
        return ["ip", "netns", "exec", self.name, *argv]


class Network:
    """A switch and its hosts: `with Network() as network`; nothing is left of it afterwards, whatever happened inside.

    Every method raises NetworkUnavailable. Processes on the hosts are to be ended before the network is; there is one
    network of a process at a time.
    """

    def __init__(self) -> None:
        number = os.getpid() % 65536
        self._tag = f"vp{number:x}"
        self._subnet = f"10.{64 + number % 64}.{number // 64 % 256}"
        self._numbers = itertools.count(2)
        self._stack = ExitStack()
        self.address = f"{self._subnet}.1"
        """Where processes on the hosts reach us."""

    def __enter__(self) -> Self:
        self._switch = f"{self._tag}s"
        with ExitStack() as stack:
            self._namespace(stack, self._switch)
            _ip("-n", self._switch, "link", "add", _BRIDGE, "type", "bridge")
            _ip("-n", self._switch, "link", "set", _BRIDGE, "up")
            cable = self._cable(self.address)
            ours = f"{self._tag}o"
            self._lay(stack, cable, ours, str(os.getpid()))
            _ip("address", "add", f"{self.address}/{PREFIX_BITS}", "dev", ours)
            _ip("link", "set", ours, "up")
            self._wait_until_up(cable)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def host(self) -> Host:
        """Returns a new host, on the network."""
        number = next(self._numbers)
        host = Host(f"{self._tag}h{number}", f"{self._subnet}.{number}")
        cable = self._cable(host.address)
        with ExitStack() as stack:
            self._namespace(stack, host.name)
            self._lay(stack, cable, _DEVICE, host.name)
            _ip("-n", host.name, "link", "set", "lo", "up")
            _ip("-n", host.name, "address", "add", f"{host.address}/{PREFIX_BITS}", "dev", _DEVICE)
            _ip("-n", host.name, "link", "set", _DEVICE, "up")
            self._wait_until_up(cable)
            self._stack.push(stack.pop_all())
        return host

    def cut(self, one: Host, other: Host) -> None:
        """Parts two hosts, both ways; they reach everybody else as before."""
        for host, peer in ((one, other), (other, one)):
            entry = ("to", peer.address, "lladdr", _NOWHERE, "dev", _DEVICE, "nud", "permanent")
            _ip("-n", host.name, "neighbour", "replace", *entry)

    def restore(self, one: Host, other: Host) -> None:
        """Joins two hosts that were parted."""
        for host, peer in ((one, other), (other, one)):
            _ip("-n", host.name, "neighbour", "del", peer.address, "dev", _DEVICE)

    def unplug(self, host: Host) -> None:
        """Takes a host off the network; it goes on alone."""
        _ip("-n", self._switch, "link", "set", self._cable(host.address), "down")

    def plug(self, host: Host) -> None:
        """Puts a host back on the network; who looked for it meanwhile finds it within a second (ARP)."""
        cable = self._cable(host.address)
        _ip("-n", self._switch, "link", "set", cable, "up")
        self._wait_until_up(cable)

    def _namespace(self, stack: ExitStack, name: str) -> None:
        _ip("netns", "add", name)
        stack.callback(_ip, "netns", "del", name)

    def _lay(self, stack: ExitStack, cable: str, device: str, where: str) -> None:
        """Lays a cable from the switch to a new device in a namespace: that of a name, or of a process."""
        _ip("-n", self._switch, "link", "add", cable, "type", "veth", "peer", "name", device, "netns", where)
        stack.callback(_ip, "-n", self._switch, "link", "del", cable)
        _ip("-n", self._switch, "link", "set", cable, "master", _BRIDGE, "up")

    def _cable(self, address: str) -> str:
        """Returns the name of the switch's end of it."""
        return f"{self._tag}c{address.rpartition('.')[2]}"

    def _wait_until_up(self, cable: str) -> None:
        """Returns once the switch passes on what comes over a cable; the kernel takes its time to notice."""
        deadline = time.monotonic() + COMMAND_TIMEOUT_S
        while True:
            [link] = json.loads(_ip("-n", self._switch, "-j", "-d", "link", "show", cable))
            if link["operstate"] == "UP" and link["linkinfo"]["info_slave_data"]["state"] == "forwarding":
                return
            if time.monotonic() > deadline:
                raise NetworkUnavailable(f"{cable} does not come up")
            time.sleep(_POLL_S)


def _ip(*arguments: str) -> str:
    """Runs iproute2 and returns what it printed."""
    try:
        done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S)
    except FileNotFoundError:
        raise NetworkUnavailable("ip is not installed (Debian: iproute2)") from None
    except subprocess.TimeoutExpired:
        raise NetworkUnavailable(f"ip {' '.join(arguments)}: no end after {COMMAND_TIMEOUT_S:.0f} s") from None
    if done.returncode:
        reason = done.stderr.strip() or f"exit code {done.returncode}"
        root = "" if os.geteuid() == 0 else " (network namespaces need root)"
        raise NetworkUnavailable(f"ip {' '.join(arguments)}: {reason}{root}")
    return done.stdout
