"""What is provided when it is not set, and which SIP port is used."""

import socket

import pytest

from admin.pool import choose_sip_port, provide
from admin.ports import PortTaken
from shared.settings import DispatcherSettings, load


def test_everything_is_provided_where_nothing_is_set() -> None:
    provision = provide({})
    environment = provision.environment
    assert provision.simulated
    assert environment["REDIS_URL"] == f"redis://127.0.0.1:{provision.redis_port}/0"
    assert len(environment["LEASE_SECRET"]) >= 16
    assert environment["LEASE_SECRET"] != provide({}).environment["LEASE_SECRET"]
    assert not provision.own_sip_port


def test_what_is_set_is_left_alone() -> None:
    found = {
        "REDIS_URL": "redis://redis.example/0",
        "LEASE_SECRET": "a-secret-of-thirty-two-characters",
        "AZURE_VOICELIVE_ENDPOINT": "https://resource.example",
        "WORKER_DRAIN_S": "60",
        "SIP_ALLOWED_PEERS": "192.0.2.0/24",
        "SIP_PORT": "5062",
    }
    provision = provide(found)
    assert provision.environment == {}
    assert provision.redis_port is None
    assert not provision.simulated
    assert provision.own_sip_port


def test_an_empty_value_counts_as_not_set() -> None:
    provision = provide({"REDIS_URL": "", "AZURE_VOICELIVE_ENDPOINT": ""})
    assert provision.redis_port
    assert provision.simulated


def test_sip_goes_to_the_next_port_where_the_default_is_taken_but_not_where_one_is_asked_for() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", 0))
        taken = int(holder.getsockname()[1])
        settings = load(
            DispatcherSettings, SIP_PORT=taken, SIP_LOCAL_ADDRESS="127.0.0.1", LEASE_SECRET="0123456789abcdef"
        )
        assert choose_sip_port(settings, only_this=False) > taken
        with pytest.raises(PortTaken):
            choose_sip_port(settings, only_this=True)


def test_port_zero_is_left_to_the_dispatcher() -> None:
    settings = load(DispatcherSettings, SIP_PORT=0, LEASE_SECRET="0123456789abcdef")
    assert choose_sip_port(settings, only_this=True) == 0
