"""Who is let in: networks, rates, worker addresses."""

from ipaddress import ip_network

from dispatcher.admission import MAX_WORKERS, REMEMBERED_S, Admission, WorkerAddresses
from dispatcher.sip.actions import Address

NETWORKS = (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"))
WORKER = Address("udp", "10.0.1.1", 5070)


def test_only_addresses_in_allowed_networks_are_peers() -> None:
    admission = Admission(NETWORKS, 10.0)
    hosts = ["192.0.2.1", "2001:db8::7", "192.0.3.1", "2001:db9::7", "pbx.example.com", "", "192.0.2.1 "]
    assert [host for host in hosts if admission.is_peer(host)] == ["192.0.2.1", "2001:db8::7"]


def test_without_networks_nobody_is_a_peer() -> None:
    assert not Admission((), 10.0).is_peer("127.0.0.1")


def test_what_is_known_of_hosts_is_bounded() -> None:
    admission = Admission(NETWORKS, 10.0, max_sources=3)
    for number in range(10):
        admission.is_peer(f"192.0.2.{number}")
        admission.admits(f"192.0.2.{number}", 0.0)
    assert len(admission) == 6


def test_a_source_may_send_one_second_of_calls_at_once_and_then_its_rate() -> None:
    admission = Admission(NETWORKS, 3.0)
    assert [admission.admits("192.0.2.1", 5.0) for _ in range(4)] == [True, True, True, False]
    assert [admission.admits("192.0.2.1", 5.4) for _ in range(2)] == [True, False]
    assert [admission.admits("192.0.2.1", 60.0) for _ in range(4)] == [True, True, True, False]


def test_sources_are_counted_apart() -> None:
    admission = Admission(NETWORKS, 1.0)
    assert [admission.admits(f"192.0.2.{number}", 0.0) for number in (1, 2, 1)] == [True, True, False]


def test_a_rate_below_one_still_lets_a_call_through() -> None:
    admission = Admission(NETWORKS, 0.1)
    assert [admission.admits("192.0.2.1", at) for at in (0.0, 5.0, 10.0)] == [True, False, True]


def test_the_source_unheard_of_for_longest_is_forgotten_first() -> None:
    admission = Admission(NETWORKS, 1.0, max_sources=2)
    for host in ("192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.3"):
        admission.admits(host, 0.0)
    assert not admission.admits("192.0.2.1", 0.0)
    assert admission.admits("192.0.2.2", 0.0)


def test_a_worker_is_known_while_it_is_in_the_table_and_some_time_after() -> None:
    workers = WorkerAddresses()
    workers.update([WORKER], 0.0)
    workers.update([], REMEMBERED_S)
    assert workers.knows(WORKER)
    workers.update([], REMEMBERED_S + 1)
    assert not workers.knows(WORKER)


def test_a_worker_is_known_by_its_port_too() -> None:
    workers = WorkerAddresses()
    workers.update([WORKER], 0.0)
    assert not workers.knows(WORKER._replace(port=5071))


def test_the_worker_seen_last_longest_ago_is_forgotten_when_there_are_too_many() -> None:
    workers = WorkerAddresses()
    workers.update([WORKER], 0.0)
    workers.update((WORKER._replace(port=10_000 + number) for number in range(MAX_WORKERS)), 1.0)
    assert not workers.knows(WORKER)
    assert workers.knows(WORKER._replace(port=10_000))


def test_a_host_has_workers_as_long_as_one_of_them_is_remembered() -> None:
    workers = WorkerAddresses()
    assert not workers.has_host("10.0.1.1")
    workers.update([Address("udp", "10.0.1.1", 5070), Address("udp", "10.0.1.1", 5071)], 0.0)
    workers.update([Address("udp", "10.0.1.1", 5071)], 500.0)
    workers.update([], 700.0)
    assert workers.has_host("10.0.1.1") and not workers.knows(Address("udp", "10.0.1.1", 5070))
    workers.update([], 1200.0)
    assert not workers.has_host("10.0.1.1")
