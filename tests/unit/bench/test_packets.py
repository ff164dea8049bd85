"""Analysis of packet records, on records made by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.load.packets import (
    OPENS,
    RECEIVED,
    RECORD,
    Capture,
    Packets,
    Records,
    between,
    lost,
    percentiles,
    spacing_ms,
)

MS = 1_000_000


def received(**fields: list[int]) -> Records:
    """Records of packets of call 1 that arrived every 20 ms, where nothing else is said."""
    count = len(next(iter(fields.values())))
    records = np.zeros(count, RECORD)
    values: dict[str, Any] = {
        "time_ns": np.arange(count) * 20 * MS,
        "call": 1,
        "length": 160,
        "kind": RECEIVED,
        "sequence": np.arange(count),
        **fields,
    }
    for name, value in values.items():
        records[name] = value
    return records


def test_records_are_told_apart_by_call_and_direction(tmp_path: Path) -> None:
    received(call=[1, 2, 1, 1], kind=[RECEIVED, RECEIVED | OPENS, 0, RECEIVED]).tofile(tmp_path / "packets")

    packets = Packets.load(tmp_path / "packets")

    assert packets.received()["call"].tolist() == [1, 2, 1]
    assert packets.received(1)["sequence"].tolist() == [0, 3]
    assert packets.sent(1)["sequence"].tolist() == [2]
    assert len(packets.sent(2)) == 0


def test_spacing_is_between_packets_of_the_same_call() -> None:
    records = received(call=[1, 2, 1, 2], time_ns=[0, 5 * MS, 21 * MS, 24 * MS])

    assert sorted(spacing_ms(records)) == [19.0, 21.0]


def test_spacing_does_not_go_across_a_pause_of_recording_or_a_removal() -> None:
    records = received(time_ns=[0, 20 * MS, 900 * MS, 919 * MS], kind=[RECEIVED, RECEIVED, RECEIVED | OPENS, RECEIVED])

    assert spacing_ms(records).tolist() == [20.0, 19.0]


def test_nothing_received_has_no_spacing_and_nothing_lost() -> None:
    nothing = received(call=[])

    assert len(spacing_ms(nothing)) == 0
    assert lost(nothing) == 0
    with pytest.raises(ValueError, match="percentiles of nothing"):
        percentiles(spacing_ms(nothing))


@pytest.mark.parametrize(
    ("sequence", "missing"),
    [
        ([1, 2, 3], 0),
        ([1, 2, 5], 2),
        ([65534, 65535, 0, 1], 0),
        ([65534, 1], 2),
        ([1, 3, 2, 4], 0),
        ([1, 2, 2, 4], 1),
    ],
    ids=["none", "gap", "wraparound", "gap at the wraparound", "reordered", "twice the same"],
)
def test_missing_sequence_numbers_are_lost_packets(sequence: list[int], missing: int) -> None:
    assert lost(received(sequence=sequence)) == missing


def test_losses_of_calls_add_up_and_runs_are_not_compared() -> None:
    both = received(
        call=[1, 2, 1, 2, 2],
        sequence=[10, 500, 12, 501, 9000],
        kind=[RECEIVED, RECEIVED, RECEIVED, RECEIVED, RECEIVED | OPENS],
    )

    assert lost(both) == 1


def test_the_first_and_the_last_voiced_packet_are_found() -> None:
    packets = Packets(received(level=[900, 0, 8, 700, 600, 0, 500]))

    assert packets.first_voiced(1, after_ns=1) == 60 * MS
    assert packets.first_voiced(1, after_ns=1, level=650) == 60 * MS
    assert packets.first_voiced(1, after_ns=121 * MS) is None
    assert packets.last_voiced(1, after_ns=0, before_ns=120 * MS) == 80 * MS
    assert packets.last_voiced(1, after_ns=81 * MS, before_ns=120 * MS) is None
    assert packets.first_voiced(2, after_ns=0) is None


def test_a_window_holds_its_beginning_but_not_its_end() -> None:
    window = between(received(call=[1, 1, 1, 1]), 20 * MS, 60 * MS)

    assert window["sequence"].tolist() == [1, 2]


def test_percentiles_are_named() -> None:
    expected = {"p50": 500, "p90": 900, "p95": 950, "p99": 990, "p99.9": 999, "max": 1000}
    assert percentiles(np.arange(1001)) == pytest.approx(expected)


def captured(tmp_path: Path, records: Records, payloads: list[bytes]) -> Capture:
    file = tmp_path / "capture"
    file.write_bytes(b"".join(record.tobytes() + payload for record, payload in zip(records, payloads, strict=True)))
    return Capture.load(file)


def test_a_captured_stream_is_laid_out_by_timestamp_with_its_gaps(tmp_path: Path) -> None:
    wrapped = 2**32
    records = received(
        timestamp=[wrapped - 2, 6, 2, 4],  # the packet at 0 was lost, the last ones came in the wrong order
        length=[2, 2, 2, 2],
        kind=[RECEIVED, RECEIVED, RECEIVED, 0],
    )

    capture = captured(tmp_path, records, [b"\x80\x80", b"\x00\x00", b"\xff\xff", b"\x80\x00"])
    stream = capture.received()

    assert stream.samples.tolist() == [32124, 32124, 0, 0, 0, 0, 0, 0, -32124, -32124]
    assert stream.arrived.tolist() == [True] * 2 + [False] * 2 + [True] * 2 + [False] * 2 + [True] * 2
    assert capture.sent().samples.tolist() == [32124, -32124]


def test_a_captured_stream_leaves_out_what_is_not_g711(tmp_path: Path) -> None:
    records = received(timestamp=[0, 2, 2], length=[2, 4, 2], marker_type=[0x88, 101, 8])

    stream = captured(tmp_path, records, [b"\xaa\xaa", b"\x01\x0a\x00\xa0", b"\x2a\x2a"]).received()

    assert stream.samples.tolist() == [32256, 32256, -32256, -32256]
    assert len(stream.records) == 2


def test_a_call_without_packets_is_an_empty_stream(tmp_path: Path) -> None:
    stream = captured(tmp_path, received(call=[]), []).received()

    assert len(stream.samples) == len(stream.arrived) == 0


def test_timestamps_that_jump_are_an_error(tmp_path: Path) -> None:
    records = received(timestamp=[0, 2**30], length=[2, 2])

    with pytest.raises(ValueError, match="timestamps span"):
        captured(tmp_path, records, [b"\xff\xff", b"\xff\xff"]).received()
