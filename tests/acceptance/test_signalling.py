"""What SIP peers do that they should not, and what the network does to them: nothing leaks, and the next call works."""

import random
import secrets
import time
from collections.abc import Callable

import pytest

from shared.ending import CallEnd, CallResult
from shared.ids import CallId, WorkerId, new_lease_id
from shared.messages import Lease
from shared.token import HEADER, MAX_AGE_MS, sign
from tests.acceptance.pool import LEASE_SECRET, Pool, until
from tests.acceptance.process import PoolProcess
from tests.acceptance.raw_sip import RawCaller, Response
from tests.acceptance.telephone import assert_answered, ring

FLOOD = 1000

LOG_LINE_MAX = 600
"""Bytes that one datagram may cost in the log: a line that says what and from where, not what was in it."""


def dispatcher_of(pool: Pool) -> tuple[str, int]:
    return pool.sip_host, pool.sip_port


def worker_of(pool: Pool) -> tuple[str, int]:
    worker = pool.live_workers()[0]
    return str(worker["sip_host"]), int(worker["sip_port"])


def final(caller: RawCaller, pool: Pool) -> Response:
    response = caller.response()
    assert response, f"no final response\n{pool.tails()}"
    return response


def test_a_retransmitted_invite_is_one_call(pool: Pool) -> None:
    sessions = len(pool.sessions())
    with RawCaller(*dispatcher_of(pool)) as caller:
        for _ in range(3):
            caller.send(caller.invite())
        ringing = caller.response(final=False)
        assert ringing
        for _ in range(2):
            caller.send(caller.invite())
            caller.received(0.3)
        answer = final(caller, pool)
        assert answer.status == 200
        # The 200 was lost, for all the caller's stack knows: RFC 3261 section 17.1.1.2, timer A.
        caller.send(caller.invite())
        caller.ack(answer)
        assert pool.leases() == {caller.call_id}
        caller.bye(answer)
        bye = caller.response("BYE")
        assert bye and bye.status == 200
    assert pool.record(caller.call_id).reason == CallEnd.CALLER_HANGUP
    assert len(pool.sessions()) - sessions == 1


def test_a_cancel_while_ringing_leaves_nothing_leased(pool: Pool) -> None:
    pool.order_faults(next_handshake={"stall": True})
    (call,) = ring(pool, "--cancel-after", "1.5")
    assert call.report["ok"], f"{call.report}\n{pool.tails()}"
    assert call.report["status"] == 487
    assert "ringing" in call.marks
    record = pool.record(call.call_id)
    assert (record.result, record.reason) == (CallResult.CANCELLED, CallEnd.CALLER_CANCELLED)


def test_a_cancel_right_behind_the_invite_leaves_nothing_leased(pool: Pool) -> None:
    pool.order_faults(next_handshake={"stall": True})
    with RawCaller(*dispatcher_of(pool)) as caller:
        caller.send(caller.invite())
        caller.response(final=False)  # RFC 3261 section 9.1: no CANCEL before a provisional response
        caller.send(caller.cancel())
        cancelled = caller.response("CANCEL")
        assert cancelled and cancelled.status == 200
        answer = final(caller, pool)
        assert answer.status == 487, answer.text
        caller.ack_failure(answer)
        pool.wait_until_idle()


def test_an_answer_that_is_never_acknowledged_is_hung_up(pool: Pool) -> None:
    with RawCaller(*dispatcher_of(pool)) as caller:
        caller.send(caller.invite())
        answer = final(caller, pool)
        assert answer.status == 200
    # RFC 3261 section 13.3.1.4: the callee gives up after 64*T1 = 32 s.
    pool.wait_until_idle(timeout_s=45.0)
    assert pool.record(caller.call_id).reason == CallEnd.CALLER_UNREACHABLE


def garbage(worker: WorkerId, call: CallId) -> str:
    return secrets.token_urlsafe(80)


def lease_for(worker: WorkerId, call: CallId, age_ms: int = 0) -> Lease:
    now_ms = int(time.time() * 1000) - age_ms
    return Lease(
        lease_id=new_lease_id(), call_id=call, worker_id=worker, offered_at_ms=now_ms, invite_at_ms=now_ms,
    )  # fmt: skip


def forged(worker: WorkerId, call: CallId) -> str:
    return sign(lease_for(worker, call), "not the pool's secret")


def stale(worker: WorkerId, call: CallId) -> str:
    return sign(lease_for(worker, call, age_ms=2 * MAX_AGE_MS), LEASE_SECRET)


def for_another_call(worker: WorkerId, call: CallId) -> str:
    return sign(lease_for(worker, CallId("another call")), LEASE_SECRET)


def for_another_worker(worker: WorkerId, call: CallId) -> str:
    return sign(lease_for(WorkerId("another worker"), call), LEASE_SECRET)


