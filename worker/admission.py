"""Which calls this worker takes: a valid token, a claimed lease, a free slot.

It does not answer the call; `worker/call.py` does, with the status of the error raised here.
"""

import structlog

from shared.clock import now_ms
from shared.control.leases import Leases
from shared.errors import ControlUnavailable, NoCapacity
from shared.ids import CallId, WorkerId
from shared.messages import Lease
from shared.token import verify

log = structlog.get_logger()


class Admission:
    """This worker's slots, counted here as well as in Redis: the last word when Redis cannot be asked."""

    def __init__(self, worker_id: WorkerId, capacity: int, secret: str, leases: Leases) -> None:
        self._worker_id = worker_id
        self._capacity = capacity
        self._secret = secret
        self._leases = leases
        self._held: dict[CallId, Lease] = {}
        self._claiming: set[CallId] = set()
        self.draining = False
        """No new calls are taken."""

    @property
    def held(self) -> list[Lease]:
        """The claimed leases of the calls this worker carries; a renewal must not overtake a claim."""
        return [lease for call_id, lease in self._held.items() if call_id not in self._claiming]

    async def admit(self, call_id: CallId, token: str) -> Lease:
        """Returns the lease, claimed; raises TokenInvalid or LeaseLost (403), NoCapacity (503)."""
        lease = verify(token, self._secret, worker_id=self._worker_id, call_id=call_id, now_ms=now_ms())
        if self.draining or len(self._held) >= self._capacity or call_id in self._held:
            raise NoCapacity("draining" if self.draining else "no free slot")
        self._held[call_id] = lease  # before the first await, so that two INVITEs cannot both take the last slot
        self._claiming.add(call_id)
        try:
            await self._leases.claim(lease)
        except ControlUnavailable:
            # The token proves a dispatcher placed the call here; renewal enters the lease once Redis is back.
            log.warning("lease.claimed_without_redis", call_id=call_id, trace_id=lease.trace_id)
        except BaseException:
            del self._held[call_id]
            raise
        finally:
            self._claiming.discard(call_id)
        return lease

    def update(self, lease: Lease) -> None:
        """Takes what is new in the lease of a call that runs: renewals tell it."""
        if lease.call_id in self._held:
            self._held[lease.call_id] = lease

    def forget(self, lease: Lease) -> None:
        """Frees the slot of a call that has ended."""
        self._held.pop(lease.call_id, None)
