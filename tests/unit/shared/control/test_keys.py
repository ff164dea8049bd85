"""Key names."""

from shared.control import keys
from shared.ids import CallId, LeaseId, WorkerId

ALL = [
    keys.workers(), keys.registrations(), keys.states(), keys.healths(), keys.loads(), keys.slots(WorkerId("a")),
    keys.lapses(), keys.call(CallId("a")), keys.released(LeaseId("a")), keys.over(CallId("a")), keys.watched(),
    keys.records(), keys.sessions(), keys.events(), keys.dead_events(), keys.dispatchers(), keys.dispatcher_beats(),
    keys.quotas(), keys.quota_beats(), keys.budgets(), keys.waiting("a"), keys.polls("a"), keys.orphans(),
    keys.orphan_leases(), keys.port_owners("a"), keys.port_lapses("a"), keys.commands(WorkerId("a")), keys.answers("a"),
]  # fmt: skip


def test_all_keys_share_one_cluster_slot() -> None:
    assert {key[: key.index("}") + 1] for key in ALL} == {"{voicepool}"}


def test_no_two_things_share_a_key() -> None:
    assert len(set(ALL)) == len(ALL)
    assert keys.slots(WorkerId("a")) != keys.slots(WorkerId("b"))


def test_lifetimes_are_whole_milliseconds() -> None:
    assert keys.ms(keys.HEARTBEAT_TTL_S) == 3500
