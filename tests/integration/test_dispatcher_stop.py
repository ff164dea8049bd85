"""A dispatcher that is told to stop while a load balancer still sends it calls (SIP_STOP_GRACE_S)."""

from pathlib import Path

from tests.integration.test_dispatcher_process import Process, dispatcher, hang_up, worker
from tests.unit.dispatcher.wire import Peer, ack_for

GRACE_S = 3.0


async def told_to_stop(running: Process) -> Peer:
    """Sends SIGTERM; returns a caller once the dispatcher has heard it."""
    running.process.terminate()
    leaving = await running.event("dispatcher.leaving")
    assert leaving["grace_s"] == GRACE_S
    return await running.caller()


async def test_calls_are_taken_for_a_while_although_options_says_no(tmp_path: Path, redis_url: str) -> None:
    async with (
        worker(redis_url, 180, 200) as script,
        dispatcher(tmp_path, redis_url, SIP_STOP_GRACE_S=str(GRACE_S)) as running,
    ):
        early = await running.caller()
        early.send(early.request("INVITE", branch="z9hG4bKearly", call_id="early"))
        begun = await early.expect("200 INVITE")
        caller = await told_to_stop(running)
        caller.send(caller.request("OPTIONS", branch="z9hG4bKoptions"))
        await caller.expect("503 OPTIONS")
        caller.send(caller.request("INVITE", branch="z9hG4bKlate", call_id="late"))
        await hang_up(caller, await caller.expect("200 INVITE"), call_id="late")
        await hang_up(early, begun, call_id="early")
        assert len(script.invites) == 2
        assert await running.end() == 0
    assert running.lines[-1]["event"] == "dispatcher.stopped"


async def test_who_rings_when_the_grace_is_over_is_still_answered(tmp_path: Path, redis_url: str) -> None:
    async with (
        worker(redis_url, 180) as script,
        dispatcher(tmp_path, redis_url, SIP_STOP_GRACE_S=str(GRACE_S)) as running,
    ):
        caller = await told_to_stop(running)
        caller.send(caller.request("INVITE", branch="z9hG4bKlate", call_id="late"))
        offered = await script.expect("INVITE")
        await running.event("dispatcher.stopping")
        caller.send(caller.request("INVITE", branch="z9hG4bKtoo", call_id="too-late"))
        caller.send(ack_for(caller, await caller.expect("503 INVITE"), branch="z9hG4bKtoo", call_id="too-late"))
        script.answer(offered, 200)
        await caller.expect("200 INVITE")
        assert await running.end() == 0
