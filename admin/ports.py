"""Which ports are free on this host right now.

It reserves nothing: whoever takes the port has to bear that another process was quicker.
"""

import errno
import os
import socket
from itertools import chain


class PortTaken(Exception):
    """Another process has the port, and it was asked for by number."""


def free_tcp_port(host: str = "127.0.0.1") -> int:
    """Returns a TCP port that nobody listens on."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def free_udp_port(host: str, first: int, tries: int = 1) -> int:
    """Returns the first free UDP port from `first` on, of `tries` ports; raises PortTaken when none is."""
    for port in range(first, min(first + tries, 65536)):
        if _udp_port_is_free(host, port):
            return port
    raise PortTaken(f"UDP port {first} of {host} is taken" if tries == 1 else f"UDP ports from {first} are all taken")


def free_udp_range(host: str, count: int) -> int:
    """Returns the first of `count` free UDP ports in a row, below those the system hands out; raises PortTaken."""
    # Two processes that look at once look in places that do not overlap: until calls come all their ports are free, and
    # a worker would take RTP that is meant for the other's for its caller's.
    first_try = 16384 + os.getpid() % max(1, 12000 // count) * count
    for first in chain(range(first_try, 32000 - count, count), range(10000, first_try, count)):
        if all(_udp_port_is_free(host, port) for port in range(first, first + count)):
            return first
    raise PortTaken(f"{count} free UDP ports in a row are not to be had on {host}")


def _udp_port_is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True
