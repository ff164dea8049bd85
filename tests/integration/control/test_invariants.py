"""The invariants of the control plane, under random interleavings and deaths.

Workers and dispatchers are plain objects that call the control plane like the real ones do; each rule is one step of
one of them, so that any of them may die, or Redis forget everything, between any two steps.
"""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from shared.control import keys
from shared.control.connection import ask, connect
from shared.control.events import START, EventName, Events
from shared.control.leases import Leases, Wish
from shared.control.orphans import Orphans
from shared.control.workers import Workers
from shared.ending import CallEnd, CallResult
from shared.errors import CallTaken, LeaseLost, NoCapacity, NoQuota
from shared.ids import CallId, LeaseId, WorkerId, new_lease_id
from shared.messages import Lease, ResourceQuota
from shared.states import WorkerState
from tests.integration.control.pool import (
    DIALOG,
    INVITE_AT_MS,
    Snapshot,
    call_record,
    check,
    overs,
    pass_time,
    pass_time_unwatched,
    reasons,
    records,
    snapshot,
    worker_record,
)

CAPACITY = 2
SEATS = 3
"""Workers at a time; a dead one is succeeded by one with a new id."""

T = TypeVar("T")
PERIODS_S = [
    seconds + 0.1 for seconds in (1.0, keys.HEARTBEAT_TTL_S, keys.OFFER_TTL_S, keys.LEASE_TTL_S, keys.OVER_TTL_S)
]

LIMITS = {"narrow": 1, "wide": 3, "": 0}
"""Sessions at once of each Voice Live resource; 0 is no limit."""

CALM_STEPS = 5
"""Ordinary steps between two disasters, so that there is something for the next one to hit."""

CALLS = [CallId(f"call{number}") for number in range(8)]

seats = st.integers(0, SEATS - 1)
calls = st.sampled_from(CALLS)
reasons_to_end = st.sampled_from(
    [CallEnd.SESSION_UNAVAILABLE, CallEnd.NO_CAPACITY, CallEnd.CALLER_CANCELLED, CallEnd.CALLER_HANGUP]
)
picks = st.integers(0, 7)
wanted = st.lists(st.sampled_from(sorted(LIMITS)), min_size=1, unique=True)
after_some_calm = precondition(lambda self: self.calm >= CALM_STEPS)
after_an_offer = precondition(lambda self: self.offers)
while_calls_run = precondition(lambda self: any(worker.running for worker in self.living))


@dataclass
class LivingWorker:
    """What a worker process knows: itself and its calls."""

    worker_id: WorkerId
    running: dict[LeaseId, Lease] = field(default_factory=dict)

    def has_room(self) -> bool:
        """A worker counts its calls before it takes one, whatever Redis says."""
        return len(self.running) < CAPACITY


class CallOver(Enum):
    """How a call ended that has a record."""

    FOR_GOOD = "no other worker may get it"
    OPEN = "the caller may still hear ringing, and be offered to another worker"


