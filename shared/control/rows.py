"""A row of the worker table, as placement decides on it.

It does no IO, so that a core that does none may import it; `workers.py` reads the rows.
"""

from dataclasses import dataclass, field

from shared.control import keys
from shared.messages import WorkerHealth, WorkerRecord


@dataclass(frozen=True, slots=True)
class WorkerRow:
    """One worker as the table shows it at one moment."""

    record: WorkerRecord
    """As registered, with the state of the last heartbeat."""
    leased: int
    """Slots taken, by offered and by claimed leases."""
    heartbeat_age_ms: int
    """Time since the last heartbeat, by Redis's clock."""
    health: WorkerHealth = field(default_factory=WorkerHealth)
    """As of the last heartbeat."""

    @property
    def alive(self) -> bool:
        """Whether the last heartbeat is recent enough for the worker to get leases."""
        return self.heartbeat_age_ms <= keys.ms(keys.HEARTBEAT_TTL_S)
