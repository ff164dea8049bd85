"""What becomes of calls when a dispatcher refuses or is gone, and when all refuse.

Asterisk is set up as docs/asterisk.md has it.
"""

import pytest

from shared.ending import CallEnd
from shared.ids import CallId
from shared.messages import CommandName
from tests.acceptance.pool import until
from tests.acceptance.telephone import PhoneCall
from tests.deploy.asterisk.pbx import Pbx
from tests.deploy.asterisk.site import PATIENCE_S, Site

DIAL_MS = 20_000
"""How long the guide's dialplan waits for a dispatcher that says nothing."""

pytestmark = [pytest.mark.asterisk, pytest.mark.timeout(1800)]


def assert_answered(call: PhoneCall, pbx: Pbx) -> None:
    """Fails unless the caller was greeted."""
    assert call.report["ok"], f"{call.report}\n{pbx.tail()}"


def answered_by(site: Site, front: int) -> int:
    """Returns how many calls that dispatcher has seen answered."""
    return len(site.log(front, "call.answered"))


def test_a_dispatcher_that_drains_refuses_and_the_next_one_is_called(site: Site, pbx: Pbx) -> None:
    """Any answer to OPTIONS is a sign of life for Asterisk, 503 as well: it is asked, and refuses."""
    site.pool.operate(CommandName.DRAIN, site.id_of(0))
    before = answered_by(site, 1)
    assert_answered(site.ring(pbx, "--turns", "0"), pbx)
    assert answered_by(site, 1) == before + 1


def test_a_dead_dispatcher_is_not_called(site: Site, pbx: Pbx) -> None:
    site.kill(0)
    until(lambda: not pbx.reaches("voicepool-1"), PATIENCE_S, pbx.tail)
    call = site.ring(pbx, "--turns", "0")
    assert_answered(call, pbx)
    assert call.marks["answered"] - call.marks["invite"] < DIAL_MS, "it was called all the same"


def test_a_call_whose_dispatcher_dies_goes_on_and_the_pool_hangs_up_through_the_other(site: Site, pbx: Pbx) -> None:
    pool, before = site.pool, answered_by(site, 0)
    with site.ringing(pbx, "--turns", "0", "--hold-until-bye") as phone:
        until(lambda: answered_by(site, 0) > before, PATIENCE_S, pool.tails)
        call_id = CallId(*pool.leases())
        site.kill(0)
        pool.hang_up(call_id)
        call = site.finish(phone)
    assert call.report["ended_by"] == "pool", f"{call.report}\n{pbx.tail()}"
    assert pool.endings(call_id) == [CallEnd.OPERATOR_HANGUP]


def test_when_nobody_has_room_the_dialplan_goes_on(site: Site, pbx: Pbx) -> None:
    site.pool.operate(CommandName.DRAIN, *site.pool.registered())
    site.pool.wait_until_seen(0)
    with site.ringing(pbx, "--turns", "0") as phone:
        call = site.finish(phone)
    assert call.report["status"] == 503
    assert "voicepool: CONGESTION" in pbx.log()
