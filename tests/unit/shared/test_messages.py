"""What is written to Redis, read back."""

from dataclasses import asdict, replace

import msgpack
import pytest

from shared.ids import CallId, LeaseId, WorkerId
from shared.messages import CallRecord, Dialog, KeptTurn, KeptUsage, Lease, MessageError, Tokens

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


LEASE = Lease(
    lease_id=LeaseId("lease"), call_id=CallId("call"), worker_id=WorkerId("one"), offered_at_ms=1, invite_at_ms=1
)  # fmt: skip
DIALOG = Dialog(
    call_id=b"a@b",
    local=b"<sip:a@b>;tag=\x00\xff",
    remote="<sip:ü@b>;tag=1".encode(),
    target=b"",
    routes=[b"\xc3", b"r"],
)


def test_a_dialog_comes_back_byte_for_byte() -> None:
    lease = replace(LEASE, answered_at_ms=2, dialog=DIALOG)
    assert Lease.unpack(lease.pack()) == lease


def test_nothing_is_packed_in_a_way_that_redis_cannot_read() -> None:
    """Its Lua knows what msgpack was before it told bytes and text apart."""
    packed = msgpack.unpackb(replace(LEASE, dialog=DIALOG).pack(), raw=True)
    assert packed[b"dialog"][b"routes"] == [b"\xc3", b"r"]
    long = replace(LEASE, dialog=replace(DIALOG, local=b"x" * 300, remote=b"y" * 70_000)).pack()
    assert not {0xC4, 0xC5, 0xC6} & set(long)  # bin 8, bin 16, bin 32


@pytest.mark.parametrize("dialog", [7, "text", {}, dict.fromkeys(asdict(DIALOG), 7)])
def test_a_dialog_that_is_none_is_refused(dialog: object) -> None:
    with pytest.raises(MessageError):
        Lease.unpack(msgpack.packb({"v": 1, **asdict(LEASE), "dialog": dialog}))


def test_a_lease_of_an_older_release_has_no_dialog_and_the_resource_of_the_settings() -> None:
    raw = {name: value for name, value in asdict(LEASE).items() if name not in ("agent", "resource", "dialog", "peer")}
    assert Lease.unpack(msgpack.packb({"v": 1, **raw})) == LEASE
