"""Calls from a telephone through Asterisk to the pool: audio, keys, transfers, and who hangs up.

Asterisk is set up as docs/asterisk.md has it.
"""

from pathlib import Path

import pytest

from shared.ending import CallEnd, CallResult
from shared.messages import CallRecord
from tests.acceptance.hearing import by_service, find
from tests.acceptance.pool import until
from tests.acceptance.telephone import UNDISTURBED_TRIES, PhoneCall, assert_heard_back, spoilt
from tests.deploy.asterisk.pbx import Pbx, running_pbx
from tests.deploy.asterisk.site import DESK_SAYS, PATIENCE_S, Site

pytestmark = [pytest.mark.asterisk, pytest.mark.timeout(1800)]

DESK_HEARD = 0.8
"""Resemblance of what the caller hears at the desk with what is said there."""


def record_of_the_last(site: Site, before: int) -> CallRecord:
    """Returns the one record beyond so many: Asterisk gives its call to the pool another id than the telephone's."""
    until(lambda: len(site.pool.records()) > before, PATIENCE_S, site.pool.tails)
    site.pool.wait_until_idle()
    [record] = site.pool.records()[before:]
    return record


def recorded(site: Site, pbx: Pbx, *options: str) -> tuple[PhoneCall, CallRecord]:
    """Makes one call and returns what the telephone and the pool say of it."""
    before = len(site.pool.records())
    call = site.ring(pbx, *options)
    return call, record_of_the_last(site, before)


def undisturbed(site: Site, pbx: Pbx, *options: str) -> tuple[PhoneCall, CallRecord]:
    """Makes calls until one is not spoilt by a standstill of this machine."""
    for _ in range(UNDISTURBED_TRIES):
        call, record = recorded(site, pbx, *options)
        if not spoilt(call):
            break
    return call, record


@pytest.mark.parametrize("codec", ["PCMU", "PCMA"])
def test_both_sides_are_heard_and_the_caller_hangs_up(site: Site, pbx: Pbx, codec: str) -> None:
    call, record = undisturbed(site, pbx, "--codec", codec, "--from-user", "+4930555")
    assert_heard_back(site.pool, call)
    assert (record.reason, record.called, record.caller) == (CallEnd.CALLER_HANGUP, "100", "+4930555")
    assert record.counters["rtp_lost"] == 0


def test_over_tls_and_srtp_likewise(site: Site, pbx: Pbx, tree: Path, tmp_path: Path) -> None:
    [_, host] = site.pbx_hosts
    with running_pbx(host, tree, tmp_path / "tls", site.files(host, over_tls=True)) as secure:
        until(lambda: secure.reaches("voicepool-1"), PATIENCE_S, secure.tail)
        call, record = undisturbed(site, secure)
        assert_heard_back(site.pool, call)
        assert record.reason == CallEnd.CALLER_HANGUP
        call, record = recorded(site, secure, "--dtmf", "2", "--hold-until-bye")
        assert (call.report["ended_by"], record.reason) == ("pool", CallEnd.AGENT_HANGUP)


def test_digits_arrive_and_the_pool_hangs_up(site: Site, pbx: Pbx) -> None:
    call, record = recorded(site, pbx, "--dtmf", "80529#2", "--hold-until-bye")
    assert call.report["ended_by"] == "pool", f"{call.report}\n{pbx.tail()}"
    assert [typed.digits for typed in record.dtmf] == ["80529", "2"]
    assert record.reason == CallEnd.AGENT_HANGUP


def test_a_caller_gives_up_while_it_rings(site: Site, pbx: Pbx) -> None:
    site.pool.order_faults(next_handshake={"stall": True})
    call, record = recorded(site, pbx, "--cancel-after", "1.5")
    assert call.report["ok"] and "ringing" in call.marks, call.report
    assert (record.result, record.reason) == (CallResult.CANCELLED, CallEnd.CALLER_CANCELLED)


def test_a_transferred_caller_talks_to_the_desk_and_the_agent_is_gone(site: Site, pbx: Pbx) -> None:
    before = len(site.pool.records())
    with site.desk(), site.ringing(pbx, "--dtmf", "1", "--hold", "9") as phone:
        record = record_of_the_last(site, before)
        assert phone.poll() is None, "the caller is still there"
        call = site.finish(phone)
    assert (record.reason, record.transfer) == (CallEnd.TRANSFERRED, "desk")
    assert call.report["ended_by"] == "caller", f"{call.report}\n{pbx.tail()}"
    heard = call.tracks()[1][call.sample(call.marks["keys"]) :]
    assert find(by_service(DESK_SAYS), heard).resemblance >= DESK_HEARD, pbx.tail()


def test_a_transfer_to_nobody_leaves_the_caller_with_the_agent(site: Site, pbx: Pbx) -> None:
    call, record = recorded(site, pbx, "--dtmf", "32", "--hold-until-bye")
    assert call.report["ended_by"] == "pool", f"{call.report}\n{pbx.tail()}"
    assert (record.reason, record.transfer) == (CallEnd.AGENT_HANGUP, "")
