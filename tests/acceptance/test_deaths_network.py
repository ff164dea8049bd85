"""The network between a dispatcher and a worker is cut: callers go round the place that is broken.

There are two dispatchers and two workers, each on a host of its own, and the callers, Redis and Voice Live on another
one that reaches all of them. The first dispatcher and one worker lose each other, and nobody else.
"""

import time
from collections.abc import Iterator

import pytest

from bench.faults.network import Host, Network
from bench.faults.relay import RelayThread
from shared.ending import CallEnd
from tests.acceptance.callers import PAUSE_MAX_S, STALL_S, Callers, patient
from tests.acceptance.pool import Layout, Pool, running_pool
from tests.acceptance.process import START_S, Event

SILENT_S = 2.5
"""How long a dispatcher waits for a worker that says nothing before it asks another one."""

PLACED_WITHIN_S = SILENT_S + 2.0
COPIED_WITHIN_S = 3.0
"""From a worker's answer, which is lost, to the copy that reaches the caller through another dispatcher."""


class Site:
    """A pool whose dispatchers and workers are each on a host of their own."""

    def __init__(self, network: Network, pool: Pool) -> None:
        self.network = network
        self.pool = pool
        model = pool.voice_live.url.rpartition(":")[2]
        self.model = RelayThread("127.0.0.1", int(model), network.address)
        self.fronts: list[Host] = []
        self.hosts: dict[str, Host] = {}
        """By the id of the worker there."""

    def start(self) -> None:
        """Starts all of it; returns when calls find room."""
        pool, network = self.pool, self.network
        pool.start_relay(network.address)
        hosts = [network.host() for _ in range(2)]
        endpoint = f"http://{self.model.host}:{self.model.port}"
        pods = [
            pool.start_pod(1, host=host, SIP_LOCAL_ADDRESS=host.address, AZURE_VOICELIVE_ENDPOINT=endpoint)
            for host in hosts
        ]
        for pod, host in zip(pods, hosts, strict=True):
            [ready] = pod.wait_for("worker.ready", timeout_s=START_S)
            self.hosts[str(ready["worker"])] = host
        self.fronts = [network.host() for _ in range(2)]
        for number, front in enumerate(self.fronts):
            pool.start_dispatcher(host=front, SIP_LOCAL_ADDRESS=front.address)
            pool.wait_until_placeable(number, network.address)

    def cut(self, worker: Event) -> None:
        """Parts the first dispatcher and a worker."""
        self.network.cut(self.fronts[0], self.hosts[str(worker["worker"])])

    def restore(self, worker: Event) -> None:
        """Joins them again."""
        self.network.restore(self.fronts[0], self.hosts[str(worker["worker"])])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("pool")
    with (
        Network() as network,
        running_pool(directory, Layout(dispatchers=0, pods=0), AGENTS_FILE=patient(directory)) as pool,
    ):
        site = Site(network, pool)
        try:
            site.start()
            yield site
            # The answer to who rang while they were parted went past this one, which still waits for it.
            pool.kill_dispatcher()
            for pod in pool.supervisors:
                pod.end()  # while it still reaches Voice Live
        finally:
            site.model.close()


@pytest.fixture
def callers(site: Site) -> Iterator[Callers]:
    site.pool.wait_until_seen(2)
    with Callers(site.pool, site.network.address) as callers:
        yield callers


def test_cut_calls_in_progress_and_ringing_go_on_and_new_ones_are_placed_elsewhere(
    site: Site, callers: Callers
) -> None:
    """In progress: audio does not pass the dispatcher; who hangs up does so through the other one.

    Ringing: the answer comes a little late, through the other dispatcher. New: offered to the lost worker in vain, they
    are answered by another one after SILENT_S. When the network is whole again, so is the pool.
    """
    pool = site.pool
    talking, second = (callers.call().answered() for _ in range(2))
    worker = pool.worker_of(talking.call_id)
    ringing = callers.one_on_each(callers.ring)[str(worker["worker"])]
    for caller in (talking, second):
        caller.hears()
    since = time.time()
    site.cut(worker)
    new = [callers.call() for _ in range(4)]
    for caller in new:
        assert caller.answered().seconds_to("answered", since) < PLACED_WITHIN_S
        assert pool.worker_of(caller.call_id) != worker
    assert ringing.answered().seconds_to("answered", since) < STALL_S + COPIED_WITHIN_S
    ringing.hears()
    for caller in (talking, second):
        assert caller.longest_pause_s(since) < PAUSE_MAX_S
    assert (talking.hang_up(), ringing.hang_up()) == (200, 200)
    site.restore(worker)
    callers.hang_up()
    pool.assert_settled(callers.call_ids)
    assert pool.endings(talking.call_id) == [CallEnd.CALLER_HANGUP]


def test_cut_the_pools_own_bye_is_sent_until_the_network_is_whole_again(site: Site, callers: Callers) -> None:
    """In progress, and hung up by the pool while its BYE cannot pass: silence, and BYE once it can (within timer F)."""
    pool = site.pool
    talking = callers.call().answered()
    talking.hears()
    worker = pool.worker_of(talking.call_id)
    site.cut(worker)
    pool.hang_up(talking.call_id)
    pool.assert_recorded([talking.call_id])
    assert not talking.end_reason
    site.restore(worker)
    talking.hung_up_on()
    pool.assert_settled(callers.call_ids)
    assert pool.endings(talking.call_id) == [CallEnd.OPERATOR_HANGUP]
