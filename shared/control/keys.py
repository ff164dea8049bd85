"""Every Redis key and every lifetime of the control plane: who writes it, who reads it, when it dies.

It does not talk to Redis. All keys carry one hash tag, so that a script may touch several of them in Redis Cluster too.
"""

from collections.abc import Iterable

from shared.ids import CallId, DispatcherId, LeaseId, WorkerId

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

REAP_INTERVAL_S = 0.5
"""How often each dispatcher frees what dead workers and lost offers left behind."""

WATCH_TTL_S = 2.0
"""Nobody has reaped for this long: Redis or every dispatcher was away, and silence is counted from anew.

Without it the first reap after an outage would take every worker, which could not send a heartbeat either, for dead.
"""

RELEASED_TTL_S = 3600.0
"""How long a lease is remembered as released: longer than a process that was cut off takes to come back or to die."""

OVER_TTL_S = 40.0
"""How long a call is remembered as over: longer than a copy of its INVITE may be around, which is 64*T1, 32 s
(RFC 3261 section 17.1.1.2)."""

RECORDS_MAX = 10_000
"""Call records kept in the stream; older ones are trimmed."""

RECORD_RETENTION_S = 7 * 24 * 3600.0
"""How long a call record is kept, unless the dispatchers are told otherwise (RECORD_RETENTION_H)."""

EVENTS_MAX = 10_000
"""Events kept in the stream; older ones are trimmed."""

WAITING_TTL_S = 2.5
"""A call in a queue for a resource, for which nobody has asked for this long, is taken out: its dispatcher is gone."""

WAITING_MAX = 500
"""Calls that wait for one resource at most; the next one is refused."""

SESSION_WAIT_S = 0.5
"""How often a call asks again that waits for a session to end, of which nobody can say when."""

BLOCKED_MAX_S = 60.0
"""Longest a resource is left alone for a 429, whatever the service asks for: its limits are per minute."""

BUDGET_TTL_S = 3600.0
"""What is known of a resource's quota is forgotten after this long without anybody using it: it is whole again."""

ORPHAN_TTL_S = 120.0
"""How long it is tried to say BYE to the caller of a dead worker."""

ORPHAN_RETRY_S = 40.0
"""A BYE that a dispatcher has undertaken is given to another one after this long: longer than timer F (32 s)."""

PORT_BLOCK_TTL_S = 20.0
"""A port block whose pod has not said for this long that it has it is free again."""

PORT_BLOCK_RENEW_INTERVAL_S = 5.0
"""How often a pod says so."""

PORT_BLOCK_MEMORY_S = 3600.0
"""How long it is remembered when each port block of a machine was last in use."""

COMMANDS_MAX = 100
"""Commands kept for one process that does not read them."""

COMMAND_TTL_S = 1.5
"""A command that its process has not begun by then is not begun any more: nobody waits for it."""

COMMAND_KEY_TTL_S = 3600.0
"""How long commands and answers stay after the last one."""

assert COMMAND_TTL_S < 2.0  # an operator is told within two seconds that nobody answers
assert ORPHAN_TTL_S > 2 * ORPHAN_RETRY_S
assert LEASE_TTL_S > 3 * HEARTBEAT_TTL_S > 9 * HEARTBEAT_INTERVAL_S
assert LEASE_TTL_S > 3 * LEASE_RENEW_INTERVAL_S
assert PORT_BLOCK_TTL_S > 3 * PORT_BLOCK_RENEW_INTERVAL_S
assert PORT_BLOCK_MEMORY_S > PORT_BLOCK_TTL_S
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


def sessions() -> str:
    """Hash resource name -> number of leases that have it.

    Written with every change of a lease, read by acquire and the quota table; the entry dies with the last lease.
    """
    return f"{_POOL}:sessions"


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
    """Hash of the one lease the call holds: `lease_id`, `worker_id`, packed `lease`, `offered_at_ms`, `resource`,
    `state` (offered or claimed), `answered` once the answer was told as an event, and `supersedes`, the stream id of
    the record that a worker left which had the call before.

    One key per call, so that no call can hold two leases. Written by acquire, or by claim, renew and register for what
    Redis had forgotten; dies with release, replacement or reap.
    """
    return f"{_POOL}:call:{call_id}"


def released(lease_id: LeaseId) -> str:
    """Marks a lease that is over, so that it is not released, recorded or entered again.

    Written by release, replacement and reap, read by whatever changes a lease; lives RELEASED_TTL_S.
    """
    return f"{_POOL}:released:{lease_id}"


def over(call_id: CallId) -> str:
    """Says of a call that has a record whether it has ended for good: `final` when it was answered, or its caller
    waits no more; else the stream id of that record, which is taken back when another worker gets the call.

    Written with the record by release and reap, read by acquire and claim; dies with the next claim, or OVER_TTL_S
    after the record, or after the last acquire that found it not to be final.
    """
    return f"{_POOL}:over:{call_id}"


def watched() -> str:
    """Redis time in ms since which somebody has reaped without a gap. Written and read by reap; lives WATCH_TTL_S."""
    return f"{_POOL}:watched"


