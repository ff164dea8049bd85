"""Every Redis key and every lifetime of the control plane: who writes it, who reads it, when it dies.

It does not talk to Redis. All keys carry one hash tag, so that a script may touch several of them in Redis Cluster too.
"""

from shared.ids import CallId, LeaseId, WorkerId

HEARTBEAT_INTERVAL_S = 1.0
"""How often a worker says that it is alive."""

HEARTBEAT_TTL_S = 3.5
"""A worker silent for this long gets no lease, and its leases are freed: three heartbeats may be missed."""

OFFER_TTL_S = 8.0
"""A lease that no worker has claimed by then is freed. Longer than the dispatcher's silence timer for one worker."""

LEASE_TTL_S = 30.0
"""A claimed lease that has not been renewed for this long is freed."""

LEASE_RENEW_INTERVAL_S = 8.0
"""How often a worker renews the leases of its calls."""

REAP_INTERVAL_S = 1.0
"""How often each dispatcher frees what dead workers and lost offers left behind."""

WATCH_TTL_S = 2.0
"""Nobody has reaped for this long: Redis or every dispatcher was away, and silence is counted from anew.

Without it the first reap after an outage would take every worker, which could not send a heartbeat either, for dead.
"""

RELEASED_TTL_S = 3600.0
"""How long a lease is remembered as released: longer than a process that was cut off takes to come back or to die."""

RECORDS_MAX = 10_000
"""Call records kept in the stream; older ones are trimmed."""

RECORD_RETENTION_S = 7 * 24 * 3600.0
"""How long a call record is kept, unless the dispatchers are told otherwise (RECORD_RETENTION_H)."""

assert LEASE_TTL_S > 3 * HEARTBEAT_TTL_S > 9 * HEARTBEAT_INTERVAL_S
assert LEASE_TTL_S > 3 * LEASE_RENEW_INTERVAL_S
assert WATCH_TTL_S >= 2 * REAP_INTERVAL_S
assert HEARTBEAT_TTL_S > WATCH_TTL_S + HEARTBEAT_INTERVAL_S  # a shorter outage than WATCH_TTL_S must kill nobody

_POOL = "{voicepool}"


def workers() -> str:
    """Sorted set worker id -> Redis time of its last heartbeat in ms.

    Written by register and heartbeat, read by table, acquire and reap; the entry dies with unregister or reap.
    """
    return f"{_POOL}:workers"


def registrations() -> str:
    """Hash worker id -> packed WorkerRecord as registered.

    Written by register, read by table and whatever takes a slot; the entry dies with unregister or reap.
    """
    return f"{_POOL}:registrations"


def states() -> str:
    """Hash worker id -> WorkerState as of the last heartbeat; newer than the one in the registration.

    Written by register and heartbeat, read by table and acquire; the entry dies with unregister or reap.
    """
    return f"{_POOL}:states"


def healths() -> str:
    """Hash worker id -> packed WorkerHealth as of the last heartbeat.

    Written by heartbeat, read by table; the entry dies with unregister or reap.
    """
    return f"{_POOL}:healths"


def loads() -> str:
    """Hash worker id -> number of taken slots: the size of `slots`, so that the table is four fixed keys.

    Written with every change of `slots`, read by table; the entry dies when the worker's last slot is free.
    """
    return f"{_POOL}:loads"


def slots(worker_id: WorkerId) -> str:
    """Set of the call ids that hold a slot of this worker. Its size is the load that is compared with the capacity.

    Written with the lease, read by acquire and reap; dies when the last slot is free, at the latest through `lapses`.
    """
    return f"{_POOL}:slots:{worker_id}"


def lapses() -> str:
    """Sorted set call id -> Redis time in ms at which its lease lapses, if it is not claimed or renewed by then.

    Written by acquire, claim, renew and register, read by reap; the entry dies with the lease. Every lease is in here,
    so that none outlives its worker and all dispatchers by more than LEASE_TTL_S after a dispatcher is back.
    """
    return f"{_POOL}:lapses"


def call(call_id: CallId) -> str:
    """Hash of the one lease the call holds: `lease_id`, `worker_id`, packed `lease`, `offered_at_ms`, `state`.

    The state is offered or claimed. One key per call, so that no call can hold two leases. Written by acquire, or by
    claim, renew and register for what Redis had forgotten; dies with release, replacement or reap.
    """
    return f"{_POOL}:call:{call_id}"


def released(lease_id: LeaseId) -> str:
    """Marks a lease that is over, so that it is not released, recorded or entered again.

    Written by release, replacement and reap, read by whatever changes a lease; lives RELEASED_TTL_S.
    """
    return f"{_POOL}:released:{lease_id}"


def watched() -> str:
    """Redis time in ms since which somebody has reaped without a gap. Written and read by reap; lives WATCH_TTL_S."""
    return f"{_POOL}:watched"


def records() -> str:
    """Stream of packed CallRecords, field `record`.

    Written by release and reap, read by Records; never dies, trimmed to about RECORDS_MAX with every record, and by
    age with every reap.
    """
    return f"{_POOL}:records"


def of_worker(worker_id: WorkerId) -> list[str]:
    """Returns KEYS[1] to KEYS[4] of every script that takes or gives back slots of this worker."""
    return [registrations(), loads(), lapses(), slots(worker_id)]


def of_lease(call_id: CallId, lease_id: LeaseId) -> list[str]:
    """Returns the two keys such a script needs for each lease."""
    return [call(call_id), released(lease_id)]


def ms(seconds: float) -> int:
    """Returns a lifetime the way Redis counts it."""
    return round(seconds * 1000)
