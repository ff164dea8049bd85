"""A conference bridge without SIP and without a clock: the test itself says when 20 ms have passed.

Does not touch the network. Only one can be open in a process at a time, because pjsua's state is global.
"""

import ctypes
import functools
import random
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
import pjaudioport
import pjsua2 as pj
from pjaudioport import AudioPort

Encoding = Literal["pcm16", "g711_ulaw", "g711_alaw"]
Samples = npt.NDArray[np.int16]

MAX_SLOTS = 120
DOWN_RING_MS = 16384


# The clock. In C because it has to run beside Python, not in turn with it: the tests for races would race with nobody.
CLOCK_SOURCE = """
#include <stddef.h>
#include <stdint.h>

struct frame { int type; void *buf; size_t size; uint64_t timestamp; uint32_t bit_info; }; /* pjmedia_frame */

int run_clock(int (*get_frame)(void *, struct frame *), void *master, void *buffer, size_t size, int ticks)
{
    int status = 0;
    while (!status && ticks-- > 0) {
        struct frame frame = {0, buffer, size, 0, 0};
        status = get_frame(master, &frame);
    }
    return status;
}
"""


class Bridge:
    """The bridge of the running endpoint, driven by `tick()`."""

    def __init__(self, rate: int, master: int) -> None:
        self.rate = rate
        self.frame = rate // 50
        """Samples of one tick."""
        self._buffer = ctypes.create_string_buffer(self.frame * 2)
        self._master = master
        self._get_frame = _loaded_library("libpjmedia").pjmedia_port_get_frame
        self._run_clock = _compiled_clock()
        self._ports: list[AudioPort] = []

    def tick(self, count: int = 1) -> None:
        """Let `count` frames of 20 ms pass; the GIL is released meanwhile."""
        assert self._run_clock(self._get_frame, self._master, self._buffer, self.frame * 2, count) == 0

    def port(self, encoding: Encoding = "pcm16", rate: int | None = None, wake_ms: int = 20) -> AudioPort:
        """A port that is closed after the test."""
        port = AudioPort(bridge_rate=self.rate, encoding=encoding, rate=rate or self.rate, wake_ms=wake_ms)
        self._ports.append(port)
        return port

    def pair(self, speaker: AudioPort, listener: AudioPort) -> None:
        """Connect two ports to each other, each being the other's call."""
        speaker.connect(listener.slot)
        listener.connect(speaker.slot)

    def carry(self, audio: bytes, speaker: AudioPort, listener: AudioPort) -> bytes:
        """What the listener hears while the whole of `audio` is played, silence included that fills the last tick."""
        self.pair(speaker, listener)
        taken = 0
        heard = bytearray()
        while taken < len(audio):
            taken += speaker.write(audio[taken:])
            if taken == len(audio):
                speaker.finish()
            while speaker.counters().queued:
                self.tick()
                heard += listener.read()
        return bytes(heard)

    def clear(self) -> None:
        """Close all ports and let them go."""
        for port in self._ports:
            port.close()
        self._ports.clear()
        self.tick()
        pjaudioport.take_ready()


@contextmanager
def running_bridge(rate: int) -> Iterator[Bridge]:
    """An endpoint with a bridge at `rate` Hz."""
    endpoint = pj.Endpoint()
    endpoint.libCreate()
    endpoint.libInit(endpoint_config(rate))
    endpoint.libStart()
    master = int(endpoint.audDevManager().setNoDev())  # pjmedia_port of slot 0, to be pulled by whoever is the clock
    bridge = Bridge(rate, master)
    try:
        yield bridge
    finally:
        bridge.clear()
        endpoint.libDestroy(pj.PJSUA_DESTROY_NO_NETWORK)


def endpoint_config(rate: int) -> pj.EpConfig:
    """No SIP threads, no media threads, next to no log."""
    config = pj.EpConfig()
    config.logConfig.level = config.logConfig.consoleLevel = 1
    config.uaConfig.threadCnt = 0
    config.uaConfig.maxCalls = 4
    config.medConfig.clockRate = rate
    config.medConfig.maxMediaPorts = MAX_SLOTS
    config.medConfig.sndAutoCloseTime = -1
    config.medConfig.hasIoqueue = False
    config.medConfig.threadCnt = 0
    config.medConfig.noVad = True
    return config


def noise(byte_count: int, seed: int = 1) -> bytes:
    """Random bytes that are valid in every encoding; without G.711's second zero, which comes back as the first."""
    return random.Random(seed).randbytes(byte_count).replace(b"\x7f", b"\x7e")


def samples(audio: bytes) -> Samples:
    """pcm16 bytes as numbers."""
    return np.frombuffer(audio, np.int16)


def register_thread() -> None:
    """Make the calling thread known to pjlib, as a thread that ticks must be. Only once for each thread."""
    pj.Endpoint.instance().libRegisterThread("clock")


@functools.cache
def _compiled_clock() -> Callable[..., int]:
    with tempfile.TemporaryDirectory() as directory:
        library = f"{directory}/clock.so"
        command = ["gcc", "-O2", "-shared", "-fPIC", "-xc", "-", "-o", library]
        subprocess.run(command, input=CLOCK_SOURCE, text=True, check=True)
        run_clock = ctypes.CDLL(library).run_clock
    run_clock.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int]
    return cast(Callable[..., int], run_clock)


def _loaded_library(name: str) -> ctypes.CDLL:
    with open("/proc/self/maps") as maps:
        return ctypes.CDLL(next(line.split()[-1] for line in maps if f"/{name}.so" in line))
