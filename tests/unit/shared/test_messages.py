"""What is written to Redis, read back."""

import msgpack
import pytest

from shared.ids import CallId, LeaseId, WorkerId
from shared.messages import CallRecord, KeptTurn, KeptUsage, MessageError, Tokens

OLD = {
    "v": 1,
    "call_id": "call",
    "lease_id": "lease",
    "worker_id": "one",
    "result": "completed",
    "reason": "caller_hangup",
    "invite_at_ms": 1,
    "ended_at_ms": 2,
    "marks": [["invite", 1]],
}
"""A record as it was written before anything of the conversation was kept."""


def test_an_old_record_is_read_as_one_of_which_nothing_was_kept() -> None:
    record = CallRecord.unpack(msgpack.packb(OLD))
    assert record == CallRecord(
        call_id=CallId("call"),
        lease_id=LeaseId("lease"),
        worker_id=WorkerId("one"),
        result="completed",
        reason="caller_hangup",
        invite_at_ms=1,
        ended_at_ms=2,
        marks=[("invite", 1)],
    )
    assert (record.agent, record.transcript, record.usage_total, record.cost) == ("", [], Tokens(), None)


def test_parts_come_back_as_what_they_were() -> None:
    usage = KeptUsage(response_id="r", at_ms=5, input_text=7)
    record = CallRecord.unpack(msgpack.packb(OLD))
    written = type(record)(**{**{name: getattr(record, name) for name in OLD if name != "v"}, "usage": [usage]})
    assert CallRecord.unpack(written.pack()).usage == [usage]


def test_what_a_newer_release_adds_to_a_part_is_ignored() -> None:
    raw = OLD | {"turns": [{"at_ms": 5, "mood": "fine"}]}
    assert CallRecord.unpack(msgpack.packb(raw)).turns == [KeptTurn(at_ms=5)]


@pytest.mark.parametrize("turns", [7, [7], ["text"], [{}], [None], {"at_ms": 5}])
def test_a_part_that_is_none_is_refused(turns: object) -> None:
    with pytest.raises(MessageError):
        CallRecord.unpack(msgpack.packb(OLD | {"turns": turns}))
