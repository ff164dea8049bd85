"""What tests of deaths build on: a pool of several dispatchers and pods whose processes die, freeze and come back."""

from pathlib import Path

from bench.faults.network import Network
from bench.faults.processes import Target
from bench.faults.relay import RelayThread
from tests.acceptance.pool import Layout, Pool, running_pool, until
from tests.acceptance.process import START_S
from tests.acceptance.raw_sip import RawCaller


def options(pool: Pool, dispatcher: int) -> int:
    """Returns what a dispatcher answers to OPTIONS, 0 for nothing."""
    with RawCaller(*pool.addresses[dispatcher]) as caller:
        return caller.options()


def answers(pool: Pool, dispatcher: int) -> bool:
    """Whether a dispatcher says anything at all."""
    return options(pool, dispatcher) != 0


def test_a_pool_of_several_is_killed_frozen_and_started_again_piece_by_piece(tmp_path: Path) -> None:
    with running_pool(tmp_path, Layout(dispatchers=2, pods=2, relay=True), workers=1) as pool:
        first, second = pool.workers()
        assert pool.live_workers() == [first, second]

        pool.kill_dispatcher(1)
        assert not pool.dispatchers[1].running and answers(pool, 0)
        pool.restart_dispatcher(1)
        pool.wait_until_placeable(1)

        pool.freeze_dispatcher(0)
        assert not answers(pool, 0) and answers(pool, 1)
        pool.thaw_dispatcher(0)
        until(lambda: answers(pool, 0), START_S, "it does not go on")

        pool.start_dispatcher()
        pool.wait_until_placeable(2)

        pool.kill_worker(str(first["worker"]))
        assert second in pool.live_workers() and first not in pool.live_workers()
        pool.supervisors[0].wait_for("worker.ready", count=2, timeout_s=START_S)
        victim = Target.of(int(second["pid"]))
        pool.freeze_worker(str(second["worker"]))
        until(lambda: victim.frozen, START_S, "it does not freeze")
        pool.thaw_worker(str(second["worker"]))
        until(lambda: not victim.frozen, START_S, "it does not go on")
        assert second in pool.live_workers()

        assert pool.relay
        pool.relay.freeze()
        pool.dispatchers[2].wait_for("control.unavailable")
        pool.relay.heal()
        pool.dispatchers[2].wait_for("control.available")

        pool.kill_supervisor(0)
        pool.kill_supervisor(1)
        until(lambda: not pool.live_workers(), START_S, "the workers of a dead supervisor stay")
        [ready] = pool.start_pod(1).wait_for("worker.ready", timeout_s=START_S)
        assert pool.live_workers() == [ready]
        pool.wait_until_placeable(2)
        make_call(pool, 2)


def test_a_dispatcher_and_a_pod_on_hosts_of_their_own(tmp_path: Path) -> None:
    with Network() as network, running_pool(tmp_path, Layout(dispatchers=0, pods=0)) as pool:
        pool.start_relay(network.address)
        port = int(pool.voice_live.url.rpartition(":")[2])
        model = RelayThread("127.0.0.1", port, network.address)
        try:
            near, far = network.host(), network.host()
            pod = pool.start_pod(
                1,
                host=far,
                SIP_LOCAL_ADDRESS=far.address,
                AZURE_VOICELIVE_ENDPOINT=f"http://{model.host}:{model.port}",
            )
            pod.wait_for("worker.ready", timeout_s=START_S)
            pool.start_dispatcher(host=near, SIP_LOCAL_ADDRESS=near.address)
            pool.wait_until_placeable(source=network.address)
            make_call(pool, 0, network.address)
            network.cut(near, far)
            with RawCaller(*pool.addresses[0], network.address) as caller:
                caller.send(caller.invite())
                refusal = caller.response(timeout_s=30.0)
                assert refusal and refusal.status == 503, pool.tails()
                caller.ack_failure(refusal)
            network.restore(near, far)
            pool.wait_until_placeable(source=network.address)
            make_call(pool, 0, network.address)
            pod.end()
        finally:
            model.close()


def make_call(pool: Pool, dispatcher: int, source: str = "127.0.0.1") -> None:
    """Makes one call through a dispatcher, from INVITE to its record."""
    with RawCaller(*pool.addresses[dispatcher], source) as caller:
        caller.send(caller.invite())
        answer = caller.response()
        assert answer and answer.status == 200, pool.tails()
        caller.ack(answer)
        caller.bye(answer)
        bye = caller.response("BYE")
        assert bye and bye.status == 200, pool.tails()
    pool.record(caller.call_id)
