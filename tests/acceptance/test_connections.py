"""Telephones that call over TCP and TLS: audio both ways, and the pool's own BYE, whatever became of the connection."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.ending import CallEnd
from shared.messages import CommandName
from tests.acceptance.pool import Pool, running_pool
from tests.acceptance.telephone import assert_talked, finish, ring, ringing, wait_for_leases
from tests.acceptance.test_worker_orders import answered_call, order
from tests.integration.redis.conftest import Authority

both = pytest.mark.parametrize("transport", ["tcp", "tls"])


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    """A dispatcher that speaks TLS too, and two workers."""
    directory: Path = tmp_path_factory.mktemp("pool")
    certificate, key = Authority(directory).issue("dispatcher", "IP:127.0.0.1")
    files = {"SIP_TLS_CERT_FILE": str(certificate), "SIP_TLS_KEY_FILE": str(key)}
    with running_pool(directory, workers=2, SIP_TLS_PORT="0", **files) as pool:
        yield pool


@pytest.fixture
def pool(shared: Pool) -> Iterator[Pool]:
    """The same; a test that leaves a lease behind fails."""
    yield shared
    shared.wait_until_idle()


def port_of(pool: Pool, transport: str) -> int:
    (listening,) = pool.dispatcher.events("dispatcher.listening")
    return int(listening["tls_port"] if transport == "tls" else listening["port"])


@both
def test_both_sides_are_heard(pool: Pool, transport: str) -> None:
    (call,) = ring(pool, "--transport", transport, port=port_of(pool, transport))
    assert_talked(pool, call)
    assert pool.record(call.call_id).reason == CallEnd.CALLER_HANGUP


@both
def test_the_pool_hangs_up(pool: Pool, transport: str) -> None:
    with ringing(pool, "--transport", transport, "--hold-until-bye", port=port_of(pool, transport)) as phone:
        lease = answered_call(pool)
        order(pool, CommandName.HANGUP, lease.worker_id, lease.call_id)
        (call,) = finish(phone, pool)
    assert call.report["ended_by"] == "pool", f"{call.report}\n{pool.tails()}"
    assert pool.record(lease.call_id).reason == CallEnd.OPERATOR_HANGUP


def test_the_pool_hangs_up_after_its_dispatcher_was_started_again(pool: Pool) -> None:
    with ringing(pool, "--transport", "tcp", "--hold-until-bye") as phone:
        lease = answered_call(pool)
        pool.kill_dispatcher()
        pool.restart_dispatcher(0)
        order(pool, CommandName.HANGUP, lease.worker_id, lease.call_id)
        (call,) = finish(phone, pool)
    assert call.report["ended_by"] == "pool", f"{call.report}\n{pool.tails()}"
    assert pool.record(lease.call_id).reason == CallEnd.OPERATOR_HANGUP


def test_a_caller_whose_worker_dies_is_told(pool: Pool) -> None:
    with ringing(pool, "--transport", "tcp", "--hold-until-bye") as phone:
        lease = answered_call(pool)
        pool.kill_worker(lease.worker_id)
        (call,) = finish(phone, pool)
    assert call.report["ended_by"] == "pool", f"{call.report}\n{pool.tails()}"
    wait_for_leases(pool, 0)
    assert pool.record(lease.call_id).reason == CallEnd.WORKER_LOST
