"""What a process tells systemd, read from the socket as systemd does."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.systemd import TELL_S, Unit
from tests.notify_socket import Listener


@pytest.fixture
def address(tmp_path: Path) -> str:
    return str(tmp_path / "notify")


@pytest.fixture
def systemd(address: str) -> Iterator[Listener]:
    listener = Listener(address)
    yield listener
    listener.close()


def unit(address: str) -> Unit:
    return Unit({"NOTIFY_SOCKET": address})


def test_ready_is_told_once_and_being_alive_each_second(systemd: Listener, address: str) -> None:
    told = unit(address)
    told.turned(0.0, "starting", ready=False)
    told.turned(0.5, "ready")
    told.turned(0.6, "ready, as it was")
    told.turned(0.5 + TELL_S, "busy")
    assert systemd.told() == [
        ["STATUS=starting", "WATCHDOG=1"],
        ["READY=1", "STATUS=ready", "WATCHDOG=1"],
        ["STATUS=busy", "WATCHDOG=1"],
    ]


def test_stopping_is_told_at_once_and_is_the_last_word(systemd: Listener, address: str) -> None:
    told = unit(address)
    told.turned(0.0, "ready")
    told.turned(0.1, "draining", stopping=True)
    told.turned(0.1 + TELL_S, "draining still", stopping=True)
    assert systemd.told()[1:] == [
        ["STOPPING=1", "STATUS=draining", "WATCHDOG=1"],
        ["STATUS=draining still", "WATCHDOG=1"],
    ]


def test_who_was_ready_once_does_not_say_so_again(systemd: Listener, address: str) -> None:
    told = unit(address)
    for now, ready in ((0.0, True), (1.0, False), (2.0, True)):
        told.turned(now, "as it is", ready=ready)
    assert [message[0] for message in systemd.told()] == ["READY=1", "STATUS=as it is", "STATUS=as it is"]


def test_a_name_in_the_abstract_namespace_is_understood(tmp_path: Path) -> None:
    name = f"voicepool-test-{tmp_path}"
    systemd = Listener(f"\0{name}")
    unit(f"@{name}").turned(0.0, "ready")
    told = systemd.told()
    systemd.close()
    assert told == [["READY=1", "STATUS=ready", "WATCHDOG=1"]]


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1234"}])
def test_where_systemd_does_not_listen_nothing_happens(environment: dict[str, str]) -> None:
    alone = Unit(environment)
    alone.turned(0.0, "ready")
    assert not alone.listens


def test_what_nobody_takes_is_told_again_the_next_time(address: str) -> None:
    told = unit(address)
    told.turned(0.0, "ready")  # there is no such socket yet
    systemd = Listener(address)
    told.turned(0.1, "ready")
    told.turned(0.2, "ready")
    messages = systemd.told()
    systemd.close()
    assert messages == [["READY=1", "STATUS=ready", "WATCHDOG=1"]]


def test_a_systemd_that_does_not_read_holds_nobody_up(systemd: Listener, address: str) -> None:
    told = unit(address)
    turns = 10_000  # far more than a socket holds (net.unix.max_dgram_qlen)
    for turn in range(turns):
        told.turned(turn * TELL_S, "ready")
    taken = systemd.told()
    assert 0 < len(taken) < turns
    told.turned(turns * TELL_S, "there again")
    assert systemd.told() == [["STATUS=there again", "WATCHDOG=1"]]