class Pool(RuleBasedStateMachine):
    """The pool as a whole, and what has been seen of each lease since Redis was last empty."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.redis = connect(self.url, timeout_s=20.0)
        self.workers, self.leases = Workers(self.redis), Leases(self.redis)
        self.events, self.orphans = Events(self.redis), Orphans(self.redis)
        self.living: list[LivingWorker] = []
        self.names = 0
        self.offers: list[Lease] = []
        self.ended: list[Lease] = []
        self.seen: set[LeaseId] = set()
        self.claimed: set[LeaseId] = set()
        self.ends: Counter[LeaseId] = Counter()
        self.owed: set[CallId] = set()
        self.before = Snapshot()
        self.calm = 0
        self.position = START
        self.records: Counter[CallId] = Counter()
        self.over: dict[CallId, CallOver] = {}
        self.superseded: set[CallId] = set()
        self.answered: set[tuple[str, str]] = set()
        self.run(ask(self.redis, "FLUSHALL"))
        for _ in range(SEATS):
            self.living.append(self.new_worker())

    def run(self, step: Coroutine[Any, Any, T]) -> T:
        """Takes one step."""
        return self.runner.run(step)

    def teardown(self) -> None:
        """Lets the pool settle; whatever happened before, nothing may be left over."""
        try:
            self.settle()
        finally:
            self.run(self.redis.aclose())
            self.runner.close()

    # Workers

    def new_worker(self) -> LivingWorker:
        """Returns a worker that has started and registered."""
        self.names += 1
        worker = LivingWorker(WorkerId(f"worker{self.names}"))
        self.register(worker)
        return worker

    def register(self, worker: LivingWorker) -> None:
        """Registers a worker with the calls it runs."""
        record = worker_record(worker.worker_id, CAPACITY)
        self.hang_up(worker, self.run(self.workers.register(record, list(worker.running.values()))))

    def hang_up(self, worker: LivingWorker, lost: list[LeaseId]) -> None:
        """Ends the calls whose leases are lost."""
        for lease_id in lost:
            self.end(worker.running.pop(lease_id), CallEnd.WORKER_LOST)

    def end(self, lease: Lease, reason: CallEnd, *, orphan: bool = False) -> None:
        """Releases a lease the way a worker does at the end of a call; perhaps it cannot say goodbye to the caller."""
        ended = self.run(self.leases.release(lease, call_record(lease, reason), orphan=orphan))
        self.ends[lease.lease_id] += ended
        self.ended.append(lease)
        if ended:
            self.claimed.add(lease.lease_id)  # at the latest by its record
        if ended and orphan and lease.dialog:
            self.owed.add(lease.call_id)

    @after_some_calm
    @rule(seat=seats)
    def worker_dies_and_is_succeeded(self, seat: int) -> None:
        self.calm = 0
        self.living[seat] = self.new_worker()

    @after_some_calm
    @rule(seat=seats)
    def worker_leaves_and_is_succeeded(self, seat: int) -> None:
        """Its calls have been cut short, as when the drain takes too long."""
        self.calm = 0
        self.hang_up(self.living[seat], list(self.living[seat].running))
        self.run(self.workers.unregister(self.living[seat].worker_id))
        self.living[seat] = self.new_worker()

    @after_some_calm
    @rule(seat=seats)
    def drain(self, seat: int) -> None:
        self.calm = 0
        self.beat(self.living[seat], WorkerState.DRAINING)

    @rule(some=st.sets(seats, min_size=1))
    def heartbeat(self, some: set[int]) -> None:
        for seat in sorted(some):
            self.beat(self.living[seat])

    def beat(self, worker: LivingWorker, state: WorkerState = WorkerState.READY) -> None:
        """Sends a heartbeat, and registers again when that is what the answer asks for."""
        if not self.run(self.workers.heartbeat(worker.worker_id, state)):
            self.register(worker)

    @rule(seat=seats)
    def renew(self, seat: int) -> None:
        """Its renewals are due."""
        worker = self.living[seat]
        self.hang_up(worker, self.run(self.leases.renew(worker.worker_id, list(worker.running.values()))))

    @after_an_offer
    @rule(some=st.lists(picks, min_size=1, max_size=4), answered=st.sampled_from([True, True, False]))
    def claim(self, some: list[int], answered: bool) -> None:
        """Calls reach their workers, which ask for the leases; without an answer they go on all the same."""
        for pick in some:
            lease = self.offers[-1 - pick % len(self.offers)]
            worker = next((one for one in self.living if one.worker_id == lease.worker_id), None)
            over = {one.lease_id for one in self.ended}
            if worker and worker.has_room() and lease.lease_id not in {*worker.running, *over}:
                self.take(worker, lease, answered)

    def take(self, worker: LivingWorker, lease: Lease, answered: bool) -> None:
        """Starts a call on its worker."""
        if answered:
            try:
                self.run(self.leases.claim(lease))
            except LeaseLost:
                return
            assert self.over.get(lease.call_id) != CallOver.FOR_GOOD, "a call has begun again"
        worker.running[lease.lease_id] = lease

    @while_calls_run
    @rule(seat=seats, pick=picks)
    def claim_twice(self, seat: int, pick: int) -> None:
        running = list(self.living[seat].running.values())
        if running and running[pick % len(running)].lease_id in self.claimed:
            with pytest.raises(LeaseLost):
                self.run(self.leases.claim(running[pick % len(running)]))

    @while_calls_run
    @rule(seat=seats, pick=picks, heard=st.booleans())
    def call_is_answered(self, seat: int, pick: int, heard: bool) -> None:
        """Redis hears of it at once, or with the next renewal."""
        running = self.living[seat].running
        if running:
            lease_id = list(running)[pick % len(running)]
            running[lease_id] = replace(running[lease_id], answered_at_ms=INVITE_AT_MS + 9, dialog=DIALOG)
            if heard:
                self.renew(seat)

    @while_calls_run
    @rule(seat=seats, pick=picks, reason=reasons_to_end, orphan=st.booleans())
    def call_ends(self, seat: int, pick: int, reason: CallEnd, orphan: bool) -> None:
        worker = self.living[seat]
        if worker.running:
            self.end(worker.running.pop(list(worker.running)[pick % len(worker.running)]), reason, orphan=orphan)

    @precondition(lambda self: self.ended)
    @rule(pick=picks)
    def release_again(self, pick: int) -> None:
        """The answer to a release was lost."""
        lease = self.ended[pick % len(self.ended)]
        again = self.run(self.leases.release(lease, call_record(lease)))
        assert not again or self.ends[lease.lease_id] == 0
        self.ends[lease.lease_id] += again

    # Dispatchers

    @rule(some=st.lists(st.tuples(calls, seats, wanted), min_size=1, max_size=5))
    def invites_arrive(self, some: list[tuple[CallId, int, list[str]]]) -> None:
        """Dispatchers place calls; any of them may die at once and never use the lease."""
        for call_id, seat, resources in some:
            self.acquire(call_id, seat, resources, None)

    @after_an_offer
    @rule(pick=picks, seat=seats, resources=wanted)
    def next_worker(self, pick: int, seat: int, resources: list[str]) -> None:
        """A dispatcher offers a call to the next worker."""
        self.before = self.run(snapshot(self.redis))
        old = self.offers[-1 - pick % len(self.offers)]
        lease = self.acquire(old.call_id, seat, resources, old.lease_id)
        if lease and old.lease_id in self.before.leases:
            assert self.before.leases[old.lease_id].state == "offered", "a claimed lease was replaced"
            self.ends[old.lease_id] += 1

    @precondition(lambda self: self.over)
    @rule(pick=picks, seat=seats, resources=wanted, answered=st.booleans())
    def invite_arrives_again(self, pick: int, seat: int, resources: list[str], answered: bool) -> None:
        """A copy lay at another dispatcher; or the caller still waits, and another worker gets the call."""
        worker = self.living[seat]
        lease = self.acquire(sorted(self.over)[pick % len(self.over)], seat, resources, None)
        if lease and lease.worker_id == worker.worker_id and worker.has_room():
            self.take(worker, lease, answered)

    def acquire(self, call_id: CallId, seat: int, resources: list[str], replacing: LeaseId | None) -> Lease | None:
        """Takes a lease if there is one to be had."""
        worker_id = self.living[seat].worker_id
        wish = Wish(resources=[ResourceQuota(name=name, sessions=LIMITS[name]) for name in resources])
        before = self.run(snapshot(self.redis))
        try:
            lease = self.run(
                self.leases.acquire(call_id, worker_id, invite_at_ms=INVITE_AT_MS, wish=wish, replacing=replacing)
            )
        except (NoCapacity, NoQuota, CallTaken, LeaseLost):
            assert self.run(snapshot(self.redis)) == before, "a refusal has changed something"
            return None
        if lease not in self.offers:
            self.offers.append(lease)
        if lease.lease_id not in before.leases:
            assert self.over.get(call_id) != CallOver.FOR_GOOD, "a call that is over was leased again"
            assert lease.resource in resources
            used = self.run(snapshot(self.redis)).sessions[lease.resource]
            assert not LIMITS[lease.resource] or used <= LIMITS[lease.resource], "more sessions than the limit"
        return lease

    @rule(call_id=calls, seat=seats, resource=st.sampled_from(sorted(LIMITS)))
    def place_without_redis(self, call_id: CallId, seat: int, resource: str) -> None:
        """What was placed without asking may take a resource beyond its limit, once it is entered."""
        self.offers.append(
            Lease(
                lease_id=new_lease_id(),
                call_id=call_id,
                worker_id=self.living[seat].worker_id,
                offered_at_ms=INVITE_AT_MS,
                invite_at_ms=INVITE_AT_MS,
                provisional=True,
                resource=resource,
            )
        )

    @after_an_offer
    @rule(pick=picks)
    def give_back_offer(self, pick: int) -> None:
        lease = self.offers[-1 - pick % len(self.offers)]
        self.ends[lease.lease_id] += self.run(self.leases.release(lease, None))

    @rule(reapers=st.integers(1, 3))
    def reap(self, reapers: int) -> None:
        async def at_once() -> list[list[Lease]]:
            return await asyncio.gather(*(self.leases.reap() for _ in range(reapers)))

        before = self.run(snapshot(self.redis)).leases
        for lease in (lease for freed in self.run(at_once()) for lease in freed):
            self.ends[lease.lease_id] += 1
            if before[lease.lease_id].state == "claimed" and before[lease.lease_id].has_dialog:
                self.owed.add(lease.call_id)

    @precondition(lambda self: self.owed)
    @rule()
    def callers_are_told(self) -> None:
        """A dispatcher says BYE to those whose workers could not."""
        taken = self.run(self.orphans.take())
        assert {lease.call_id for lease in taken} == self.owed
        assert all(lease.dialog == DIALOG for lease in taken)
        for lease in taken:
            self.run(self.orphans.settle(lease.call_id))
        self.owed.clear()

    # The world

    @after_some_calm
    @rule(seconds=st.sampled_from(PERIODS_S), beating=st.sets(seats))
    def time_passes(self, seconds: float, beating: set[int]) -> None:
        """Some workers are heard of meanwhile, the others hang."""
        self.calm = 0
        self.run(pass_time(self.redis, seconds))
        self.forget_old_ends()
        for seat in sorted(beating):
            self.beat(self.living[seat])

    @after_some_calm
    @rule(seconds=st.sampled_from([5.0, 60.0]), beating=st.sets(seats))
    def redis_is_away_and_comes_back(self, seconds: float, beating: set[int]) -> None:
        self.calm = 0
        self.run(pass_time_unwatched(self.redis, seconds))
        self.forget_old_ends()
        assert self.run(self.leases.reap()) == [], "an outage was taken for death"
        for seat in sorted(beating):
            self.beat(self.living[seat])

    @after_some_calm
    @rule(registering=st.sets(seats))
    def redis_comes_back_empty(self, registering: set[int]) -> None:
        self.calm = 0
        self.run(ask(self.redis, "FLUSHALL"))
        self.seen.clear()
        self.claimed.clear()
        self.ends.clear()
        self.ended.clear()
        self.owed.clear()
        self.position = START
        self.records.clear()
        self.over.clear()
        self.superseded.clear()
        self.answered.clear()
        for seat in sorted(registering):
            self.beat(self.living[seat])

    @after_some_calm
    @rule(seat=seats)
    def silent_worker_gets_no_lease(self, seat: int) -> None:
        self.calm = 0
        self.run(pass_time(self.redis, keys.HEARTBEAT_TTL_S + 0.1))
        self.forget_old_ends()
        with pytest.raises(NoCapacity):
            self.run(self.leases.acquire(CallId("new"), self.living[seat].worker_id, invite_at_ms=INVITE_AT_MS))

    # What must hold

    @invariant()
    def nothing_is_wrong(self) -> None:
        self.calm += 1
        self.before = self.run(snapshot(self.redis))
        check(self.before, CAPACITY)
        self.seen.update(self.before.leases)
        self.claimed.update(lease.lease_id for lease in self.before.leases.values() if lease.state == "claimed")
        assert all(self.ends[lease_id] == 0 for lease_id in self.before.leases), "a lease that ended is still held"
        assert max(self.ends.values(), default=0) <= 1, "a lease ended twice"
        written = self.run(reasons(self.redis))
        assert max(map(len, written.values()), default=0) <= 1, "a lease has two records"
        assert {CallId(member.decode()) for member in self.run(ask(self.redis, "ZRANGE", keys.orphans(), 0, -1))} == (
            self.owed
        ), "a caller who is owed a BYE, or is not"
        self.check_events()
        self.check_records()

    def check_events(self) -> None:
        """Every claimed lease, and no other, has started and, once it is over, ended; each once."""
        started: Counter[str] = Counter()
        ended: Counter[str] = Counter()
        answered: Counter[str] = Counter()
        counts = {EventName.CALL_STARTED: started, EventName.CALL_ANSWERED: answered, EventName.CALL_ENDED: ended}
        for event in self.run(self.events.read(keys.EVENTS_MAX, since=START)):
            if event.name in counts:
                counts[EventName(event.name)][event.about["call_id"]] += 1
                call_id = event.about["call_id"]
                assert ended[call_id] <= started[call_id] >= answered[call_id], "an end without a beginning"
        claimed = Counter(lease.call_id for lease in self.before.leases.values() if lease.state == "claimed")
        assert started - ended == claimed, "a call that has started and not ended, but is not there"
        assert started.total() == len(self.claimed), "a call has started twice, or not at all"

    def check_records(self) -> None:
        """Every call that has ended has one record; one that has ended for good is known as such."""
        self.follow_calls()
        written = self.run(records(self.redis))
        assert Counter(record.call_id for record in written.values()) == self.records, "a record too many or too few"
        assert self.ends_in_redis() == self.over, "what is over may be placed again, or what is not may not"
        self.superseded = {lease.call_id for lease in self.before.leases.values() if lease.supersedes in written}

    def follow_calls(self) -> None:
        """Learns from events what has become of the calls: with the next worker, a call's record is still to come."""
        for event in self.run(self.events.read(keys.EVENTS_MAX, since=self.position)):
            self.position = event.position
            call_id, worker_id = CallId(event.about.get("call_id", "")), event.about.get("worker_id", "")
            match event.name:
                case EventName.CALL_STARTED:
                    if self.over.get(call_id) == CallOver.OPEN or call_id in self.superseded - self.over.keys():
                        self.records[call_id] -= 1
                        self.over.pop(call_id, None)
                    self.superseded.discard(call_id)
                    self.answered.discard((call_id, worker_id))
                case EventName.CALL_ANSWERED:
                    self.answered.add((call_id, worker_id))
                case EventName.CALL_ENDED:
                    self.records[call_id] += 1
                    waits_no_more = event.about["result"] in (CallResult.COMPLETED, CallResult.CANCELLED)
                    for_good = waits_no_more or (call_id, worker_id) in self.answered
                    self.over[call_id] = CallOver.FOR_GOOD if for_good else CallOver.OPEN

    def forget_old_ends(self) -> None:
        """Time has passed: no copy of these calls' INVITEs is around any more."""
        self.follow_calls()
        left = self.ends_in_redis()
        assert left.items() <= self.over.items()
        self.over = left

    def ends_in_redis(self) -> dict[CallId, CallOver]:
        """Returns what Redis says of the calls that are over."""
        found = self.run(overs(self.redis, CALLS))
        return {i: CallOver.FOR_GOOD if value == "final" else CallOver.OPEN for i, value in found.items()}

    def settle(self) -> None:
        """Lets everybody reconcile, then ends every call: what runs is leased, and in the end nothing is left."""
        self.reconcile()
        self.run(pass_time(self.redis, keys.OFFER_TTL_S + 0.1))
        self.forget_old_ends()
        for worker in self.living:
            self.beat(worker)
        self.reap(2)
        self.reconcile()
        self.nothing_is_wrong()
        running = {(i, worker.worker_id) for worker in self.living for i in worker.running}
        alive = {worker.worker_id for worker in self.living}
        held = self.before.leases.values()
        leased = {(lease.lease_id, lease.worker_id) for lease in held if lease.worker_id in alive}
        assert running == leased, "a running call without a lease, or a lease without its call"
        for worker in self.living:
            self.hang_up(worker, list(worker.running))
        self.run(pass_time(self.redis, keys.LEASE_TTL_S + 0.1))
        self.forget_old_ends()
        self.reap(2)
        self.nothing_is_wrong()
        assert self.before == Snapshot(), "something was never freed"
        assert {i: self.ends[i] for i in self.seen} == dict.fromkeys(self.seen, 1), "a lease never ended"

    def reconcile(self) -> None:
        """Every living worker says that it is there and which calls it runs."""
        for worker in self.living:
            self.beat(worker)
            self.hang_up(worker, self.run(self.leases.renew(worker.worker_id, list(worker.running.values()))))


def test_invariants_hold_whoever_dies_when(redis_url: str) -> None:
    class PoolOnThisRedis(Pool):
        url = redis_url

    run_state_machine_as_test(
        PoolOnThisRedis,
        settings=settings(
            max_examples=45,
            stateful_step_count=50,
            deadline=None,
            database=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
