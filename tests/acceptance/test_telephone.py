"""The telephone as an instrument: against an echo that is not ours, it loses nothing and shifts nothing."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulator.phone.analysis import align, longest_gap_ms, resemblance
from simulator.phone.recording import read_tracks
from tests.acceptance.process import ROOT


@pytest.fixture
def echo(tmp_path: Path) -> Iterator[str]:
    """SIPp answers every call and sends each RTP packet back; its SIP URI."""
    sipp = shutil.which("sipp")
    assert sipp, "sipp is not installed: it is needed by the tests (Debian: apt install sip-tester)"
    sip_port, media_port = free_udp_port(), free_udp_port()
    command = [sipp, "-sn", "uas", "-rtp_echo", "-i", "127.0.0.1", "-p", str(sip_port), "-mi", "127.0.0.1",
               "-mp", str(media_port), "-nostdin"]  # fmt: skip
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        yield f"sip:echo@127.0.0.1:{sip_port}"
        process.send_signal(signal.SIGKILL)


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_what_is_said_into_an_echo_is_recorded_twice(echo: str, tmp_path: Path) -> None:
    options = ["--no-greeting", "--calls", "3", "--hangup-after", "3.5"]
    done = subprocess.run(
        [sys.executable, "-m", "simulator.phone", "call", echo, *options, "--record", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=tmp_path, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    for number in range(3):
        said, heard = read_tracks(tmp_path / f"call-{number}.wav")
        assert resemblance(said, heard) > 0.98
        assert longest_gap_ms(said, heard) <= 2.5
        assert 0 < align(said, heard).lag < 2400
