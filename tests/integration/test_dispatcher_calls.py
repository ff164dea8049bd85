"""Calls through a dispatcher over real UDP sockets, to workers that follow a script."""

import asyncio
from pathlib import Path

from shared import token
from shared.choices import DispatchMode
from shared.clock import now_ms
from shared.ids import WorkerId, call_id_for
from tests.unit.dispatcher.ladder import SECRET, header_of, response
from tests.unit.dispatcher.pool import Pool
from tests.unit.dispatcher.wire import Peer, Worker, ack_for, dispatching, in_dialog, workers

INVALID = Path(__file__).parents[1] / "data" / "sip" / "invalid"


async def complete_call(caller: Peer, number: int = 0) -> None:
    """Makes one call from INVITE to the answer to its BYE."""
    call = {"call_id": f"call-{number}"}
    caller.send(caller.request("INVITE", branch=f"z9hG4bKcall{number}", **call))
    answer = await caller.expect("200 INVITE")
    caller.send(ack_for(caller, answer, **call))
    caller.send(in_dialog(caller, answer, "BYE", branch=f"z9hG4bKbye{number}", cseq=2, **call))
    await caller.expect("200 BYE")


async def test_a_call_from_invite_to_bye() -> None:
    pool, worker = Pool(), Worker(100, 180, 200)
    async with workers(pool, worker), dispatching(pool) as scene:
        caller = await scene.caller()
        await complete_call(caller)
        assert caller.seen == ["100 INVITE", "180 INVITE", "200 INVITE", "200 BYE"]
        assert worker.seen == ["INVITE", "ACK", "BYE"]


async def test_the_worker_can_verify_the_lease_and_hang_up() -> None:
    pool, worker = Pool(), Worker(200)
    async with workers(pool, worker), dispatching(pool) as scene:
        caller = await scene.caller()
        caller.send(caller.request("INVITE", call_id="call@pbx", from_tag="abc"))
        offered = await worker.expect("INVITE")
        lease = token.verify(
            header_of(offered, token.HEADER),
            SECRET,
            worker_id=WorkerId("w1"),
            call_id=call_id_for("call@pbx", "abc"),
            now_ms=1,
        )
        assert pool.leases[lease.call_id].lease_id == lease.lease_id
        assert lease.peer == "127.0.0.1"
        assert abs(now_ms() - lease.invite_at_ms) < 60_000
        route = (f"Route: {header_of(offered, 'Record-Route')}",)
        uri = header_of(offered, "Contact").strip("<>")
        worker.send(
            worker.request(
                "BYE", uri, branch="z9hG4bKw", call_id="call@pbx", from_tag="worker", to_tag="abc", headers=route
            )
        )
        caller.send(response(await caller.expect("BYE"), 200))
        await worker.expect("200 BYE")


async def test_invite_retransmissions_make_one_call() -> None:
    pool, worker = Pool(), Worker(180)
    async with workers(pool, worker), dispatching(pool) as scene:
        caller = await scene.caller()
        for _ in range(5):
            caller.send(caller.request("INVITE"))
        await caller.expect("180 INVITE")
        caller.send(caller.request("INVITE"))
        await caller.expect("180 INVITE")
        assert worker.seen == ["INVITE"]
        assert len(pool.leases) == 1
        worker.answer(worker.first, 200)
        await caller.expect("200 INVITE")


async def test_cancel_reaches_the_ringing_worker_and_the_caller_gets_487() -> None:
    pool, worker = Pool(), Worker(180)
    async with workers(pool, worker), dispatching(pool) as scene:
        caller = await scene.caller()
        caller.send(caller.request("INVITE"))
        await caller.expect("180 INVITE")
        caller.send(caller.request("CANCEL"))
        await caller.expect("200 CANCEL")
        caller.send(ack_for(caller, await caller.expect("487 INVITE")))
        await worker.expect("CANCEL")
        await worker.expect("ACK")
        await asyncio.wait_for(pool.given_back.wait(), 10)
        assert pool.leases == {}


async def test_a_worker_that_answers_503_is_followed_by_the_next() -> None:
    pool, full, good = Pool(), Worker(100, 503), Worker(200)
    async with workers(pool, full, good), dispatching(pool) as scene:
        pool.occupy("w2")
        await scene.dispatcher.refresh()
        caller = await scene.caller()
        await complete_call(caller)
        assert (full.seen, len(good.invites)) == (["INVITE", "ACK"], 1)
        assert caller.seen == ["100 INVITE", "200 INVITE", "200 BYE"]


async def test_three_workers_that_answer_503_make_503() -> None:
    pool = Pool()
    scripts = [Worker(503) for _ in range(4)]
    async with workers(pool, *scripts), dispatching(pool) as scene:
        caller = await scene.caller()
        caller.send(caller.request("INVITE"))
        refusal = await caller.expect("503 INVITE")
        assert header_of(refusal, "Retry-After") == ""
        caller.send(ack_for(caller, refusal))
        assert sum(len(worker.invites) for worker in scripts) == 3


async def test_a_silent_worker_is_followed_by_the_next() -> None:
    pool, silent, good = Pool(), Worker(), Worker(200)
    async with workers(pool, silent, good), dispatching(pool) as scene:
        pool.occupy("w2")
        await scene.dispatcher.refresh()
        caller = await scene.caller()
        await complete_call(caller)
        assert (silent.seen, len(good.invites)) == (["INVITE"] * 3, 1)


