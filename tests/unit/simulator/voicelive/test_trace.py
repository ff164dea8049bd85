"""The file of all messages."""

import stat
from pathlib import Path

from simulator.voicelive.trace import Trace


def test_a_line_says_when_which_session_which_way_and_what(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    with Trace(path) as trace:
        trace.write(1_700_000_000_000_000_000, b"sess_a", b"in", b'{"type": "x"}')
        trace.write(1_700_000_000_000_000_001, b"sess_b", b"out", b"{}")
    assert path.read_bytes() == (b'1700000000000000000 sess_a in {"type": "x"}\n1700000000000000001 sess_b out {}\n')


def test_a_message_stays_on_its_line(tmp_path: Path) -> None:
    with Trace(tmp_path / "trace") as trace:
        trace.write(1, b"sess_a", b"in", b'{\n"type":\n"x"}')
    assert (tmp_path / "trace").read_bytes() == b'1 sess_a in { "type": "x"}\n'


def test_lines_are_appended_and_for_the_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    for at in (1, 2):
        with Trace(path) as trace:
            trace.write(at, b"sess_a", b"in", b"{}")
    assert path.read_bytes() == b"1 sess_a in {}\n2 sess_a in {}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