def never_leased(worker: WorkerId, call: CallId) -> str:
    return sign(lease_for(worker, call), LEASE_SECRET)


Token = Callable[[WorkerId, CallId], str]


@pytest.mark.parametrize("token", [garbage, forged, stale, for_another_call, for_another_worker, never_leased])
def test_a_worker_refuses_a_token_that_is_not_good(pool: Pool, token: Token) -> None:
    worker = WorkerId(pool.live_workers()[0]["worker"])
    with RawCaller(*worker_of(pool)) as caller:
        caller.send(caller.invite(f"{HEADER}: {token(worker, caller.call_id)}"))
        answer = final(caller, pool)
        caller.ack_failure(answer)
    assert answer.status == 403, answer.text
    assert pool.leases() == set()


def test_a_worker_refuses_a_call_without_a_token_any_number_of_times(pool: Pool) -> None:
    for _ in range(60):  # more than the worker has room for: a refused call must not keep any of it
        with RawCaller(*worker_of(pool)) as caller:
            caller.send(caller.invite())
            answer = final(caller, pool)
            caller.ack_failure(answer)
        assert answer.status == 403, answer.text
    assert_answered(pool)


def test_a_token_from_outside_does_not_pass_the_dispatcher(pool: Pool) -> None:
    """The dispatcher replaces it: the call is placed by a lease of its own."""
    with RawCaller(*dispatcher_of(pool)) as caller:
        caller.send(caller.invite(f"{HEADER}: {garbage(WorkerId(''), CallId(''))}"))
        answer = final(caller, pool)
        assert answer.status == 200
        caller.ack(answer)
        caller.bye(answer)
        assert caller.response("BYE")
    pool.record(caller.call_id)


def test_an_unknown_source_is_refused_with_a_log_line(pool: Pool) -> None:
    with RawCaller(*dispatcher_of(pool), address="127.0.0.2") as caller:
        caller.send(caller.invite())
        answer = caller.response(timeout_s=2.0)
        assert answer is None or answer.status == 403
        if answer:
            caller.ack_failure(answer)
    until(
        lambda: any("127.0.0.2" in line for line in pool.dispatcher.lines()), 10.0,
        lambda: f"no log line names the source\n{pool.dispatcher.tail()}",
    )  # fmt: skip
    assert pool.leases() == set()


def malformed(number: int, caller: RawCaller) -> bytes:
    """Returns one of many datagrams that are not SIP, or not enough of it."""
    dice = random.Random(number)
    good = caller.invite()
    head, _, body = good.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    without = dice.choice([b"Via", b"From", b"To", b"Call-ID", b"CSeq"])
    kinds: list[Callable[[], bytes]] = [
        lambda: dice.randbytes(dice.randrange(1, 1400)),
        lambda: b"\r\n".join(line for line in lines if not line.startswith(without)) + b"\r\n\r\n" + body,
        lambda: good.replace(b"SIP/2.0\r\n", b"SIP/7.0\r\n", 1),
        lambda: good.replace(b"CSeq: 1 INVITE", b"CSeq: x INVITE"),
        lambda: good.replace(b"CSeq: 1 INVITE", b"CSeq: 1 BYE"),
        lambda: good.replace(b"Content-Length: ", b"Content-Length: 9"),
        lambda: good.replace(b"Content-Length: ", b"Content-Length: -"),
        lambda: head[: dice.randrange(1, len(lines[0]) + 10)],
        lambda: b"INVITE " + b"a" * dice.randrange(2000, 60000),
        lambda: good.replace(b": ", b" ", 40),
        lambda: b"SIP/2.0 200 OK\r\n" + b"\r\n".join(lines[3:]) + b"\r\n\r\n",
        lambda: b"\x00" * 500,
    ]
    return kinds[number % len(kinds)]()


def log_bytes(process: PoolProcess) -> int:
    return sum(len(line) for line in process.lines())


@pytest.mark.parametrize("target", [dispatcher_of, worker_of], ids=["dispatcher", "worker"])
def test_a_thousand_malformed_datagrams_do_no_harm(pool: Pool, target: Callable[[Pool], tuple[str, int]]) -> None:
    workers = pool.live_workers()
    before = log_bytes(pool.dispatcher) + log_bytes(pool.supervisor)
    with RawCaller(*target(pool)) as caller:
        for number in range(FLOOD):
            caller.send(malformed(number, caller))
            while caller.received(0):  # whatever it has to say to that
                pass
    pool.wait_until_idle()
    assert_answered(pool)
    assert pool.live_workers() == workers, "a worker died of it"
    assert log_bytes(pool.dispatcher) + log_bytes(pool.supervisor) - before < (FLOOD + 50) * LOG_LINE_MAX
