"""Placement: which worker gets a call, as a pure function over the worker table.

It takes no slot and asks nobody; `offers.py` tries to lease what is chosen and asks again when it lost.
"""

import zlib
from collections.abc import Collection, Mapping, Sequence

from shared.choices import PlacementPolicy
from shared.control.rows import WorkerRow
from shared.ids import WorkerId
from shared.states import WorkerState

_NOTHING: Mapping[str, str] = {}
_NOBODY: Mapping[WorkerId, int] = {}


def choose(
    rows: Sequence[WorkerRow],
    *,
    policy: PlacementPolicy,
    exclude: Collection[WorkerId] = (),
    taken: Mapping[WorkerId, int] = _NOBODY,
    labels: Mapping[str, str] = _NOTHING,
    salt: str = "",
) -> WorkerId | None:
    """Returns the worker that gets the call, None when no worker that is alive, ready and suitable has room.

    Load is taken slots by capacity; `taken` adds what was leased since `rows` were read. `spread` prefers the lowest
    load, `pack` the highest. Of equal workers `salt` picks one: always the same for the same salt, each as often as the
    others over many salts. A worker must have all `labels`.
    """
    loads: dict[WorkerId, float] = {}
    for row in rows:
        record = row.record
        if record.state is WorkerState.READY and row.alive and record.worker_id not in exclude:
            used = row.leased + taken.get(record.worker_id, 0)
            if used < record.capacity and labels.items() <= record.labels.items():
                loads[record.worker_id] = used / record.capacity
    if not loads:
        return None
    best = min(loads.values()) if policy is PlacementPolicy.SPREAD else max(loads.values())
    equals = sorted(worker_id for worker_id, load in loads.items() if load == best)
    return equals[zlib.crc32(salt.encode()) % len(equals)]
