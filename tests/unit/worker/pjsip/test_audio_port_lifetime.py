"""A port may be closed in any order and from any thread; whatever could crash runs in a process of its own."""

import ctypes
import gc
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pjaudioport import AudioPort

from tests.unit.worker.pjsip.bridge import Bridge

ROOT = Path(__file__).parents[4]

PREAMBLE = """
import ctypes, gc, sys, threading, time
import pjsua2 as pj
from pjaudioport import AudioPort, take_ready, wake_fd
from tests.unit.worker.pjsip.bridge import endpoint_config

def start():
    endpoint = Endpoint()
    endpoint.libCreate()
    endpoint.libInit(endpoint_config(8000))
    endpoint.libStart()
    endpoint.audDevManager().setNullDev()
    return endpoint

def stop(endpoint):
    endpoint.libDestroy(pj.PJSUA_DESTROY_NO_NETWORK)

def new_port():
    return AudioPort(bridge_rate=8000, encoding="pcm16", rate=24000)

class Endpoint(pj.Endpoint):
    operations = 0
    def onAudioMediaOpCompleted(self, prm):
        self.operations += 1

def connected():
    one, other = new_port(), new_port()
    one.connect(other.slot)
    other.connect(one.slot)
    one.write(bytes(96000))
    return one, other

def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)

def busy(*ports):
    until(lambda: all(port.counters().captured for port in ports))
"""


def run(script: str) -> None:
    """Run the script in a process of its own; a crash or an exception there fails the test."""
    code = PREAMBLE + textwrap.dedent(script) + "\nprint('done')"
    command = [sys.executable, "-X", "faulthandler", "-c", code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, f"exit status {result.returncode}\n{result.stdout}{result.stderr}"
    assert "done" in result.stdout


# With the endpoint alive


class MallInfo2(ctypes.Structure):
    """mallinfo(3)."""

    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"
    )]  # fmt: skip


def allocated_bytes() -> int:
    """Returns the bytes that malloc has given out and not got back, all threads together."""
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = MallInfo2
    info = mallinfo2()
    return int(info.uordblks + info.hblkhd)


def test_close_before_connect_and_before_the_first_tick(bridge: Bridge) -> None:
    port = bridge.port()
    port.close()
    assert port.slot == -1


def test_closing_twice_and_disconnecting_afterwards_is_harmless(bridge: Bridge) -> None:
    port, peer = bridge.port(), bridge.port()
    bridge.pair(port, peer)
    bridge.tick()
    port.close()
    port.close()
    port.disconnect()
    bridge.tick()
    port.close()


def test_a_closed_port_refuses_everything_but_its_counters(bridge: Bridge) -> None:
    port, peer = bridge.port(), bridge.port()
    bridge.pair(port, peer)
    bridge.tick(2)
    port.close()
    bridge.tick(2)
    assert port.counters().captured == 2 * bridge.frame
    for use in (port.read, port.finish, port.flush, port.__enter__, lambda: port.write(b""), lambda: port.connect(0)):
        with pytest.raises(ValueError, match="closed"):
            use()


def test_a_closed_port_keeps_no_audio_memory_however_long_its_object_lives(bridge: Bridge) -> None:
    ports = [bridge.port("g711_ulaw") for _ in range(50)]
    bridge.tick()
    before = allocated_bytes()
    for port in ports:
        port.close()
    bridge.tick(2)
    assert before - allocated_bytes() >= 50 * 256 * 1024
    assert all(port.counters().written == 0 for port in ports)


def test_leaving_the_with_block_closes_the_port(bridge: Bridge) -> None:
    with bridge.port() as port:
        assert port.slot > 0
    assert port.slot == -1


def test_a_port_nobody_refers_to_leaves_the_bridge(bridge: Bridge) -> None:
    slots = set()
    for _ in range(300):  # the bridge has 120
        port = AudioPort(bridge_rate=8000, encoding="pcm16", rate=8000)
        port.connect(0)
        slots.add(port.slot)
        del port
        bridge.tick()
    gc.collect()
    assert len(slots) < 5


def test_threads_unknown_to_pjsip_may_use_ports(bridge: Bridge) -> None:
    def use(_: int) -> int:
        with AudioPort(bridge_rate=8000, encoding="pcm16", rate=24000) as port:
            port.connect(0)
            port.write(bytes(9600))
            port.disconnect()
            return port.flush()

    with ThreadPoolExecutor(4) as threads:
        assert set(threads.map(use, range(40))) == {1600}
    bridge.tick(3)


# What would take the test process along


def test_without_an_endpoint_the_error_says_so() -> None:
    run("""
        try:
            new_port()
        except RuntimeError as error:
            assert "no pjsua2 endpoint is running" in str(error)
        else:
            raise AssertionError
        assert take_ready() == [] and wake_fd() >= 0
    """)


def test_ports_outlive_the_endpoint_and_are_closed_late_or_never() -> None:
    run("""
        endpoint = start()
        one, other = connected()
        idle, untouched = new_port(), new_port()
        busy(one, other)
        stop(endpoint)
        played = one.counters()
        assert played.played > 0 and one.slot == -1
        assert other.read() and one.flush() == played.queued
        one.disconnect(); one.close(); one.close(); idle.close()
        try:
            other.connect(1)
        except RuntimeError as error:
            assert "no pjsua2 endpoint" in str(error)
        else:
            raise AssertionError
        del one, other, idle, untouched
        gc.collect()
    """)


def test_ports_of_an_earlier_endpoint_leave_a_later_one_alone() -> None:
    run("""
        first = start()
        old, old_peer = connected()
        busy(old, old_peer)
        stop(first)
        del first
        second = start()
        one, other = connected()
        busy(one, other)
        old.close(); old_peer.disconnect()
        del old, old_peer
        captured = other.counters().captured
        until(lambda: other.counters().captured > captured + 1600)
        stop(second)
    """)


def test_interpreter_exit_with_everything_open() -> None:
    run("""
        endpoint = start()
        ports = connected()
        busy(*ports)
    """)


def test_destroying_the_endpoint_before_the_first_tick_of_a_port() -> None:
    run("""
        endpoint = start()
        for _ in range(20):
            new_port().connect(0)
        ports = [new_port() for _ in range(20)]
        stop(endpoint)
    """)


def test_a_port_in_a_reference_cycle_is_closed_by_the_collector_of_another_thread() -> None:
    run("""
        endpoint = start()
        class Call: pass
        for _ in range(50):
            call = Call()
            call.self = call
            call.port, call.peer = connected()
        del call
        collector = threading.Thread(target=gc.collect)
        collector.start(); collector.join()
        until(lambda: new_port().slot < 20)
        stop(endpoint)
    """)


def test_audio_flows_and_calls_connect_while_python_holds_the_gil() -> None:
    """Neither audio nor the bridge's operations wait for Python: pjsua2's notice of an operation would."""
    run("""
        endpoint = start()
        one, other = connected()
        busy(one, other)
        endpoint.operations = 0
        late = new_port()
        late.connect(one.slot)
        before = other.counters().captured
        ctypes.PyDLL(None).usleep(300_000)  # with the GIL held
        assert other.counters().captured >= before + 5 * 160
        assert late.counters().captured >= 5 * 160
        until(lambda: late.counters().captured > 20 * 160)
        assert endpoint.operations == 0
        stop(endpoint)
    """)
