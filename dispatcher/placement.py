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


def takes_calls(row: WorkerRow) -> bool:
    """Whether a worker takes calls at all: alive, ready, and not late with those it has."""
    return row.alive and row.record.state is WorkerState.READY and not row.health.late


def reaches(row: WorkerRow, resources: Collection[str]) -> bool:
    """Whether a worker reaches one of these resources, if any are named."""
    return not resources or any(resource not in row.health.cut_off for resource in resources)


def choose(
    rows: Sequence[WorkerRow],
    *,
    policy: PlacementPolicy,
    exclude: Collection[WorkerId] = (),
    taken: Mapping[WorkerId, int] = _NOBODY,
    labels: Mapping[str, str] = _NOTHING,
    resources: Collection[str] = (),
    salt: str = "",
) -> WorkerRow | None:
    """Returns the worker that gets the call, None when no worker that takes calls and is suitable has room.

    Load is taken slots by capacity; `taken` adds what was leased since `rows` were read. `spread` prefers the lowest
    load, `pack` the highest. Of equal workers `salt` picks one: always the same for the same salt, each as often as the
    others over many salts. A worker must have all `labels`, and reach one of the `resources` if any are named.
    """
    loads: dict[WorkerId, float] = {}
    suitable: dict[WorkerId, WorkerRow] = {}
    for row in rows:
        record = row.record
        if not takes_calls(row) or record.worker_id in exclude or not labels.items() <= record.labels.items():
            continue
        if not reaches(row, resources):
            continue
        used = row.leased + taken.get(record.worker_id, 0)
        if used < record.capacity:
            loads[record.worker_id] = used / record.capacity
            suitable[record.worker_id] = row
    if not loads:
        return None
    best = min(loads.values()) if policy is PlacementPolicy.SPREAD else max(loads.values())
    equals = sorted(worker_id for worker_id, load in loads.items() if load == best)
    return suitable[equals[zlib.crc32(salt.encode()) % len(equals)]]
