"""Which dispatcher a request is sent to: those of a proxy set in turn, or any of them as a balancer would have it.

    ProxySet    the one that is named; when it fails the next one (RFC 3263 section 4.3), as SBCs do
    Balancer    each datagram to a random one: a stateless UDP load balancer before replicas

Both decide and send nothing.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from bench.load.transaction import LIFETIME_S
from bench.load.wire import UdpAddress


@dataclass(frozen=True, slots=True)
class ProxySet:
    """Addresses that stand in for each other."""

    addresses: Sequence[UdpAddress] = ()
    silence_s: float = LIFETIME_S
    """How long one of them may say nothing before the next is tried: timers B and F. SBCs are set to less."""

    def order(self, named: UdpAddress) -> list[UdpAddress]:
        """Returns all addresses to try for a request that is to go to `named`, in turn."""
        if named not in self.addresses:
            return [named]
        first = self.addresses.index(named)
        return [*self.addresses[first:], *self.addresses[:first]]

    def pick(self, target: UdpAddress) -> UdpAddress:
        """Returns where one datagram of a request to `target` goes."""
        return target


class Balancer:
    """Addresses behind one; whichever of them is named, each datagram goes to a random one. Answers come directly."""

    silence_s = LIFETIME_S

    def __init__(self, addresses: Sequence[UdpAddress], draw: random.Random) -> None:
        self._addresses = addresses
        self._draw = draw

    def order(self, named: UdpAddress) -> list[UdpAddress]:
        """Returns all addresses to try: there is but one."""
        return [named]

    def pick(self, target: UdpAddress) -> UdpAddress:
        """Returns where one datagram of a request to `target` goes."""
        return self._draw.choice(self._addresses) if target in self._addresses else target
