"""Who may talk to the dispatcher, and how fast: allowed networks, INVITE rates, worker addresses.

It reads no clock and no packet; addresses and `now` are given.
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

from dispatcher.sip.actions import Address

MAX_SOURCES = 10_000
"""Sources that are remembered; the one unheard of for longest is forgotten first and starts with a full bucket."""

MAX_WORKERS = 10_000
"""Worker addresses that are remembered."""

REMEMBERED_S = 600.0
"""How long a worker's address is known after it left the table. Longer calls are routed by their flow token."""


class Admission:
    """The allow list, and one token bucket of new INVITEs per source."""

    def __init__(self, networks: Sequence[IPv4Network | IPv6Network], rate: float, *, max_sources: int = MAX_SOURCES):
        """`rate` is in INVITEs per second; a source may send one second's worth at once."""
        self._networks = networks
        self._rate = rate
        self._burst = max(rate, 1.0)
        self._max_sources = max_sources
        self._peers: dict[str, bool] = {}
        self._buckets: dict[str, tuple[float, float]] = {}

    def __len__(self) -> int:
        """How much is remembered of sources."""
        return len(self._peers) + len(self._buckets)

    def is_peer(self, host: str) -> bool:
        """Whether `host` is an address in an allowed network; a name is not."""
        known = self._peers.get(host)
        if known is None:
            if len(self._peers) >= self._max_sources:
                del self._peers[next(iter(self._peers))]
            known = self._peers[host] = self._in_networks(host)
        return known

    def admits(self, host: str, now: float) -> bool:
        """Counts a new INVITE from `host`; False when it sent too many."""
        tokens, then = self._buckets.pop(host, (self._burst, now))
        tokens = min(self._burst, tokens + (now - then) * self._rate)
        if len(self._buckets) >= self._max_sources:
            del self._buckets[next(iter(self._buckets))]
        admitted = tokens >= 1.0
        self._buckets[host] = (tokens - 1.0 if admitted else tokens, now)
        return admitted

    def _in_networks(self, host: str) -> bool:
        try:
            address = ip_address(host)
        except ValueError:
            return False
        return any(address in network for network in self._networks)


class WorkerAddresses:
    """Where workers are, and where they were until recently, so that a BYE still reaches one that left the table."""

    def __init__(self) -> None:
        self._last_seen: dict[Address, float] = {}
        self._hosts: frozenset[str] = frozenset()

    def update(self, addresses: Iterable[Address], now: float) -> None:
        """Takes over the worker table's addresses and forgets those that left it long ago."""
        changed = False
        for address in addresses:
            changed |= self._last_seen.pop(address, None) is None
            self._last_seen[address] = now
        while self._last_seen:
            oldest = next(iter(self._last_seen))
            if len(self._last_seen) <= MAX_WORKERS and now - self._last_seen[oldest] <= REMEMBERED_S:
                break
            del self._last_seen[oldest]
            changed = True
        if changed:
            self._hosts = frozenset(address.host for address in self._last_seen)

    def knows(self, address: Address) -> bool:
        """Whether a worker listens there, or did."""
        return address in self._last_seen

    def has_host(self, host: str) -> bool:
        """Whether a worker listens on any port of `host`, or did."""
        return host in self._hosts
