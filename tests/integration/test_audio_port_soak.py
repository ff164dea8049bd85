"""Thousands of audio ports come and go under load: no crash, no memory, no file descriptors left behind.

Run as a script it is the load itself, in a process of its own, so that a crash is a failed test and not a dead one.
"""

import gc
import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from pjaudioport import AudioPort, take_ready

from tests.unit.worker.pjsip.bridge import Bridge, Encoding, running_bridge

CYCLES = 2000
WARM_UP = 400
"""Cycles until pools, arenas and free lists have found their size."""

BUSY_PORTS = 20
RSS_GROWTH_KB = 1500
"""Of the remaining cycles together; one leaked port is 280 kB or more, one leaked slot of the bridge 3 kB."""

PORT_KB = 450
"""Of one 8 kHz port in its largest format, once audio has gone through all of both rings."""

FORMATS: tuple[tuple[Encoding, int], ...] = (("pcm16", 8000), ("pcm16", 24000), ("g711_ulaw", 8000))


@pytest.mark.timeout(150)
def test_two_thousand_ports_come_and_go_under_load_without_a_trace() -> None:
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.integration.test_audio_port_soak"]
    root = Path(__file__).parents[2]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=140, check=False)
    assert run.returncode == 0, f"exit status {run.returncode}\n{run.stderr}"
    report = json.loads(run.stdout)
    assert report["cycles"] == CYCLES
    assert report["carried"] > 0
    assert report["fds_after"] == report["fds_before"]
    assert report["rss_after_kb"] - report["rss_before_kb"] < RSS_GROWTH_KB, report
    assert report["port_kb"] < PORT_KB, report


class Load:
    """Ports that carry audio while others come and go; stopped by `done`."""

    def __init__(self, bridge: Bridge) -> None:
        self.done = threading.Event()
        self.failures: list[BaseException] = []
        self.carried = 0
        self._bridge = bridge
        self._ports = [bridge.port(*FORMATS[i % len(FORMATS)]) for i in range(BUSY_PORTS)]
        self._by_id = {port.id: port for port in self._ports}
        for port, next_port in zip(self._ports, self._ports[1:] + self._ports[:1], strict=True):
            port.connect(next_port.slot)
        self._threads = [
            threading.Thread(target=self._until_done, args=(work,)) for work in (self._clock, self._speak, self._listen)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self.done.set()
        for thread in self._threads:
            thread.join()

    def _until_done(self, work: Callable[[], None]) -> None:
        try:
            while not self.done.is_set():
                work()
        except BaseException as error:
            self.failures.append(error)
            self.done.set()

    def _clock(self) -> None:
        """A few hundred to a few thousand ticks a second, where a call has fifty."""
        self._bridge.tick()
        self.done.wait(0.0005)

    def _speak(self) -> None:
        port = random.choice(self._ports)
        port.write(os.urandom(20000))
        random.choice((port.finish, port.flush, port.counters))()
        self.done.wait(0.0005)

    def _listen(self) -> None:
        for port_id in take_ready():
            if port_id in self._by_id:
                self.carried += len(self._by_id[port_id].read())
        self.done.wait(0.0005)


def come_and_go(bridge: Bridge, load: Load, choose: random.Random) -> None:
    """One call's pair of ports, which ends in one of the ways in which calls end."""
    encoding, rate = choose.choice(FORMATS)
    one = AudioPort(bridge_rate=bridge.rate, encoding=encoding, rate=rate)
    other = AudioPort(bridge_rate=bridge.rate, encoding=encoding, rate=rate)
    if choose.random() < 0.9:
        bridge.pair(one, other)
        one.write(os.urandom(choose.randrange(40000)))
    wait_for_ticks(load, one, choose.randrange(4))
    end = choose.randrange(5)
    if end == 0:
        one.close()
        other.close()
    elif end == 1:
        other.close()
        one.disconnect()
    elif end == 2:
        one.disconnect()
        one.connect(0)
    elif end == 3:
        one.close()
        one.close()
    one.counters()  # and the collector closes what is still open


def wait_for_ticks(load: Load, port: AudioPort, ticks: int) -> None:
    """Let the clock run for that many frames of a connected port; an unconnected one counts none and does not wait."""
    before = port.counters().captured
    for _ in range(20):
        if port.counters().captured - before >= ticks * 160 or load.done.is_set():
            return
        load.done.wait(0.0005)


def rss_kb() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def memory_of_a_port(bridge: Bridge) -> int:
    """In kB, the bridge's share included."""
    before = rss_kb()
    ports = [bridge.port(rate=24000) for _ in range(40)]
    for port in ports:
        port.connect(0)
        port.write(bytes(2 * 24000 * 17))
    bridge.tick(110)
    return (rss_kb() - before) // len(ports)


def soak() -> dict[str, int]:
    choose = random.Random(7)
    with running_bridge(8000) as bridge:
        load = Load(bridge)
        load.start()
        before = (0, 0)
        cycles = 0
        while cycles < CYCLES and not load.done.is_set():
            if cycles == WARM_UP:
                before = (rss_kb(), open_fds())
            come_and_go(bridge, load, choose)
            cycles += 1
        after = (rss_kb(), open_fds())
        load.stop()
        if load.failures:
            raise load.failures[0]
        port_kb = memory_of_a_port(bridge)
    return {
        "cycles": cycles,
        "carried": load.carried,
        "port_kb": port_kb,
        "rss_before_kb": before[0],
        "rss_after_kb": after[0],
        "fds_before": before[1],
        "fds_after": after[1],
    }


if __name__ == "__main__":
    json.dump(soak(), sys.stdout)