def records() -> str:
    """Stream of packed CallRecords, field `record`.

    Written by release and reap, read by Records; an entry may die with the next claim of its call (`over`), the stream
    never: it is trimmed to about RECORDS_MAX with every record, and by age with every reap.
    """
    return f"{_POOL}:records"


def events() -> str:
    """Stream of what happens in the pool: fields `event`, `at_ms` and what the event is about, all of them text.

    Written by the scripts in the step that makes it happen, and by dispatchers for calls they refuse; read by whoever
    wants to know. Never dies, trimmed to about EVENTS_MAX with every event.
    """
    return f"{_POOL}:events"


def dead_events() -> str:
    """Stream of events that a webhook's receiver did not take.

    Written by the webhook sender, read by operators; trimmed to about EVENTS_MAX.
    """
    return f"{_POOL}:dead-events"


def dispatchers() -> str:
    """Hash dispatcher id -> packed DispatcherRecord.

    Written by a dispatcher's heartbeat, read by workers and operators; the entry dies when it leaves or is silent for
    HEARTBEAT_TTL_S, the key BUDGET_TTL_S after the last one.
    """
    return f"{_POOL}:dispatchers"


def dispatcher_beats() -> str:
    """Sorted set dispatcher id -> Redis time of its last heartbeat in ms; lives and dies with `dispatchers`."""
    return f"{_POOL}:dispatcher-beats"


def quotas() -> str:
    """Hash resource name -> packed ResourceQuota, as dispatchers read it from the agent file.

    Written by a dispatcher's heartbeat, read by operators and by what workers spend; the entry dies when no dispatcher
    has named it for HEARTBEAT_TTL_S, the key BUDGET_TTL_S after the last heartbeat.
    """
    return f"{_POOL}:quotas"


def quota_beats() -> str:
    """Sorted set resource name -> Redis time in ms at which it was last named; lives and dies with `quotas`."""
    return f"{_POOL}:quota-beats"


def budgets() -> str:
    """Hash resource name -> what is left of its quota; see budgets.lua.

    Written by acquire and by what workers spend and are refused, read by acquire and the quota table; dies BUDGET_TTL_S
    after the last change.
    """
    return f"{_POOL}:budgets"


def waiting(resource: str) -> str:
    """Sorted set of the call ids that wait for this resource, in the order in which they get it.

    Written and read by acquire, read by the quota table; the entry dies with its turn, or WAITING_TTL_S after it was
    last asked for.
    """
    return f"{_POOL}:waiting:{resource}"


def polls(resource: str) -> str:
    """Sorted set call id -> Redis time in ms at which it was last asked for; lives and dies with `waiting`."""
    return f"{_POOL}:polls:{resource}"


def orphans() -> str:
    """Sorted set of the calls whose callers are owed a BYE, by Redis time in ms of the next attempt, 0 for the first.

    Written by reap and by release, read by dispatchers; the entry dies when the BYE is settled or was tried twice, the
    key ORPHAN_TTL_S after the last one.
    """
    return f"{_POOL}:orphans"


def orphan_leases() -> str:
    """Hash call id -> packed Lease of an orphan; lives and dies with `orphans`."""
    return f"{_POOL}:orphan-leases"


def port_owners(machine: str) -> str:
    """Hash number of a port block of this machine -> the pod that has it, or had it last.

    Written and read by what takes, keeps and gives back a block; dies PORT_BLOCK_MEMORY_S after the last of it.
    """
    return f"{_POOL}:port-owners:{machine}"


def port_lapses(machine: str) -> str:
    """Sorted set number of a port block -> Redis time in ms at which it becomes, or became, free.

    Lives and dies with `port_owners`.
    """
    return f"{_POOL}:port-lapses:{machine}"


def commands(process_id: WorkerId | DispatcherId) -> str:
    """Stream of packed Commands for one worker or dispatcher, field `command`.

    Written by operators, read by that process; trimmed to about COMMANDS_MAX, lives COMMAND_KEY_TTL_S after the last.
    """
    return f"{_POOL}:commands:{process_id}"


def answers(command_id: str) -> str:
    """List of packed CommandReplies to one command; written by its process, read by who asked; COMMAND_KEY_TTL_S."""
    return f"{_POOL}:answers:{command_id}"


def of_worker(worker_id: WorkerId) -> list[str]:
    """Returns KEYS[1] to KEYS[7] of every script that takes or gives back slots of this worker."""
    return [registrations(), loads(), lapses(), sessions(), events(), slots(worker_id), records()]


def of_lease(call_id: CallId, lease_id: LeaseId) -> list[str]:
    """Returns the three keys such a script needs for each lease."""
    return [call(call_id), released(lease_id), over(call_id)]


def of_resources(names: Iterable[str]) -> list[str]:
    """Returns the two keys a script needs for the queue of each resource."""
    return [key for name in names for key in (waiting(name), polls(name))]


def of_machine(machine: str) -> list[str]:
    """Returns the two keys of a machine's port blocks."""
    return [port_owners(machine), port_lapses(machine)]


def of_orphans() -> list[str]:
    """Returns the two keys of all orphans."""
    return [orphans(), orphan_leases()]


def ms(seconds: float) -> int:
    """Returns a lifetime the way Redis counts it."""
    return round(seconds * 1000)
