"""What the RTP load tool has noted: spacing, loss, when speech began and ended, and the audio of a captured call.

Pure functions over numpy arrays; times are CLOCK_REALTIME nanoseconds. It does not know what the times are compared
with.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.load.clips import PCMA, PCMU, Samples, decode

RECORD = np.dtype(
    [
        ("time_ns", "<i8"),  # the kernel's receive time, or just before the sending call
        ("call", "<u4"),
        ("timestamp", "<u4"),  # of RTP
        ("sequence", "<u2"),
        ("level", "<u2"),  # mean absolute amplitude in int16 units; 0 if the payload is not G.711
        ("length", "<u2"),  # bytes of payload
        ("kind", "u1"),  # bits
        ("marker_type", "u1"),  # second byte of the RTP header: marker bit and payload type
    ]
)
"""One packet; the same in rtp.c."""

RECEIVED = 1
OPENS = 2
"""First of its call and direction since the call was added or recording was switched on."""

VOICED = 200
"""Level that silence and idle noise stay below (-44 dBFS) and every syllable is above."""

MAX_CAPTURE_SAMPLES = 8000 * 3600

Records = NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Packets:
    """All records of one run, in the order of sending and of arrival."""

    records: Records

    @classmethod
    def load(cls, path: Path) -> "Packets":
        """Returns what the tool wrote."""
        return cls(np.fromfile(path, RECORD))

    def received(self, call: int | None = None) -> Records:
        """Returns the packets that arrived, of one call or of all."""
        return self._of(RECEIVED, call)

    def sent(self, call: int | None = None) -> Records:
        """Returns the packets that were sent, of one call or of all."""
        return self._of(0, call)

    def first_voiced(self, call: int, after_ns: int, level: int = VOICED) -> int | None:
        """Returns when the first packet above `level` arrived at or after a time; None if none did."""
        times = self._voiced(call, level)
        later = times[times >= after_ns]
        return int(later[0]) if len(later) else None

    def last_voiced(self, call: int, after_ns: int, before_ns: int, level: int = VOICED) -> int | None:
        """Returns when the last packet above `level` arrived from `after_ns` on and before `before_ns`, or None."""
        times = self._voiced(call, level)
        between = times[(times >= after_ns) & (times < before_ns)]
        return int(between[-1]) if len(between) else None

    def _of(self, direction: int, call: int | None) -> Records:
        wanted = self.records["kind"] & RECEIVED == direction
        if call is not None:
            wanted &= self.records["call"] == call
        return np.asarray(self.records[wanted])

    def _voiced(self, call: int, level: int) -> NDArray[np.int64]:
        received = self.received(call)
        return np.asarray(received["time_ns"][received["level"] > level], dtype=np.int64)


def between(records: Records, begin_ns: int, end_ns: int) -> Records:
    """Returns the records from `begin_ns` on and before `end_ns`."""
    return records[(records["time_ns"] >= begin_ns) & (records["time_ns"] < end_ns)]


def spacing_ms(records: Records) -> NDArray[np.float64]:
    """Returns the times between consecutive packets of the same call, all calls together, of one direction's records.

    No spacing goes across a call's removal or a time when recording was off.
    """
    times = [np.diff(run["time_ns"]) for run in _runs(records)]
    return np.concatenate(times) / 1e6 if times else np.empty(0)


def lost(records: Records) -> int:
    """Returns how many sequence numbers are missing in one direction's records, packets out of order not counted."""
    missing = 0
    for run in _runs(records):
        steps = np.diff(run["sequence"]).astype(np.int16)  # 16 bits wrap around; so a step is the shorter way
        extended = np.concatenate([[0], np.cumsum(steps, dtype=np.int64)])
        missing += int(np.ptp(extended)) + 1 - len(np.unique(extended))
    return missing


def percentiles(values: NDArray[Any]) -> dict[str, float]:
    """Returns p50, p90, p95, p99, p99.9 and the greatest of the values; raises ValueError when there are none."""
    if not len(values):
        raise ValueError("percentiles of nothing")
    asked = {"p50": 50, "p90": 90, "p95": 95, "p99": 99, "p99.9": 99.9, "max": 100}
    return dict(zip(asked, map(float, np.percentile(values, list(asked.values()))), strict=True))


@dataclass(frozen=True, slots=True)
class Stream:
    """One direction of a captured call, laid out by RTP timestamp."""

    samples: Samples
    """At 8 kHz; 0 where nothing arrived."""
    arrived: NDArray[np.bool_]
    """For each sample whether a packet held it."""
    records: Records
    """Its packets in order of time, those that are not G.711 left out."""


@dataclass(frozen=True, slots=True)
class Capture:
    """What was kept of one call: records and their payloads, both directions, in order of time."""

    records: Records
    payloads: tuple[bytes, ...]

    @classmethod
    def load(cls, path: Path) -> "Capture":
        """Returns what the tool wrote for a call that has been removed."""
        packets = list(_captured(path.read_bytes()))
        return cls(np.array([record for record, _ in packets], RECORD), tuple(payload for _, payload in packets))

    def received(self) -> Stream:
        """Returns what the call's other end was heard to say; raises ValueError as `sent` does."""
        return self._stream(RECEIVED)

    def sent(self) -> Stream:
        """Returns what was said to the call's other end; raises ValueError when the timestamps span over an hour."""
        return self._stream(0)

    def _stream(self, direction: int) -> Stream:
        types = self.records["marker_type"] & 0x7F
        wanted = (self.records["kind"] & RECEIVED == direction) & ((types == PCMU) | (types == PCMA))
        records = self.records[wanted]
        if not len(records):
            return Stream(np.empty(0, np.int16), np.empty(0, np.bool_), records)
        steps = np.diff(records["timestamp"]).astype(np.int32)  # 32 bits wrap around
        begins = np.concatenate([[0], np.cumsum(steps, dtype=np.int64)])
        begins -= begins.min()
        length = int((begins + records["length"]).max())
        if length > MAX_CAPTURE_SAMPLES:
            raise ValueError(f"RTP timestamps span {length} samples: they jump")
        samples, arrived = np.zeros(length, np.int16), np.zeros(length, np.bool_)
        for index, begin in zip(np.flatnonzero(wanted), begins, strict=True):
            heard = decode(self.payloads[index], int(types[index]))
            samples[begin : begin + len(heard)] = heard
            arrived[begin : begin + len(heard)] = True
        return Stream(samples, arrived, records)


def _runs(records: Records) -> Iterator[Records]:
    """Yields the records of each call, split where a run of packets begins anew."""
    if not len(records):
        return
    ordered = records[np.argsort(records["call"], kind="stable")]
    begins = (ordered["kind"][1:] & OPENS != 0) | (np.diff(ordered["call"]) != 0)
    yield from np.split(ordered, np.flatnonzero(begins) + 1)


def _captured(data: bytes) -> Iterator[tuple[np.void, bytes]]:
    position = 0
    while position < len(data):
        record = np.frombuffer(data, RECORD, count=1, offset=position)[0]
        begin = position + RECORD.itemsize
        position = begin + int(record["length"])
        yield record, data[begin:position]
