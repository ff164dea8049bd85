"""Putting a call's timeline together from telephone and call record."""

from admin.timeline import Source, merge
from shared.ids import CallId, LeaseId, WorkerId
from shared.messages import CallRecord

INVITE = 1_700_000_000_000.25

PHONE = {
    "invite": INVITE,
    "answered": INVITE + 210.25,
    "greeting_first_packet": INVITE + 260.25,
    "speech_end": INVITE + 5_000,
    "answer_first_packet": INVITE + 5_800,
    "bye": INVITE + 9_000,
}


def record(*marks: tuple[str, int]) -> CallRecord:
    base = int(INVITE)
    return CallRecord(
        call_id=CallId("call"),
        lease_id=LeaseId("lease"),
        worker_id=WorkerId("pod-1-abcd"),
        result="completed",
        reason="caller_hangup",
        invite_at_ms=base,
        ended_at_ms=base + 9_000,
        marks=[(name, base + after_ms) for name, after_ms in marks],
    )


def test_times_count_from_the_invite_the_telephone_sent() -> None:
    timeline = merge(PHONE, record(("lease", 4)))
    assert timeline.at("invite", Source.PHONE) == 0
    assert timeline.at("answered", Source.PHONE) == 210
    assert timeline.at("lease", Source.RECORD) == 4


def test_moments_of_both_sources_are_in_order() -> None:
    timeline = merge(PHONE, record(("invite", 1), ("session_ready", 200), ("answered", 205), ("ended", 9_010)))
    names = [(moment.name, moment.source) for moment in timeline.moments]
    assert names[:4] == [
        ("invite", Source.PHONE),
        ("invite", Source.RECORD),
        ("session_ready", Source.RECORD),
        ("answered", Source.RECORD),
    ]
    assert names[-1] == ("ended", Source.RECORD)
    assert len(names) == len(PHONE) + 4


def test_of_two_marks_in_the_same_millisecond_the_cause_comes_first() -> None:
    timeline = merge({"invite": INVITE, "answered": INVITE + 9}, record(("answered", 9), ("invite", 0), ("lease", 0)))
    assert [moment.label for moment in timeline.moments] == [
        "INVITE sent",
        "INVITE at the dispatcher",
        "lease: slot taken on pod-1-abcd",
        "worker answers 200",
        "200 OK",
    ]


def test_what_the_caller_waits_is_measured_at_the_telephone_and_the_rest_in_the_call_record() -> None:
    timeline = merge(PHONE, record(("answered", 1), ("answer_audio", 5_700), ("answer_playout", 5_712)))
    assert timeline.between("answer_audio", "answer_playout", Source.RECORD) == 12
    assert timeline.between("invite", "answered", Source.PHONE) == 210
    assert timeline.between("speech_end", "answer_first_packet", Source.PHONE) == 800


def test_a_wait_of_which_one_end_is_missing_is_unknown() -> None:
    timeline = merge({"invite": INVITE, "answered": INVITE + 100}, None)
    assert timeline.between("speech_end", "answer_first_packet", Source.PHONE) is None


def test_the_lease_names_the_worker() -> None:
    labels = [moment.label for moment in merge(PHONE, record(("lease", 4))).moments]
    assert "lease: slot taken on pod-1-abcd" in labels


def test_without_a_call_record_the_telephone_alone_makes_the_timeline() -> None:
    assert {moment.source for moment in merge(PHONE, None).moments} == {Source.PHONE}


def test_later_turns_are_numbered_and_the_first_one_is_what_is_asked_for() -> None:
    timeline = merge(PHONE, record(("answer_audio", 5_700), ("answer_audio", 8_000)))
    labels = [moment.label for moment in timeline.moments if moment.name == "answer_audio"]
    assert labels == ["answer: first audio from Voice Live", "answer: first audio from Voice Live (2)"]
    assert timeline.at("answer_audio", Source.RECORD) == 5_700


def test_a_mark_that_is_not_known_here_keeps_its_own_name() -> None:
    assert "transferred" in [moment.label for moment in merge(PHONE, record(("transferred", 10))).moments]
