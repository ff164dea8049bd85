"""Choosing ports while others hold some."""

import socket
from collections.abc import Iterator

import pytest

from admin.ports import PortTaken, free_tcp_port, free_udp_port

HOST = "127.0.0.1"


@pytest.fixture
def taken() -> Iterator[int]:
    """A UDP port that somebody listens on."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind((HOST, 0))
        yield int(holder.getsockname()[1])


def test_a_free_port_is_taken_as_it_is(taken: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((HOST, 0))
        port = int(other.getsockname()[1])
    assert free_udp_port(HOST, port) == port


def test_where_the_port_is_taken_a_later_one_is_chosen(taken: int) -> None:
    assert taken < free_udp_port(HOST, taken, tries=100) < taken + 100


def test_a_port_that_listens_on_all_addresses_counts_as_taken(taken: int) -> None:
    assert free_udp_port("0.0.0.0", taken, tries=100) > taken


def test_when_no_other_port_will_do_a_taken_one_is_an_error(taken: int) -> None:
    with pytest.raises(PortTaken, match=f"UDP port {taken} of {HOST} is taken"):
        free_udp_port(HOST, taken)


def test_a_free_tcp_port_can_be_listened_on() -> None:
    with socket.socket() as server:
        server.bind((HOST, free_tcp_port()))