async def test_a_dead_worker_is_followed_by_the_next_at_the_icmp_error() -> None:
    pool, dead, good = Pool(), Worker(), Worker(200)
    async with workers(pool, dead, good), dispatching(pool) as scene:
        dead.close()
        pool.occupy("w2")
        await scene.dispatcher.refresh()
        caller = await scene.caller()
        for number in range(3):
            await complete_call(caller, number)
        assert len(good.invites) == 3
        assert pool.load(WorkerId("w1")) == 0


async def test_when_everything_is_taken_the_caller_gets_503_without_retry_after() -> None:
    pool, worker = Pool(), Worker(200)
    async with workers(pool, worker, capacity=2), dispatching(pool) as scene:
        caller = await scene.caller()
        for number in range(2):
            await complete_call(caller, number)
        caller.send(caller.request("INVITE", branch="z9hG4bKthird", call_id="third"))
        refusal = await caller.expect("503 INVITE")
        assert header_of(refusal, "Retry-After") == ""
        assert len(worker.invites) == 2


async def test_redirect_mode_names_worker_and_lease() -> None:
    pool, worker = Pool(), Worker(200)
    async with workers(pool, worker), dispatching(pool, dispatch_mode=DispatchMode.REDIRECT) as scene:
        caller = await scene.caller()
        caller.send(caller.request("INVITE"))
        answer = await caller.expect("302 INVITE")
        assert await caller.expect("302 INVITE") == answer
        caller.send(ack_for(caller, answer))
        uri, _, lease_token = header_of(answer, "Contact").strip("<>").partition(f";{token.URI_PARAMETER}=")
        assert uri == f"sip:100@127.0.0.1:{worker.address.port}"
        token.verify(lease_token, SECRET, worker_id=WorkerId("w1"), call_id=call_id_for("call-1", "caller"), now_ms=1)
        assert worker.seen == []


async def test_without_redis_calls_are_placed_from_the_last_known_table() -> None:
    pool, worker = Pool(), Worker(200)
    async with workers(pool, worker), dispatching(pool) as scene:
        pool.away = True
        caller = await scene.caller()
        caller.send(caller.request("INVITE"))
        lease_token = header_of(await worker.expect("INVITE"), token.HEADER)
        await caller.expect("200 INVITE")
        call_id = call_id_for("call-1", "caller")
        lease = token.verify(lease_token, SECRET, worker_id=WorkerId("w1"), call_id=call_id, now_ms=now_ms())
        assert lease.provisional
        assert pool.leases == {}


async def test_a_redis_that_hangs_delays_no_call_for_long() -> None:
    pool, worker = Pool(), Worker(200)
    async with workers(pool, worker, capacity=100), dispatching(pool) as scene:
        pool.stuck = True
        caller = await scene.caller()
        callers = [await scene.caller() for _ in range(20)]
        await asyncio.gather(*(complete_call(one, number) for number, one in enumerate(callers)))
        await complete_call(caller, 99)


async def test_strangers_get_no_answer_and_friends_do() -> None:
    pool, worker = Pool(), Worker(200)
    async with workers(pool, worker), dispatching(pool, sip_local_address="0.0.0.0", sip_via_addr="127.0.0.1") as scene:
        stranger, caller = await scene.caller("127.0.0.2"), await scene.caller()
        for method in ("OPTIONS", "INVITE", "REGISTER"):
            stranger.send(stranger.request(method))
        await complete_call(caller)
        assert stranger.seen == []
        assert len(worker.invites) == 1


async def test_a_thousand_malformed_datagrams_do_not_hurt_the_next_call() -> None:
    pool, worker = Pool(), Worker(200)
    broken = [path.read_bytes() for kind in ("400", "drop") for path in sorted(INVALID.glob(f"{kind}-*.sip"))]
    async with workers(pool, worker), dispatching(pool) as scene:
        caller = await scene.caller()
        for number in range(1000):
            data = broken[number % len(broken)]
            caller.send(data[: len(data) - number // len(broken) * 3] if number % 2 else data + bytes((number % 256,)))
            if number % 50 == 0:
                await asyncio.sleep(0)
        other = await scene.caller()
        await complete_call(other)
        assert len(worker.invites) == 1


async def test_options_says_whether_there_is_room() -> None:
    pool, worker = Pool(), Worker(200)
    async with workers(pool, worker, capacity=1), dispatching(pool) as scene:
        caller = await scene.caller()
        caller.send(caller.request("OPTIONS"))
        await caller.expect("200 OPTIONS")
        await complete_call(caller)
        await scene.dispatcher.refresh()
        caller.send(caller.request("OPTIONS", branch="z9hG4bKlater"))
        await caller.expect("503 OPTIONS")


async def test_told_to_stop_it_refuses_new_calls_and_finishes_the_pending_one() -> None:
    pool, worker = Pool(), Worker(180)
    async with workers(pool, worker), dispatching(pool) as scene:
        caller, other = await scene.caller(), await scene.caller()
        caller.send(caller.request("INVITE"))
        offered = await worker.expect("INVITE")
        await caller.expect("180 INVITE")
        scene.dispatcher.stop()
        await asyncio.sleep(0)
        other.send(other.request("OPTIONS", branch="z9hG4bKoptions"))
        await other.expect("503 OPTIONS")
        other.send(other.request("INVITE", branch="z9hG4bKnew", call_id="new"))
        await other.expect("503 INVITE")
        worker.answer(offered, 200)
        await caller.expect("200 INVITE")
